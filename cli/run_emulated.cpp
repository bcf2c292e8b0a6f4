#include "cli/run_emulated.h"

#include <cstring>

namespace tilewright::cli {
namespace {

constexpr int kExecutions = 2;
constexpr size_t kZeroBytes = 256;  // CudaDevice::zeros

using Bytes = std::vector<std::byte>;

size_t byte_size(const TensorView& dense) {
  return static_cast<size_t>(dense.element_count()) * static_cast<size_t>(size_of(dense.dtype));
}
Bytes read(const TensorView& dense) {
  Bytes bytes(byte_size(dense));
  if (!bytes.empty()) std::memcpy(bytes.data(), dense.data, bytes.size());
  return bytes;
}
void write(const TensorView& dense, const Bytes& bytes) {
  if (!bytes.empty()) std::memcpy(dense.data, bytes.data(), bytes.size());
}

EmulatorOptions options_of(int number, uint64_t seed) {
  EmulatorOptions options;
  options.count_bank_conflicts = number == 0;  // of others they are the same
  if (number > 0) options.seed = seed * 1000 + static_cast<uint64_t>(number);
  options.late_copies = options.late_tma = number % 2 == 1;
  options.late_wgmma = (number ^ number >> 1) % 2 == 1;
  return options;
}

std::string name_of(int number, const EmulatorOptions& options) {
  const auto when = [](bool late) { return late ? "late" : "early"; };
  return fmt::format("execution {} (copies {}, wgmma {}, {})", number + 1, when(options.late_copies),
                     when(options.late_wgmma),
                     options.seed == 0 ? "threads in order" : fmt::format("threads by seed {}", options.seed));
}

std::string passes_text(const char* what, const BankCounts& counts) {
  if (counts.accesses == 0) return {};
  return fmt::format("{} {:.2f}", what, static_cast<double>(counts.passes) / static_cast<double>(counts.accesses));
}

}  // namespace

std::string text(const EmulatedRuns& runs) {
  const EmulatorStatistics& s = runs.statistics;
  std::string shared;
  for (const std::string& part :
       {passes_text("loads", s.loads), passes_text("stores", s.stores), passes_text("ldmatrix", s.matrix_loads)})
    if (!part.empty()) shared += (shared.empty() ? "" : ", ") + part;
  return fmt::format(
      "  emulated {} execution{}, the same to the bit; of one: {} blocks, {} mma, {} wgmma\n"
      "             passes over the banks of shared memory per access of a warp (1 without conflicts, 4 of 16 bytes): "
      "{}\n",
      runs.executions, runs.executions == 1 ? "" : "s", s.blocks, s.mma, s.wgmma, shared.empty() ? "none" : shared);
}

Json json(const EmulatedRuns& runs) {
  const EmulatorStatistics& s = runs.statistics;
  Json out = {{"executions", runs.executions}, {"blocks", s.blocks},    {"mma", s.mma}, {"wgmma", s.wgmma},
              {"tma_loads", s.tma_loads},      {"cp_async", s.cp_async}};
  for (const auto& [name, counts] :
       {std::pair{"shared_loads", s.loads}, {"shared_stores", s.stores}, {"matrix_loads", s.matrix_loads}})
    out[name] = {{"accesses", counts.accesses}, {"passes", counts.passes}};
  return out;
}

Result<EmulatedRuns> run_emulated(const CudaKernel& kernel, EmulatedExecution& execution,
                                  const EmulatedRunOptions& options, std::span<const TensorView> inputs,
                                  std::span<const TensorView> outputs, std::vector<CudaStepRun>& taken) {
  const Graph& graph = kernel.program().graph;
  const Signature& signature = kernel.program().compiled.signature;
  std::vector<int64_t> dims(signature.dims().size());
  if (auto ok = signature.bind(inputs, dims); !ok) return ok.error();
  const auto bytes = kernel.workspace_bytes(signature.to_bindings(dims));
  if (!bytes) return bytes.error();

  std::vector<EmulatedBuffer> buffers = {{kernel.device().zeros(), kZeroBytes, false, "the zeros of empty tensors"}};
  std::vector<TensorView> written;
  std::vector<std::string> names;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Node& param = graph[graph.params[i]];
    buffers.push_back(buffer_of(inputs[i], param.inout, "%" + param.name));
    if (!param.inout) continue;
    written.push_back(inputs[i]);
    names.push_back(param.name);
  }
  for (size_t i = 0; i < outputs.size(); ++i) {
    written.push_back(outputs[i]);
    names.push_back(graph[graph.results[i]].name);
    buffers.push_back(buffer_of(outputs[i], true, "%" + names.back()));
  }
  std::vector<Bytes> before, first;
  for (const TensorView& view : written) before.push_back(read(view));

  EmulatedRuns runs;
  runs.executions = options.executions == 0 ? kExecutions : options.executions;
  for (int number = 0; number < runs.executions; ++number) {
    const auto workspace = kernel.device().allocate(std::max<int64_t>(*bytes, 1));
    if (!workspace) return workspace.error();
    execution.options = options_of(number, options.seed);
    execution.options.buffers = buffers;
    execution.options.buffers.push_back({workspace->get(), static_cast<size_t>(*bytes), true, "the workspace"});
    for (size_t i = 0; i < written.size(); ++i) write(written[i], before[i]);
    const std::string name = name_of(number, execution.options);
    if (auto ok = kernel.run(inputs, outputs, {nullptr, workspace->get(), *bytes, &taken}); !ok)
      return invalid("{}: {}", name, to_string(ok.error()));
    if (number == 0) {
      runs.statistics = execution.statistics;
      for (const TensorView& view : written) first.push_back(read(view));
      continue;
    }
    for (size_t i = 0; i < written.size(); ++i)
      if (read(written[i]) != first[i])
        return invalid("{} disagrees with the first one on %{}: some thread waits for too little", name, names[i]);
  }
  return runs;
}

}  // namespace tilewright::cli
