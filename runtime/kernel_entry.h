// What identifies a generated kernel, and a generated kernel as bytes: the two halves of an entry of the disk cache.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/kernel_abi.h"
#include "runtime/compile_jobs.h"

namespace tilewright {

/// Everything that the object code of the job depends on, as text: the step, the schedule, the target's features and
/// cache sizes, the code generator's version. Names of graphs and values are no part of it; names of dims are.
std::string kernel_key(const CompileJob& job, const CpuTarget& target);

struct KernelEntry {
  LaunchInfo launch;  ///< without its schedule, which is part of the key
  int64_t ir_instructions = 0;
  std::vector<std::vector<char>> objects;  ///< that link with each other
};
std::string encode_kernel(const KernelEntry& entry);
/// Nothing when the bytes are not what encode_kernel makes.
std::optional<KernelEntry> decode_kernel(std::string_view bytes);

}  // namespace tilewright
