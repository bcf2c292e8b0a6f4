// The files of emulator/device as they were at build time.
#pragma once

#include <span>

#include "codegen/cuda/device_files.h"

namespace tilewright {

std::span<const DeviceFile> emulated_device_files();

}  // namespace tilewright
