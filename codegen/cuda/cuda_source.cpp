#include "codegen/cuda/cuda_source.h"

#include <algorithm>

#include "codegen/cuda/device_files.h"
#include "ir/result.h"

namespace tilewright {

extern const char kCudaSourceHash[];  // written by codegen/source_hash.cmake

std::string_view cuda_source_hash() { return kCudaSourceHash; }

std::string_view device_file(std::string_view name) {
  const std::span<const DeviceFile> files = device_files();
  const auto found =
      std::find_if(files.begin(), files.end(), [&](const DeviceFile& file) { return file.name == name; });
  TW_CHECK(found != files.end());
  return found->text;
}

std::string nvrtc_text(const CudaSource& source) {
  std::string text(device_file("types.cuh"));
  text += device_file("primitives/base.cuh");
  text += device_file("primitives/math.cuh");
  if (source.primitives >= CudaPrimitives::sm80) text += device_file("primitives/sm80.cuh");
  if (source.primitives >= CudaPrimitives::sm90) text += device_file("primitives/sm90.cuh");
  for (const std::string& part : source.parts) text += part;
  return text;
}

}  // namespace tilewright
