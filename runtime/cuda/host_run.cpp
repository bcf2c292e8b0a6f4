// Runs of a CudaKernel on tensors of the host.
#include <algorithm>

#include "runtime/cuda/cuda_kernel.h"
#include "runtime/cuda/device_tensors.h"

namespace tilewright {

Result<Done> run_from_host(const CudaKernel& kernel, std::span<const TensorView> inputs,
                           std::span<const TensorView> outputs, std::vector<CudaStepRun>* taken) {
  // On the host's pointers, before anything is copied: a null or misaligned one has no copy.
  const Signature& signature = kernel.program().compiled.signature;
  std::vector<int64_t> dims(signature.dims().size());
  if (auto ok = signature.bind(inputs, dims); !ok) return ok;
  if (auto ok = signature.check_outputs(inputs, outputs, dims); !ok) return ok;
  const auto bytes = kernel.workspace_bytes(signature.to_bindings(dims));
  if (!bytes) return bytes.error();
  auto workspace = kernel.device().allocate(std::max<int64_t>(*bytes, 1));
  if (!workspace) return workspace.error();
  DeviceTensors in(kernel.device()), out(kernel.device());
  for (const TensorView& view : inputs)
    if (auto ok = in.add(view); !ok) return ok;
  for (const TensorView& view : outputs)
    if (auto ok = out.add(view); !ok) return ok;
  const CudaRunOptions options{nullptr, workspace->get(), *bytes, taken};
  if (auto ok = kernel.run(in.views(), out.views(), options); !ok) return ok;
  const Graph& graph = kernel.program().graph;
  for (size_t i = 0; i < inputs.size(); ++i)
    if (graph[graph.params[i]].inout)
      if (auto ok = in.copy_back(i); !ok) return ok;
  for (size_t i = 0; i < outputs.size(); ++i)
    if (auto ok = out.copy_back(i); !ok) return ok;
  return Done{};
}

}  // namespace tilewright
