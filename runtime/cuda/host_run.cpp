// Runs of a CudaKernel on tensors of the host.
#include <algorithm>

#include "runtime/cuda/cuda_kernel.h"
#include "runtime/signature.h"

namespace tilewright {
namespace {

/// Copies of host tensors on the device, gaps and alignment included.
class DeviceTensors {
 public:
  explicit DeviceTensors(const CudaDevice& device) : device_(device) {}

  Result<Done> add(const TensorView& host) {
    views_.push_back(host);
    ranges_.emplace_back();
    memory_.emplace_back();
    if (host.element_count() == 0 || device_.shares_host_memory()) return Done{};
    ByteRange& range = ranges_.back();
    if (!byte_range(host, range)) return invalid("a tensor's strides reach beyond 64-bit offsets");
    constexpr uintptr_t kAlignment = 256;
    const uintptr_t offset = range.begin % kAlignment;
    const auto bytes = static_cast<int64_t>(range.end - range.begin);
    auto memory = device_.allocate(bytes + static_cast<int64_t>(offset));
    if (!memory) return memory.error();
    memory_.back() = std::move(*memory);
    std::byte* begin = static_cast<std::byte*>(memory_.back().get()) + offset;
    views_.back().data = begin + (reinterpret_cast<uintptr_t>(host.data) - range.begin);
    return device_.copy_in(begin, reinterpret_cast<const void*>(range.begin), bytes);
  }
  Result<Done> copy_back(size_t i) const {
    if (!memory_[i]) return Done{};
    const ByteRange& range = ranges_[i];
    const std::byte* begin = static_cast<const std::byte*>(memory_[i].get()) + range.begin % 256;
    return device_.copy_out(reinterpret_cast<void*>(range.begin), begin, static_cast<int64_t>(range.end - range.begin));
  }
  std::span<const TensorView> views() const { return views_; }

 private:
  const CudaDevice& device_;
  std::vector<TensorView> views_;
  std::vector<ByteRange> ranges_;
  std::vector<std::shared_ptr<void>> memory_;
};

}  // namespace

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
