// The CPU templates. Each turns a TileProgram into one module with its launch metadata; `prefix` starts its symbols.
#pragma once

#include "codegen/cpu/cpu_codegen.h"

namespace tilewright::cpu {

CpuKernelSource generate_generic(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                 const std::string& prefix);
CpuKernelSource generate_prefill(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                 const std::string& prefix);
CpuKernelSource generate_amx_prefill(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                     const std::string& prefix);
CpuKernelSource generate_decode(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                const std::string& prefix);
CpuKernelSource generate_fast_backward(const BackwardSpec& spec, const CpuSchedule& schedule, const CpuTarget& target,
                                       const std::string& prefix);
CpuKernelSource generate_generic_backward(const BackwardSpec& spec, const CpuSchedule& schedule,
                                          const CpuTarget& target, const std::string& prefix);

}  // namespace tilewright::cpu
