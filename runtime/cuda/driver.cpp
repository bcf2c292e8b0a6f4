#include "runtime/cuda/driver.h"

#include "runtime/cuda/shared_library.h"

namespace tilewright {
namespace {

constexpr const char* kWithout = "kernels run on the emulator meanwhile (--target cuda-emu)";

/// What cuInit says when there is no GPU to be had.
Diagnostic explain(const CudaDriver& driver, CuResult result) {
  switch (result) {
    case kCuStubLibrary:
      return unsupported(
          "{} is the toolkit's link stub, not a driver: install NVIDIA's driver or take the stubs folder off "
          "LD_LIBRARY_PATH; {}",
          driver.file(), kWithout);
    case kCuNoDevice: return unsupported("NVIDIA's driver ({}) sees no CUDA device; {}", driver.file(), kWithout);
    case kCuSystemDriverMismatch:
      return unsupported(
          "{} and the kernel module of NVIDIA's driver have different versions: reboot, or install one; {}",
          driver.file(), kWithout);
    case kCuCompatNotSupported:
      return unsupported(
          "{} is a forward-compatibility driver, which this device does not take: use the driver installed with the "
          "kernel module; {}",
          driver.file(), kWithout);
    default: {
      Diagnostic failed = driver.error("starting NVIDIA's driver (" + driver.file() + ")", result);
      failed.message += fmt::format("; {}", kWithout);
      return failed;
    }
  }
}

}  // namespace

std::string cuda_version_text(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

Diagnostic CudaDriver::error(const std::string& what, CuResult result) const {
  const char *name = nullptr, *text = nullptr;
  api_.cuGetErrorName(result, &name);
  api_.cuGetErrorString(result, &text);
  return unsupported("{} failed: {} ({}), {}", what, name ? name : "unknown error", result, text ? text : "no words");
}

Result<CudaDriver> CudaDriver::load(std::span<const std::string> candidates) {
  std::string why;  // names of files; the loader's words only where a file is there
  for (const std::string& candidate : candidates) {
    const auto library = SharedLibrary::open(candidate);
    if (!library) {
      const std::string& said = library.error().list.front().message;
      why += (why.empty() ? "" : ", ") + (said.ends_with("No such file or directory") ? candidate : said);
      continue;
    }
    CudaDriver found;
    std::vector<std::string> missing;
#define TILEWRIGHT_FIND(name, ...) find_function(*library, #name, found.api_.name, missing);
    TILEWRIGHT_DRIVER_FUNCTIONS(TILEWRIGHT_FIND)
#undef TILEWRIGHT_FIND
    found.file_ = library->file_of(library->find("cuInit"));
    if (!missing.empty())
      return unsupported("{} lacks {}: NVIDIA's driver 525 (CUDA 12.0) or newer is needed; {}", found.file_,
                         missing.front(), kWithout);
    if (const CuResult result = found.api_.cuInit(0); result != kCuSuccess) return explain(found, result);
    found.api_.cuDriverGetVersion(&found.version_);
    if (auto ok = found.read_devices(); !ok) return ok.error();
    return found;
  }
  return unsupported("there is no NVIDIA driver on this machine ({}); {}", why, kWithout);
}

Result<Done> CudaDriver::read_devices() {
  int count = 0;
  if (const CuResult result = api_.cuDeviceGetCount(&count); result != kCuSuccess)
    return error("counting CUDA devices", result);
  for (int ordinal = 0; ordinal < count; ++ordinal) {
    CuDevice device = 0;
    if (const CuResult result = api_.cuDeviceGet(&device, ordinal); result != kCuSuccess)
      return error(fmt::format("asking for CUDA device {}", ordinal), result);
    const auto attribute = [&](int which) {
      int value = 0;
      api_.cuDeviceGetAttribute(&value, which, device);
      return value;
    };
    char name[256] = {};
    api_.cuDeviceGetName(name, sizeof name - 1, device);
    CudaTarget target;
    target.capability = 10 * attribute(kCuDeviceCapabilityMajor) + attribute(kCuDeviceCapabilityMinor);
    target.architecture_specific = target.capability == 90;
    target.multiprocessors = attribute(kCuDeviceMultiprocessors);
    target.shared_bytes_per_block = attribute(kCuDeviceSharedPerBlockOptin);
    target.shared_bytes_per_multiprocessor = attribute(kCuDeviceSharedPerMultiprocessor);
    target.registers_per_multiprocessor = attribute(kCuDeviceRegistersPerMultiprocessor);
    target.l2_bytes = attribute(kCuDeviceL2Bytes);
    target.threads_per_multiprocessor = attribute(kCuDeviceThreadsPerMultiprocessor);
    target.blocks_per_multiprocessor = attribute(kCuDeviceBlocksPerMultiprocessor);
    size_t memory = 0;
    api_.cuDeviceTotalMem_v2(&memory, device);
    devices_.push_back({ordinal, device, name, target, static_cast<int64_t>(memory)});
  }
  return Done{};
}

const Result<CudaDriver>& cuda_driver() {
  static const Result<CudaDriver> loaded = [] {
    const std::string candidates[] = {"libcuda.so.1", "/usr/lib/wsl/lib/libcuda.so.1"};
    return CudaDriver::load(candidates);
  }();
  return loaded;
}

}  // namespace tilewright
