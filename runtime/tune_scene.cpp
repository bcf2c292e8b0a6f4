#include "runtime/tune_scene.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/convert.h"
#include "runtime/limits.h"

namespace tilewright {
namespace {

constexpr double kShortest = 2e-4;  // seconds that the clock measures well
constexpr uint64_t kSeed = 20;
constexpr int64_t kAllScores = 1 << 16;  // so many are judged whole, of more a sample of rows

int64_t bytes_of(const TensorView& contiguous) { return contiguous.element_count() * size_of(contiguous.dtype); }

uint64_t hash_of(const TensorView& contiguous) {
  return contiguous.data ? XXH3_64bits(contiguous.data, static_cast<size_t>(bytes_of(contiguous))) : 0;
}

double epsilon(DType dtype) {
  switch (dtype) {
    case DType::bf16: return 0x1p-8;
    case DType::f16: return 0x1p-11;
    case DType::f32: return 0x1p-24;
    default: return 0x1p-53;
  }
}

/// How far two right computations of a result may lie apart, relative to its largest value: roundings of what is stored
/// and of the sums, with room. Faults are orders of magnitude larger; the oracle is the exact judge.
double tolerance(const Graph& graph, DType output) {
  double coarsest = epsilon(output);
  bool all_f64 = true;
  for (const ValueId param : graph.params) {
    const DType dtype = graph.type(param).dtype;
    if (!is_float(dtype)) continue;
    coarsest = std::max(coarsest, epsilon(dtype));
    all_f64 &= dtype == DType::f64;
  }
  switch (graph.precision.value_or(PrecisionPolicy::f32)) {
    case PrecisionPolicy::bf16: coarsest = std::max(coarsest, epsilon(DType::bf16)); break;
    case PrecisionPolicy::f32_x3: coarsest = std::max(coarsest, 0x1p-14); break;
    default: break;
  }
  return 16 * coarsest + 256 * epsilon(all_f64 ? DType::f64 : DType::f32);
}

}  // namespace

Result<std::unique_ptr<TuneScene>> TuneScene::create(Setup setup) {
  std::unique_ptr<TuneScene> scene(new TuneScene(std::move(setup)));
  const Setup& s = scene->setup_;
  TW_CHECK(s.slice.all() || s.oracle_rows == 0);
  auto inputs = make_inputs(s.graph, s.dims, kSeed, *s.executor);
  if (!inputs) return inputs.error();
  scene->inputs_ = std::move(*inputs);
  scene->in_ = views(scene->inputs_);
  for (const TensorView& view : scene->in_) scene->input_hashes_.push_back(hash_of(view));
  if (s.oracle_rows > 0) {
    AccuracyOptions accuracy;
    accuracy.full_up_to = kAllScores;
    accuracy.sampled_rows = s.oracle_rows;
    accuracy.block_rows = s.block_rows;
    auto oracle = OutputJudge::create(s.graph, s.dims, scene->in_, accuracy);
    if (!oracle) return oracle.error();
    scene->oracle_ = std::move(*oracle);
  }
  scene->flush_ = AlignedBuffer(s.flush_bytes);
  if (!scene->flush_.data()) return invalid("{} bytes cannot be allocated", s.flush_bytes);
  std::memset(scene->flush_.data(), 1, static_cast<size_t>(s.flush_bytes));
  return scene;
}

Result<Done> TuneScene::run(const Kernel& kernel, const CpuSchedule& schedule, double* step_seconds) {
  const auto needed = kernel.workspace_bytes(setup_.dims, setup_.executor->workers());
  if (!needed) return needed.error();
  if (workspace_.bytes() < *needed) {
    workspace_ = AlignedBuffer(*needed);
    if (!workspace_.data()) return invalid("a workspace of {} bytes cannot be allocated", *needed);
    std::memset(workspace_.data(), 0, static_cast<size_t>(*needed));  // so that no run pays for fresh pages
  }
  RunOptions options;
  options.executor = setup_.executor;
  if (*needed > 0) {
    options.workspace = workspace_.data();
    options.workspace_bytes = workspace_.bytes();
  }
  options.step_seconds = step_seconds;
  options.slice = setup_.slice;
  return setup_.run ? setup_.run(kernel, schedule, in_, out_, options) : kernel.run(in_, out_, options);
}

void TuneScene::poison() {
  for (const TensorView& view : out_)
    if (view.data) std::memset(view.data, 0xff, static_cast<size_t>(bytes_of(view)));  // NaN in every float format
}

std::string TuneScene::judge(const Kernel& kernel, const CpuSchedule& schedule) {
  const bool first = outputs_.empty();
  if (first) {
    auto outputs = make_outputs(kernel, setup_.dims);
    if (!outputs) return to_string(outputs.error());
    outputs_ = std::move(*outputs);
    out_ = views(outputs_);
  }
  poison();
  if (auto ok = run(kernel, schedule, nullptr); !ok) return to_string(ok.error());
  if (std::string changed = restore_inputs(); !changed.empty()) return changed;
  if (oracle_) {
    const auto verdict = oracle_->judge(out_);
    if (!verdict) return to_string(verdict.error());
    for (const AccuracyReport& report : *verdict)
      if (!report.pass) return report.failure;
  }
  if (!first) return disagreement();
  for (const TensorView& view : out_) {
    const DType wide = view.dtype == DType::f64 ? DType::f64 : DType::f32;
    auto copy = make_tensor(is_float(view.dtype) ? wide : view.dtype,
                            std::vector<int64_t>(view.shape.begin(), view.shape.begin() + view.rank));
    if (!copy) return to_string(copy.error());
    if (view.data) convert(view, copy->view);
    expected_.push_back(std::move(*copy));
  }
  return {};
}

namespace {

/// The first element that differs by more than the tolerance; empty when none does.
template <class T>
std::string compare(const TensorView& found, const TensorView& expected, double relative) {
  const auto *a = static_cast<const T*>(found.data), *b = static_cast<const T*>(expected.data);
  const int64_t count = expected.element_count();
  double largest = 0;
  for (int64_t i = 0; i < count; ++i)
    if (std::isfinite(b[i])) largest = std::max(largest, std::fabs(static_cast<double>(b[i])));
  const double bound = relative * largest;
  for (int64_t i = 0; i < count; ++i) {
    const auto x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    const bool same =
        std::isfinite(x) && std::isfinite(y) ? std::fabs(x - y) <= bound : x == y || (std::isnan(x) && std::isnan(y));
    if (!same)
      return fmt::format("element {} is {:.9g}, but the rules' kernel gives {:.9g}, and they may differ by {:.3g}", i,
                         x, y, bound);
  }
  return {};
}

}  // namespace

std::string TuneScene::disagreement() const {
  for (size_t i = 0; i < out_.size(); ++i) {
    const TensorView &found = out_[i], &expected = expected_[i].view;
    if (!found.data || found.element_count() == 0) continue;
    std::string what;
    if (!is_float(found.dtype)) {
      if (std::memcmp(found.data, expected.data, static_cast<size_t>(bytes_of(found))) != 0)
        what = "differs from what the rules' kernel gives";
    } else if (found.dtype == expected.dtype) {
      what = found.dtype == DType::f64 ? compare<double>(found, expected, tolerance(setup_.graph, found.dtype))
                                       : compare<float>(found, expected, tolerance(setup_.graph, found.dtype));
    } else {
      auto wide =
          make_tensor(expected.dtype, std::vector<int64_t>(found.shape.begin(), found.shape.begin() + found.rank));
      if (!wide) return to_string(wide.error());
      convert(found, wide->view);
      what = compare<float>(wide->view, expected, tolerance(setup_.graph, found.dtype));
    }
    if (!what.empty()) return fmt::format("%{}: {}", setup_.graph[setup_.graph.results[i]].name, what);
  }
  return {};
}

std::string TuneScene::restore_inputs() {
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const ValueId param = setup_.graph.params[i];
    if (setup_.graph[param].inout || hash_of(in_[i]) == input_hashes_[i]) continue;
    auto again = make_input(setup_.graph, param, setup_.dims, kSeed, *setup_.executor);
    if (!again) return to_string(again.error());
    std::memcpy(in_[i].data, again->view.data, static_cast<size_t>(bytes_of(in_[i])));
    return fmt::format("it wrote into its operand %{}", setup_.graph[param].name);
  }
  return {};
}

std::optional<TuneScene::Seconds> TuneScene::time(const Kernel& kernel, const CpuSchedule& schedule, size_t step) {
  std::vector<double> steps(kernel.program().steps.size());
  const auto once = [&]() -> std::optional<double> {
    if (!run(kernel, schedule, steps.data())) return {};
    return steps[step];
  };
  const MemoryRange flush{flush_.data(), flush_.bytes()};
  time_read({&flush, 1}, *setup_.executor);
  const auto cold = once();
  if (!cold) return {};
  // The first run after a cold one is not warm yet where it is short.
  const int runs = std::clamp(static_cast<int>(kShortest / std::max(*cold, 1e-9)), 1, 32);
  double sum = 0;
  for (int i = 0; i < runs; ++i) {
    const auto warm = once();
    if (!warm) return {};
    sum += *warm;
  }
  return Seconds{sum / runs, *cold};
}

}  // namespace tilewright
