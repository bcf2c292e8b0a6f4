#include "runtime/cuda/shared_library.h"

#include <dlfcn.h>

namespace tilewright {

Result<SharedLibrary> SharedLibrary::open(const std::string& name) {
  // Local: symbols of a second copy that the host has loaded do not mix with ours.
  void* handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle) return SharedLibrary(handle, name);
  const char* why = dlerror();
  return Diagnostic{ErrorKind::io, why ? why : name + ": could not be opened", {}, 0};
}

void* SharedLibrary::find(const char* symbol) const { return dlsym(handle_, symbol); }

std::string SharedLibrary::file_of(void* symbol) const {
  Dl_info where{};
  return dladdr(symbol, &where) != 0 && where.dli_fname ? where.dli_fname : name_;
}

}  // namespace tilewright
