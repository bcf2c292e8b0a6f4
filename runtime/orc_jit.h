// Object code → callable memory, through JITLink. Pages are writable while linking and executable after, never both.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ir/result.h"

namespace tilewright {

/// Linked code. Immutable; symbols stay callable as long as a shared_ptr to it lives, whatever else is gone.
class JitCode {
 public:
  /// Links relocatable objects with each other. Errors: bytes that are no object, symbols that none of them defines.
  static Result<std::shared_ptr<const JitCode>> load(std::span<const std::vector<char>> objects);
  static Result<std::shared_ptr<const JitCode>> load(const std::vector<char>& object);
  ~JitCode();
  JitCode(const JitCode&) = delete;
  JitCode& operator=(const JitCode&) = delete;

  /// Address of a function with external linkage; null when there is none of that name. Thread-safe.
  void* find(const std::string& symbol) const;
  template <class Function>
  Function find_as(const std::string& symbol) const {
    return reinterpret_cast<Function>(find(symbol));
  }

 private:
  struct State;
  explicit JitCode(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tilewright
