#include "cli/materialised.h"

#include <fmt/format.h>
#include <unistd.h>

namespace tilewright::cli {
namespace {

constexpr double kMostSeconds = 4;

int64_t free_memory() { return static_cast<int64_t>(sysconf(_SC_AVPHYS_PAGES)) * sysconf(_SC_PAGESIZE); }

/// Halves every dim that grows with the sequence; false when none is left to halve.
bool halve_sequence(DimBindings& dims) {
  bool halved = false;
  for (auto& [name, size] : dims)
    if (name != "B" && size >= 256) {
      size /= 2;
      halved = true;
    }
  return halved;
}

double time_once(const Kernel& kernel, std::span<const TensorView> in, std::span<const TensorView> out,
                 Diagnostics& errors) {
  return bench::seconds_of([&] {
    if (auto ok = kernel.run(in, out); !ok) errors = ok.error();
  });
}

}  // namespace

Result<Materialised> time_materialised(const Report& report, std::span<const TensorView> inputs, const Engine& engine) {
  const Kernel& fused = *report.kernel;
  CompileOptions options;
  options.materialise = true;
  const auto kernel = engine.compile(fused.graph(), options);
  if (!kernel) return kernel.error();
  const int workers = engine.executor()->workers();

  // Small sizes first: their time says which size fits the seconds.
  DimBindings dims = report.dims;
  std::vector<DimBindings> sizes = {dims};
  while (halve_sequence(dims)) sizes.push_back(dims);
  Materialised best;
  double previous = 0;
  for (size_t i = sizes.size(); i-- > 0;) {
    const auto memory = kernel->memory_estimate(sizes[i], workers);
    const bool fits = memory && memory->workspace < free_memory() / 3;
    if (best.seconds > 0 && (!fits || 4.5 * previous > kMostSeconds)) {
      best.reduced = "at";
      for (const auto& [name, size] : sizes[i + 1])
        if (size != report.dims.at(name)) best.reduced += fmt::format(" {}={}", name, size);
      best.reduced +=
          fits ? ", for time" : fmt::format(", as it would take {}", bytes_text(memory ? memory->workspace : 0));
      break;
    }
    if (!fits) return unsupported("the smallest size of materialised attention does not fit the memory");
    Diagnostics errors;
    std::vector<HostTensor> made;
    std::vector<TensorView> in(inputs.begin(), inputs.end());
    if (i > 0) {
      auto smaller = make_inputs(fused.graph(), sizes[i], 1, *engine.executor());
      if (!smaller) return smaller.error();
      made = std::move(*smaller);
      in = views(made);
    }
    const auto outputs = make_outputs(fused, sizes[i]);
    if (!outputs) return outputs.error();
    const std::vector<TensorView> out = views(*outputs);
    previous = time_once(*kernel, in, out, errors);
    if (previous < kMostSeconds / 2) previous = std::min(previous, time_once(*kernel, in, out, errors));
    best = {previous, i == 0 ? report.seconds.median() : time_once(fused, in, out, errors), {}};
    if (i > 0) best.fused_seconds = std::min(best.fused_seconds, time_once(fused, in, out, errors));
    if (!errors.empty()) return errors;
  }
  return best;
}

}  // namespace tilewright::cli
