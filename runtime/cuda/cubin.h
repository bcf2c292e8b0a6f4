// What a cubin says of its kernels, from the ELF file alone: no driver, no disassembler.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/result.h"

namespace tilewright {

/// How often an instruction stands in the code of a kernel. Names are nvdisasm's.
struct OpcodeCount {
  std::string_view name;
  int64_t count = 0;
  friend bool operator==(const OpcodeCount&, const OpcodeCount&) = default;
};

struct KernelFacts {
  std::string symbol;
  int64_t registers = 0;      ///< per thread, as launched
  int64_t static_shared = 0;  ///< bytes, without dynamic shared memory and what the driver reserves
  int64_t local_bytes = 0;    ///< per thread: stack and spills
  int64_t barriers = 0;       ///< hardware barriers
  int64_t parameter_bytes = 0;
  int64_t instructions = 0;
  std::vector<OpcodeCount> census;  ///< of counted_opcodes(), those that occur

  int64_t count(std::string_view opcode) const;
};

/// Instructions that a census counts: matrix products, moves between memories, their waits and calls. All others are
/// in `instructions` alone.
std::span<const std::string_view> counted_opcodes();

/// Every kernel of the file, in its order. Errors: not a cubin, or a broken one.
Result<std::vector<KernelFacts>> read_cubin(std::string_view cubin);

/// "HMMA 64, LDSM 36, …", in the order of counted_opcodes().
std::string print_census(const KernelFacts& facts);

}  // namespace tilewright
