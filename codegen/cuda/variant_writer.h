// struct Variant: everything that a template knows of a spec, as static device functions (docs/gpu.md).
#pragma once

#include <functional>
#include <string>

#include "codegen/cuda/device_names.h"
#include "ir/tile_program.h"

namespace tilewright::cuda {

/// "struct Variant { … };" `names` collects what it reads. Rows are where `program` has them; their elements, which
/// may be computed, are those of `step`.
std::string write_variant(DeviceNames& names, const TileProgram& program, const AttentionSpec& step);

/// Args, its accessors and Variant, with what they need before them (random bits where they are drawn): one part of a
/// CudaSource, after math.cuh. `step` is what Args holds. `more`, where given, writes what follows Variant.
std::string write_attention_text(const TileProgram& program, const AttentionSpec& step,
                                 const std::function<std::string(DeviceNames&)>& more = nullptr);

}  // namespace tilewright::cuda
