// Conformance of primitives: small kernels whose results tell the PTX body and the emulated body of a primitive apart.
// The emulator and the kernels share one reading of the PTX ISA; run on a GPU, these show whether it is NVIDIA's.
#pragma once

#include <string>
#include <vector>

#include "runtime/cuda/cuda_device.h"

namespace tilewright {

struct ConformanceCase {
  std::string name;
  CudaPrimitives primitives = CudaPrimitives::base;
  /// Statements of the kernel: `in` and `out` are u32 pointers to input and output words, `t` the thread's index, maps
  /// are map0, map1, …
  std::string body;
  std::string before;  ///< text before the kernel
  int64_t threads = 32, shared_bytes = 0, output_words = 32;
  /// Words of the input are 32 random bits, or finite floats about N(0,1), or pairs of bf16 about N(0,1).
  enum class Input : uint8_t { bits, floats, pairs } input = Input::bits;
  /// Largest difference of outputs, as floats, relative to 1 + their size; 0: the same bits.
  double tolerance = 0;
  /// Over the input as bf16 [rows][64]: elements per axis and box, innermost first. `store` maps lie over the output.
  struct Map {
    std::vector<int64_t> sizes, box;
    bool store = false;
  };
  std::vector<Map> maps;
};
const std::vector<ConformanceCase>& conformance_cases();
/// Those that the architecture has primitives for.
bool applies(const ConformanceCase& test, const CudaTarget& target);

/// The output words of the kernel on a device. The input is made of `seed`.
Result<std::vector<uint32_t>> run_conformance(const ConformanceCase& test, const CudaDevice& device, uint64_t seed);
/// Empty when the outputs agree as the case wants, else one sentence.
std::string compare_conformance(const ConformanceCase& test, const std::vector<uint32_t>& emulated,
                                const std::vector<uint32_t>& found);
/// What NVRTC or the emulator gets.
CudaSource conformance_source(const ConformanceCase& test);

}  // namespace tilewright
