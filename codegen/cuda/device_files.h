// The device files as they were at build time; the list is made by embed.cmake.
#pragma once

#include <span>
#include <string_view>

namespace tilewright {

struct DeviceFile {
  std::string_view name;  ///< under codegen/cuda/device/
  std::string_view text;
};
std::span<const DeviceFile> device_files();

}  // namespace tilewright
