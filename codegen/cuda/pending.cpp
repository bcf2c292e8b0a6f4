// Until the templates for loops and backward passes are there, their plans refuse. Goes when they come.
#include "codegen/cuda/cuda_source.h"

namespace tilewright {

CudaPlan plan_cuda(const BackwardSpec&, const CudaTarget&, const CudaPlanOptions&) {
  return {{}, {{CudaTemplate::generic_backward, "no backward pass is generated for GPUs yet"}}};
}
CudaPlan plan_cuda(const LoopStep&, const CudaTarget&, const CudaPlanOptions&) {
  return {{}, {{CudaTemplate::loop, "no loop is generated for GPUs yet"}}};
}
Result<CudaSource> generate_cuda(const BackwardSpec&, const CudaSchedule&, const CudaTarget&, const std::string&) {
  return unsupported("no backward pass is generated for GPUs yet");
}
Result<CudaSource> generate_cuda(const LoopStep&, const CudaSchedule&, const CudaTarget&, const std::string&) {
  return unsupported("no loop is generated for GPUs yet");
}

}  // namespace tilewright
