// Cubins between processes: NVRTC's output in the folder that CPU kernels are kept in.
#pragma once

#include <optional>

#include "runtime/cache_writer.h"
#include "runtime/cuda/compile_cuda.h"

namespace tilewright {

/// Everything that a cubin depends on: the text, the compute capability, the versions of NVRTC and of the driver.
std::string cubin_key(const std::string& text, const CudaTarget& target, const Nvrtc& compiler, int driver_version);

std::string encode_binary(const CudaBinary& binary);
/// Nothing when the bytes are not what encode_binary makes.
std::optional<CudaBinary> decode_binary(std::string_view bytes);

/// The text's cubin from `cache`, else compiled and stored there in the background. `cache` may be null.
/// `driver_version` is 0 where nothing is loaded.
Result<CudaBinary> find_or_compile(const std::string& text, const CudaTarget& target, const Nvrtc& compiler,
                                   int driver_version, CacheWriter* cache);

}  // namespace tilewright
