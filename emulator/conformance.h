// Conformance of primitives: small kernels, their input, and their output by the tables of the PTX ISA, written down
// here apart from both bodies of a primitive. The emulator is held to them in every legal execution (tests/emulator),
// a GPU to them and to the emulator (`tilewright devices --conformance`): the kernels and the emulator share one
// reading of the ISA, and only the GPU shows whether it is NVIDIA's.
#pragma once

#include <cstdint>
#include <functional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "runtime/cuda/cuda_device.h"

namespace tilewright {

struct ConformanceCase {
  /// A tensor map over the input or the output, with the 128-byte swizzle. Elements of 2 bytes, dense.
  struct Map {
    bool over_output = false;
    std::vector<int64_t> extents;  ///< innermost first
    std::vector<int64_t> box;
  };

  std::string name;
  CudaPrimitives primitives = CudaPrimitives::base;
  /// Statements of the kernel: `in` and `out` are u32 pointers to input and output words, `t` the thread's index,
  /// `base` the start of shared memory, maps are map0, map1, …
  std::string body;
  std::vector<Map> maps;
  std::string before;  ///< text before the kernel
  int64_t threads = 32;
  int64_t shared_bytes = 0;
  std::function<std::vector<uint32_t>(uint32_t seed)> input;
  size_t output_words = 0;  ///< they start as zeros
  std::function<std::vector<uint32_t>(const std::vector<uint32_t>& input)> expected;
  /// Of f32 outputs, relative, and absolute below one; 0: the same bits, any NaN for a NaN.
  float tolerance = 0;
  friend void PrintTo(const ConformanceCase& one, std::ostream* out) { *out << one.name; }
};

/// All that the primitives of every level do.
const std::vector<ConformanceCase>& conformance_cases();
/// Those that the architecture has primitives for.
bool applies(const ConformanceCase& one, const CudaTarget& target);
/// The kernel's text, symbol "kernel"; Args holds two tensors: input, output.
CudaSource conformance_source(const ConformanceCase& one);

/// The output words of the kernel on a device.
Result<std::vector<uint32_t>> run_conformance(const ConformanceCase& one, const CudaDevice& device,
                                              std::span<const uint32_t> input);
/// Empty, or the first of `words` that is not `wanted`; `who` wants it.
std::string compare_conformance(const ConformanceCase& one, std::span<const uint32_t> words,
                                std::span<const uint32_t> wanted, const std::string& who);
/// Holds a device to the emulator and to the tables on one input: empty, or one sentence.
std::string check_conformance(const ConformanceCase& one, const CudaDevice& device, const CudaDevice& emulator,
                              uint32_t seed);

}  // namespace tilewright
