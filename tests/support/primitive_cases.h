// What every primitive must do, as data: a kernel, its input, and the output by the tables of the PTX ISA, written down
// here apart from both bodies. (Whether NVIDIA's hardware agrees is asked by `tilewright conformance`, which compares
// it with the emulator on the cases of emulator/conformance_cases.cpp.)
#pragma once

#include <cstdint>
#include <functional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "codegen/cuda/cuda_source.h"

namespace tilewright::testing {

/// A tensor map over the input (or the output) of a case, with the 128-byte swizzle. Elements of 2 bytes, dense.
struct PrimitiveMap {
  bool over_output = false;
  std::vector<int64_t> extents;  ///< innermost first
  std::vector<int64_t> box;
};

struct PrimitiveCase {
  std::string name;
  CudaPrimitives primitives = CudaPrimitives::base;
  /// Body of `kernel`: `in` and `out` are u32 pointers, t the thread, base the start of shared memory; map0, map1.
  std::string body;
  std::vector<PrimitiveMap> maps;
  std::string before;  ///< text before the kernel
  int64_t threads = 32;
  int64_t shared_bytes = 0;
  std::function<std::vector<uint32_t>(uint32_t seed)> input;
  size_t output_words = 0;  ///< they start as zeros
  std::function<std::vector<uint32_t>(const std::vector<uint32_t>& input)> expected;
  /// Of f32 outputs, relative, and absolute below one; 0: the same bits, any NaN for a NaN.
  float tolerance = 0;
  friend void PrintTo(const PrimitiveCase& one, std::ostream* out) { *out << one.name; }
};

/// All that the primitives of a level add.
std::vector<PrimitiveCase> primitive_cases();
/// The kernel's text, symbol "kernel"; Args holds two tensors: input, output.
CudaSource primitive_source(const PrimitiveCase& one);
/// Empty, or the first word that differs.
std::string primitive_difference(const PrimitiveCase& one, std::span<const uint32_t> input,
                                 std::span<const uint32_t> output);

}  // namespace tilewright::testing
