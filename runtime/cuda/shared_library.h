// A library opened while the program runs. It stays open: CUDA's libraries keep threads and exit handlers.
#pragma once

#include <string>
#include <vector>

#include "ir/result.h"

namespace tilewright {

class SharedLibrary {
 public:
  /// `name` is a path, or a bare file name that the loader searches for. Errors: what the loader says.
  static Result<SharedLibrary> open(const std::string& name);
  void* find(const char* symbol) const;
  /// The file that was opened, as far as `symbol`'s address tells; what was asked for otherwise.
  std::string file_of(void* symbol) const;

 private:
  SharedLibrary(void* handle, std::string name) : handle_(handle), name_(std::move(name)) {}
  void* handle_;
  std::string name_;
};

/// Fills one function pointer per row of an API's table (nvrtc_api.h, driver_api.h); a name that the library lacks is
/// added to `missing`.
template <class Function>
void find_function(const SharedLibrary& library, const char* name, Function*& function,
                   std::vector<std::string>& missing) {
  function = reinterpret_cast<Function*>(library.find(name));
  if (!function) missing.emplace_back(name);
}

}  // namespace tilewright
