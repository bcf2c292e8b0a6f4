#include "codegen/cpu/templates.h"
#include "ir/result.h"

namespace tilewright {

CpuKernelSource generate_attention(const TileProgram&, const CpuSchedule& schedule, const CpuTarget&,
                                   const std::string&) {
  switch (schedule.kernel) {
    case CpuTemplate::generic:
    case CpuTemplate::prefill:
    case CpuTemplate::decode: break;
  }
  check_failed("the schedule names a template that exists", __FILE__, __LINE__);
}

}  // namespace tilewright
