#include "codegen/cpu/templates.h"
#include "ir/result.h"

namespace tilewright {

CpuKernelSource generate_attention(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                   const std::string& symbol_prefix) {
  switch (schedule.kernel) {
    case CpuTemplate::generic: return cpu::generate_generic(program, schedule, target, symbol_prefix);
    case CpuTemplate::prefill: return cpu::generate_prefill(program, schedule, target, symbol_prefix);
    case CpuTemplate::decode:
    case CpuTemplate::amx_decode: return cpu::generate_decode(program, schedule, target, symbol_prefix);
    case CpuTemplate::amx_prefill: return cpu::generate_amx_prefill(program, schedule, target, symbol_prefix);
    case CpuTemplate::amx_backward:
    case CpuTemplate::backward:
    case CpuTemplate::loop:
    case CpuTemplate::matmul:
    case CpuTemplate::matvec:
    case CpuTemplate::ahead_of_time: break;
  }
  check_failed("the schedule names a template of attention", __FILE__, __LINE__);
}

CpuKernelSource generate_backward(const BackwardSpec& spec, const CpuSchedule& schedule, const CpuTarget& target,
                                  const std::string& symbol_prefix) {
  if (schedule.kernel == CpuTemplate::backward || schedule.kernel == CpuTemplate::amx_backward)
    return cpu::generate_fast_backward(spec, schedule, target, symbol_prefix);
  TW_CHECK(schedule.kernel == CpuTemplate::generic);
  return cpu::generate_generic_backward(spec, schedule, target, symbol_prefix);
}

}  // namespace tilewright
