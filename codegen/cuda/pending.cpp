// Until the template for backward passes is there, its plan refuses. Goes when it comes.
#include "codegen/cuda/cuda_source.h"

namespace tilewright {

CudaPlan plan_cuda(const BackwardSpec&, const CudaTarget&, const CudaPlanOptions&) {
  return {{}, {{CudaTemplate::generic_backward, "no backward pass is generated for GPUs yet"}}};
}
Result<CudaSource> generate_cuda(const BackwardSpec&, const CudaSchedule&, const CudaTarget&, const std::string&) {
  return unsupported("no backward pass is generated for GPUs yet");
}

}  // namespace tilewright
