// The C++ compiler of this machine, run as a process, that makes a shared object of kernel text.
#pragma once

#include <string>
#include <vector>

#include "ir/result.h"

namespace tilewright {

class CxxCompiler {
 public:
  /// `command` (a program and flags, separated by spaces), else the first that answers of clang++-19, c++, g++,
  /// clang++. Errors: one sentence that says what was tried and what to do.
  static Result<CxxCompiler> find(const std::string& command);

  /// The program and the first line that it says about its version.
  const std::string& description() const { return description_; }
  bool is_clang() const { return description_.find("clang") != std::string::npos; }
  /// The shared object's bytes. Errors: the compiler's first complaint, one sentence.
  Result<std::string> build(const std::string& text, const std::vector<std::string>& flags) const;

 private:
  std::vector<std::string> command_;
  std::string description_;
};

}  // namespace tilewright
