#include "bench/gpu/c_api.h"

#include <algorithm>
#include <cstring>

#include "emulator/emulator_device.h"
#include "ir/text.h"
#include "runtime/cuda/cuda_dump.h"
#include "runtime/cuda/cuda_kernel.h"
#include "runtime/cuda/driver_device.h"
#include "runtime/inline_array.h"
#include "runtime/options.h"

using namespace tilewright;

struct TilewrightKernel {
  CudaKernel kernel;
  std::string description;
};

namespace {

void copy_text(const std::string& text, char* to, int64_t bytes) {
  if (!to || bytes <= 0) return;
  const auto length = std::min<size_t>(text.size(), static_cast<size_t>(bytes) - 1);
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

void tell(const Diagnostics& why, char* error, int64_t error_bytes) { copy_text(to_string(why), error, error_bytes); }

Result<std::shared_ptr<const CudaDevice>> open_device(const std::string& target) {
  constexpr std::string_view kEmulator = "cuda-emu:";
  if (target.starts_with(kEmulator)) {
    const auto architecture = parse_cuda_target(target.substr(kEmulator.size()));
    if (!architecture) return invalid("{} is no target", target);
    return std::shared_ptr<const CudaDevice>(std::make_shared<EmulatorDevice>(*architecture));
  }
  auto device = DriverDevice::of_current_context(environment().cache_dir);
  if (!device) return device.error();
  return std::shared_ptr<const CudaDevice>(std::move(*device));
}

TensorView view_of(const TilewrightTensor& tensor, DType dtype) {
  TensorView view{tensor.data, dtype, tensor.rank, {}, {}};
  for (int axis = 0; axis < std::clamp<int>(tensor.rank, 0, kMaxRank); ++axis) {
    view.shape[axis] = tensor.shape[axis];
    view.strides[axis] = tensor.strides[axis];
  }
  return view;
}

using Views = InlineArray<TensorView, 16>;
void view_inputs(const CudaKernel& kernel, const TilewrightTensor* tensors, Views& views) {
  const Graph& graph = kernel.program().graph;
  for (size_t i = 0; i < views.size(); ++i) views[i] = view_of(tensors[i], graph.type(graph.params[i]).dtype);
}

std::string describe(const CudaKernel& kernel) {
  std::vector<CompiledCudaChoice> choices;
  const CudaProgram& program = kernel.program();
  for (size_t step = 0; step < program.steps.size(); ++step)
    for (size_t choice = 0; choice < program.steps[step].choices.size(); ++choice) {
      const CudaBinary* binary = kernel.module(step, choice).binary();
      if (!binary) continue;
      auto report = report_compile(*binary, program.steps[step].choices[choice].source.launch, program.target);
      if (report) choices.push_back({step, choice, *binary, std::move(*report)});
    }
  return cuda_manifest(program, choices, "");
}

}  // namespace

extern "C" {

TilewrightKernel* tilewright_load(const char* graph_text, const char* target, char* error, int64_t error_bytes) {
  const auto graph = parse_graph(graph_text);
  if (!graph) return tell(graph.error(), error, error_bytes), nullptr;
  const auto device = open_device(target);
  if (!device) return tell(device.error(), error, error_bytes), nullptr;
  const auto tuning = open_environment_tuning();
  CudaProgramOptions options;
  options.tuning = {tuning.get(), (*device)->measured_with()};
  const auto program = compile_cuda_program(*graph, (*device)->target(), options);
  if (!program) return tell(program.error(), error, error_bytes), nullptr;
  auto kernel = CudaKernel::load(*program, *device);
  if (!kernel) return tell(kernel.error(), error, error_bytes), nullptr;
  std::string description = describe(*kernel);
  return new TilewrightKernel{std::move(*kernel), std::move(description)};
}

void tilewright_free(TilewrightKernel* kernel) { delete kernel; }

const char* tilewright_describe(const TilewrightKernel* kernel) { return kernel->description.c_str(); }

int64_t tilewright_workspace(const TilewrightKernel* kernel, const TilewrightTensor* inputs, char* error,
                             int64_t error_bytes) {
  const Signature& signature = kernel->kernel.program().compiled.signature;
  Views views(signature.inputs());
  view_inputs(kernel->kernel, inputs, views);
  std::vector<int64_t> dims(signature.dims().size());
  if (auto ok = signature.bind(views, dims); !ok) return tell(ok.error(), error, error_bytes), -1;
  const auto bytes = kernel->kernel.workspace_bytes(signature.to_bindings(dims));
  if (!bytes) return tell(bytes.error(), error, error_bytes), -1;
  return *bytes;
}

int32_t tilewright_run(const TilewrightKernel* kernel, const TilewrightTensor* inputs, const TilewrightTensor* outputs,
                       void* workspace, int64_t workspace_bytes, void* stream, char* taken, int64_t taken_bytes,
                       char* error, int64_t error_bytes) {
  const Signature& signature = kernel->kernel.program().compiled.signature;
  Views in(signature.inputs()), out(signature.outputs());
  view_inputs(kernel->kernel, inputs, in);
  for (size_t i = 0; i < out.size(); ++i) out[i] = view_of(outputs[i], signature.result_types()[i].dtype);
  std::vector<CudaStepRun> steps;
  const CudaRunOptions options{stream, workspace, workspace_bytes, taken ? &steps : nullptr};
  if (auto ok = kernel->kernel.run(in, out, options); !ok) return tell(ok.error(), error, error_bytes), 0;
  if (taken) copy_text(print_run(kernel->kernel.program(), steps), taken, taken_bytes);
  return 1;
}
}
