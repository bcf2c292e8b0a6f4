// Result<T>: a value, or the diagnostics that say why there is none. CHECK: our own broken invariants.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace tilewright {

/// "unsupported" is not "wrong": an invalid graph is the caller's mistake, an unsupported one is our limit.
enum class ErrorKind { invalid, unsupported, io };

/// One complaint: a sentence that names the value, what was found and what would do.
struct Diagnostic {
  ErrorKind kind = ErrorKind::invalid;
  std::string message;
  std::string value;  ///< name of the offending value without '%', empty when there is none
  int line = 0;       ///< 1-based line in the source text, 0 when built in memory
};

/// "line 4: %s: message" with the parts that exist.
std::string to_string(const Diagnostic& diagnostic);

struct Diagnostics {
  std::vector<Diagnostic> list;

  bool empty() const { return list.empty(); }
  template <class... Args>
  void error(fmt::format_string<Args...> text, Args&&... args) {
    list.push_back({ErrorKind::invalid, fmt::format(text, std::forward<Args>(args)...), {}, 0});
  }
  void add(Diagnostic d) { list.push_back(std::move(d)); }
};

/// All diagnostics, one a line.
std::string to_string(const Diagnostics& diagnostics);

/// Success marker for functions that return nothing else.
struct Done {};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}                      // NOLINT(google-explicit-constructor)
  Result(Diagnostics why) : state_(std::move(why)) {}                // NOLINT(google-explicit-constructor)
  Result(Diagnostic why) : state_(Diagnostics{{std::move(why)}}) {}  // NOLINT(google-explicit-constructor)

  explicit operator bool() const { return std::holds_alternative<T>(state_); }
  bool ok() const { return std::holds_alternative<T>(state_); }
  T& operator*() { return std::get<T>(state_); }
  const T& operator*() const { return std::get<T>(state_); }
  T* operator->() { return &std::get<T>(state_); }
  const T* operator->() const { return &std::get<T>(state_); }
  const Diagnostics& error() const { return std::get<Diagnostics>(state_); }

 private:
  std::variant<T, Diagnostics> state_;
};

template <class... Args>
Diagnostic invalid(fmt::format_string<Args...> text, Args&&... args) {
  return {ErrorKind::invalid, fmt::format(text, std::forward<Args>(args)...), {}, 0};
}
template <class... Args>
Diagnostic unsupported(fmt::format_string<Args...> text, Args&&... args) {
  return {ErrorKind::unsupported, fmt::format(text, std::forward<Args>(args)...), {}, 0};
}

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

/// For invariants of ours only; never for what a caller can get wrong.
#define TW_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::tilewright::check_failed(#condition, __FILE__, __LINE__))

}  // namespace tilewright
