#include "runtime/tune_data.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "runtime/convert.h"
#include "runtime/tune_step.h"

namespace tilewright {
namespace {

constexpr uint64_t kSeed = 20;
constexpr int64_t kAllScores = 1 << 16;  // so many are judged whole, of more a sample of rows
constexpr double kOracleSeconds = 3e-9;  // for one product, both precisions together, on a slow machine

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

Result<TuneData> TuneData::create(Setup setup) {
  TuneData data(std::move(setup));
  const Setup& s = data.setup_;
  auto inputs = make_inputs(s.graph, s.dims, kSeed, *s.executor);
  if (!inputs) return inputs.error();
  data.inputs_ = std::move(*inputs);
  data.in_ = views(data.inputs_);
  for (const TensorView& view : data.in_) data.input_hashes_.push_back(hash_of(view));
  if (s.oracle_rows > 0) {
    AccuracyOptions accuracy;
    accuracy.full_up_to = kAllScores;
    accuracy.sampled_rows = s.oracle_rows;
    accuracy.block_rows = s.block_rows;
    auto oracle = OutputJudge::create(s.graph, s.dims, data.in_, accuracy);
    if (!oracle) return oracle.error();
    data.oracle_ = std::move(*oracle);
  }
  return data;
}

Result<Done> TuneData::poison(const std::vector<std::vector<int64_t>>& shapes) {
  for (size_t i = outputs_.size(); i < shapes.size(); ++i) {
    auto tensor = make_tensor(setup_.graph.type(setup_.graph.results[i]).dtype, shapes[i]);
    if (!tensor) return tensor.error();
    outputs_.push_back(std::move(*tensor));
  }
  out_ = views(outputs_);
  for (const TensorView& view : out_)
    if (view.data) std::memset(view.data, 0xff, static_cast<size_t>(bytes_of(view)));  // NaN in every float format
  return Done{};
}

std::string TuneData::verdict() {
  if (std::string changed = restore_inputs(); !changed.empty()) return changed;
  if (oracle_) {
    const auto verdict = oracle_->judge(out_);
    if (!verdict) return to_string(verdict.error());
    for (const AccuracyReport& report : *verdict)
      if (!report.pass) return report.failure;
  }
  if (!expected_.empty()) return disagreement();
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

std::string TuneData::disagreement() const {
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

std::string TuneData::restore_inputs() {
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

namespace {

/// Products that the oracle forms for each row that it computes, and those of every contraction, which it forms whole.
std::pair<double, double> oracle_products(const Program& program, const DimBindings& dims) {
  double per_row = 0, whole = 0;
  for (const Step& step : program.steps) {
    const auto* attention = std::get_if<AttentionStep>(&step.what);
    const auto* backward = std::get_if<BackwardStep>(&step.what);
    const auto* loop = std::get_if<LoopStep>(&step.what);
    if (attention) {
      double columns = static_cast<double>(attention->spec.value_dim);
      for (const DotTerm& dot : attention->spec.dots) columns += static_cast<double>(dot.head_dim);
      per_row += columns * static_cast<double>(attention->spec.kv_len.evaluate(dims).value_or(1));
    } else if (backward || (loop && loop->kind == LoopKind::contract)) {
      whole += guess_flops(program, step, dims);
    }
  }
  return {per_row, whole};
}

}  // namespace

int64_t affordable_oracle_rows(const Program& program, const DimBindings& dims, double seconds) {
  const double budget = seconds / kOracleSeconds;
  const auto [per_row, whole] = oracle_products(program, dims);
  return whole > budget ? 0
                        : std::min(static_cast<int64_t>((budget - whole) / std::max(per_row, 1.0)), kMostOracleRows);
}

}  // namespace tilewright
