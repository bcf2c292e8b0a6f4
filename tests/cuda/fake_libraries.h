// Stand-ins for libcuda and NVRTC, which lie beside the test executable and are opened as the real ones are.
#pragma once

#include <dlfcn.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/cuda/driver.h"
#include "tests/cuda/fake_driver.h"

namespace tilewright::testing {

/// "libfake_cuda.so" → its path.
inline std::string fake_library(const std::string& file) {
  return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / file).string();
}

inline FakeDriver& the_fake_driver() {
  static FakeDriver* const fake = [] {
    void* library = dlopen(fake_library("libfake_cuda.so").c_str(), RTLD_NOW | RTLD_LOCAL);
    auto* get = library ? reinterpret_cast<decltype(&fake_driver)>(dlsym(library, "fake_driver")) : nullptr;
    if (!get) {
      ADD_FAILURE() << dlerror();
      std::abort();
    }
    return get();
  }();
  return *fake;
}

/// As when nothing was set and nothing happened; memory that was allocated stays.
inline void reset_fake_driver() {
  FakeDriver fresh;
  fresh.memory = the_fake_driver().memory;
  fresh.modules = the_fake_driver().modules;
  fresh.events = the_fake_driver().events;
  the_fake_driver() = fresh;
}

inline Result<CudaDriver> load_fake_driver() {
  const std::string candidates[] = {fake_library("libfake_cuda.so")};
  return CudaDriver::load(candidates);
}

}  // namespace tilewright::testing
