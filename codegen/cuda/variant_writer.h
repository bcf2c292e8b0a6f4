// struct Variant: everything that a template knows of a spec, as static device functions (docs/gpu.md).
#pragma once

#include <functional>
#include <string>

#include "codegen/cuda/device_names.h"
#include "ir/tile_program.h"

namespace tilewright::cuda {

/// "struct Variant { … };" `names` collects what it reads.
std::string write_variant(DeviceNames& names, const TileProgram& program);

/// Args, its accessors and Variant, with what they need before them (random bits where they are drawn): one part of a
/// CudaSource, after math.cuh. `more`, where given, writes what follows Variant.
std::string write_attention_text(const TileProgram& program,
                                 const std::function<std::string(DeviceNames&)>& more = nullptr);

}  // namespace tilewright::cuda
