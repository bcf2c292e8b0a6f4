#include "runtime/cuda/nvrtc.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "runtime/cuda/driver.h"
#include "runtime/cuda/shared_library.h"
#include "runtime/options.h"

namespace tilewright {
namespace {

namespace fs = std::filesystem;

std::string file_name(int version) { return fmt::format("libnvrtc.so.{}", version); }

/// pip installs nvidia-cuda-nvrtc (13) and nvidia-cuda-nvrtc-cu12 into folders of their own.
void add_wheels(const std::string& prefix, std::span<const int> versions, std::vector<std::string>& out) {
  std::vector<fs::path> packages;
  std::error_code error;
  for (const char* lib : {"lib", "lib64", "local/lib"}) {
    for (const auto& entry : fs::directory_iterator(fs::path(prefix) / lib, error)) {
      if (!entry.path().filename().string().starts_with("python3")) continue;
      for (const char* folder : {"site-packages", "dist-packages"})
        if (fs::is_directory(entry.path() / folder / "nvidia", error)) packages.push_back(entry.path() / folder);
    }
  }
  std::sort(packages.begin(), packages.end());
  for (const fs::path& folder : packages)
    for (const int version : versions)
      for (const std::string& package : {fmt::format("cu{}", version), std::string("cuda_nvrtc")})
        if (const fs::path file = folder / "nvidia" / package / "lib" / file_name(version); fs::exists(file, error))
          out.push_back(file.string());
}

/// NVRTC opens its device functions by soname at the first compile; opened here by path, they are found whatever the
/// search path says.
std::string open_builtins(const std::string& nvrtc_file, int major, int minor) {
  const fs::path folder = fs::path(nvrtc_file).parent_path();
  const std::string file = (folder / fmt::format("libnvrtc-builtins.so.{}.{}", major, minor)).string();
  return SharedLibrary::open(file) ? file : std::string();
}

std::string join(std::span<const std::string> parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

void add_places(const std::string& cuda_home, std::span<const std::string> python_prefixes,
                std::span<const int> versions, std::vector<std::string>& out) {
  const auto add_toolkit = [&](const std::string& folder) {
    for (const int version : versions)
      for (const char* lib : {"lib64", "lib", "targets/x86_64-linux/lib"})
        out.push_back(fmt::format("{}/{}/{}", folder, lib, file_name(version)));
  };
  if (!cuda_home.empty()) add_toolkit(cuda_home);
  for (const int version : versions) out.push_back(file_name(version));
  if (cuda_home != "/usr/local/cuda") add_toolkit("/usr/local/cuda");
  for (const std::string& prefix : python_prefixes) add_wheels(prefix, versions, out);
}

}  // namespace

std::vector<std::string> nvrtc_candidates(const std::string& cuda_home, std::span<const std::string> python_prefixes,
                                          int driver_major) {
  constexpr int kVersions[] = {13, 12};
  std::vector<std::string> out;
  if (driver_major >= kVersions[0]) {
    add_places(cuda_home, python_prefixes, kVersions, out);
  } else {
    for (const int version : {12, 13}) add_places(cuda_home, python_prefixes, std::array{version}, out);
  }
  return out;
}

Result<Nvrtc> Nvrtc::load(std::span<const std::string> candidates) {
  std::string unusable;  // opened, and no NVRTC that we know
  for (const std::string& candidate : candidates) {
    const auto library = SharedLibrary::open(candidate);
    if (!library) continue;
    Nvrtc found;
    std::vector<std::string> missing;
#define TILEWRIGHT_FIND(name, ...) find_function(*library, #name, found.api_.name, missing);
    TILEWRIGHT_NVRTC_FUNCTIONS(TILEWRIGHT_FIND)
#undef TILEWRIGHT_FIND
    int count = 0;
    if (!missing.empty()) {
      unusable += fmt::format("; {} lacks {}", candidate, missing.front());
      continue;
    }
    if (found.api_.nvrtcVersion(&found.major_, &found.minor_) != kNvrtcSuccess || found.major_ < 12 ||
        found.api_.nvrtcGetNumSupportedArchs(&count) != kNvrtcSuccess || count <= 0) {
      unusable += fmt::format("; {} is version {}.{}", candidate, found.major_, found.minor_);
      continue;
    }
    found.capabilities_.resize(static_cast<size_t>(count));
    found.api_.nvrtcGetSupportedArchs(found.capabilities_.data());
    found.file_ = library->file_of(reinterpret_cast<void*>(found.api_.nvrtcVersion));
    found.builtins_ = open_builtins(found.file_, found.major_, found.minor_);
    return found;
  }
  std::vector<std::string> folders;
  for (const std::string& candidate : candidates) {
    const std::string folder = fs::path(candidate).parent_path().string();
    const std::string place = folder.empty() ? "the loader's path" : folder;
    if (std::find(folders.begin(), folders.end(), place) == folders.end()) folders.push_back(place);
  }
  return unsupported(
      "NVRTC 12 or 13, which compiles GPU kernels, is not in {}{}: install the CUDA toolkit or pip's "
      "nvidia-cuda-nvrtc, or set CUDA_HOME to the toolkit's folder",
      join(folders), unusable);
}

Result<Done> Nvrtc::check(const CudaTarget& target) const {
  if (std::find(capabilities_.begin(), capabilities_.end(), target.capability) != capabilities_.end()) return Done{};
  std::vector<std::string> known;
  for (const int capability : capabilities_) known.push_back(fmt::format("sm_{}", capability));
  return unsupported(
      "NVRTC {} ({}) has no code generator for {}: it knows {}; another version of the CUDA toolkit, named by "
      "CUDA_HOME, "
      "may",
      version(), file_, target.architecture(), join(known));
}

const Result<Nvrtc>& nvrtc() {
  static const Result<Nvrtc> loaded = [] {
    const EnvironmentOptions& env = environment();
    const Result<CudaDriver>& driver = cuda_driver();
    const int driver_major = driver ? driver->version() / 1000 : 13;
    return Nvrtc::load(nvrtc_candidates(env.cuda_home, env.python_prefixes, driver_major));
  }();
  return loaded;
}

}  // namespace tilewright
