// struct Variant: everything that a template knows of a spec, as static device functions (docs/gpu.md).
#pragma once

#include <string>

#include "codegen/cuda/device_names.h"
#include "ir/tile_program.h"

namespace tilewright::cuda {

/// "struct Variant { … };" `names` collects what it reads.
std::string write_variant(DeviceNames& names, const TileProgram& program);

/// Args, its accessors and Variant, with what they need before them (random bits where they are drawn): one part of a
/// CudaSource, after math.cuh.
std::string write_attention_text(const TileProgram& program);

/// Does the text of these expressions call random_bits?
bool draws_random(const Expr& expr);
/// Philox and its constants.
std::string random_text();

/// Named constants and functions, one a line: "  static constexpr int kHeadDim = 64;".
std::string constant_line(std::string_view type, std::string_view name, std::string_view value);

}  // namespace tilewright::cuda
