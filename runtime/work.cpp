#include "runtime/work.h"

#include <algorithm>
#include <array>

#include "ir/interp.h"

namespace tilewright {
namespace {

constexpr int64_t kSampledRows = 512;

int64_t product_of(const std::vector<Dim>& dims, const DimBindings& bindings) {
  int64_t product = 1;
  for (const Dim& dim : dims) product *= dim.evaluate(bindings).value_or(0);
  return product;
}

bool reads_missing(const Expr& expr, std::span<const TensorView> tensors) {
  return std::any_of(expr.nodes().begin(), expr.nodes().end(), [&](const ExprNode& node) {
    return node.tensor >= 0 && !tensors[static_cast<size_t>(node.tensor)].data;
  });
}

class RowCounter {
 public:
  RowCounter(const ScoreSpace& spec, const DimBindings& dims, std::span<const TensorView> tensors, int64_t kv_len)
      : spec_(spec), dims_(dims), tensors_(tensors), kv_len_(kv_len) {}

  int64_t kept(int64_t b, int64_t h, int64_t q) {
    set(Axis::b, b);
    set(Axis::h, h);
    set(Axis::q, q);
    set(Axis::q_lo, q);
    set(Axis::q_hi, q);
    int64_t begin = 0, end = kv_len_;
    if (!spec_.kv_range.begin.empty()) begin = std::clamp<int64_t>(value(spec_.kv_range.begin), 0, kv_len_);
    if (!spec_.kv_range.end.empty()) end = std::clamp<int64_t>(value(spec_.kv_range.end), 0, kv_len_);
    if (begin >= end) return 0;
    set(Axis::kv_lo, begin);
    set(Axis::kv_hi, end - 1);
    if (!spec_.kv_range.full.empty() && value(spec_.kv_range.full)) return end - begin;
    int64_t count = 0;
    for (int64_t kv = begin; kv < end; ++kv) {
      set(Axis::kv, kv);
      count += value(spec_.keep) != 0;
    }
    return count;
  }

 private:
  void set(Axis axis, int64_t value) { axes_[static_cast<size_t>(axis)] = value; }
  int64_t value(const Expr& expr) { return evaluate_int(expr, dims_, tensors_, axes_); }

  const ScoreSpace& spec_;
  const DimBindings& dims_;
  std::span<const TensorView> tensors_;
  int64_t kv_len_;
  std::array<int64_t, 12> axes_{};
};

/// Kept (b, h, q, kv), and all of them.
Work count_scores(const ScoreSpace& spec, const DimBindings& dims, std::span<const TensorView> tensors) {
  const int64_t batch = product_of(spec.batch, dims), heads = product_of(spec.heads, dims);
  const int64_t q_len = spec.q_len.evaluate(dims).value_or(0), kv_len = spec.kv_len.evaluate(dims).value_or(0);
  Work work;
  const int64_t rows = batch * heads * q_len;
  work.all = static_cast<double>(rows) * static_cast<double>(kv_len);
  work.scores = work.all;
  const bool masked = !spec.keep.empty() && !spec.keep.is_constant_true() && !reads_missing(spec.keep, tensors);
  if (masked && rows > 0) {
    RowCounter counter(spec, dims, tensors, kv_len);
    const uint32_t depends = dependencies(spec.keep)[static_cast<size_t>(raw(spec.keep.root()))];
    const bool any_bh = depends & (bit(Axis::b) | bit(Axis::h));
    const int64_t universe = any_bh ? rows : q_len;
    const int64_t samples = std::min(universe, kSampledRows);
    double kept = 0;
    for (int64_t i = 0; i < samples; ++i) {
      // Midpoints of equal strata, so that a causal triangle comes out exact.
      const int64_t row = (2 * i + 1) * universe / (2 * samples);
      kept += static_cast<double>(any_bh ? counter.kept(row / q_len / heads, row / q_len % heads, row % q_len)
                                         : counter.kept(0, 0, row));
    }
    work.scores = kept / static_cast<double>(samples) * static_cast<double>(rows);
  }
  return work;
}

}  // namespace

Work count_work(const AttentionSpec& spec, const DimBindings& dims, std::span<const TensorView> tensors) {
  Work work = count_scores(spec, dims, tensors);
  int64_t width = spec.value_dim;
  for (const DotTerm& dot : spec.dots) width += dot.head_dim;
  work.flops = 2 * work.scores * static_cast<double>(width);
  return work;
}

double count_flops(const Step& step, const DimBindings& dims, std::span<const TensorView> tensors) {
  if (const auto* attention = std::get_if<AttentionStep>(&step.what))
    return count_work(attention->spec, dims, tensors).flops;
  if (const auto* backward = std::get_if<BackwardStep>(&step.what)) {
    const BackwardSpec& spec = backward->spec;
    int64_t width = spec.output_gradient ? spec.output_gradient->head_dim : 0;
    for (const DotTerm& dot : spec.dots) width += dot.head_dim;
    for (const auto* products : {&spec.rows, &spec.columns})
      for (const BackwardProduct& product : *products) width += product.width;
    return 2 * count_scores(spec, dims, tensors).scores * static_cast<double>(width);
  }
  const auto& loop = std::get<LoopStep>(step.what);
  return loop.kind == LoopKind::contract ? 2 * static_cast<double>(product_of(loop.extents, dims)) : 0;
}

double count_visited(const AttentionSpec& spec, const DimBindings& dims, std::span<const TensorView> tensors,
                     const VisitGrain& grain) {
  const int64_t heads = product_of(spec.batch, dims) * product_of(spec.heads, dims);
  const int64_t q_len = spec.q_len.evaluate(dims).value_or(0), kv_len = spec.kv_len.evaluate(dims).value_or(0);
  std::array<int64_t, 12> axes{};
  const auto set = [&](Axis axis, int64_t value) { axes[static_cast<size_t>(axis)] = value; };
  const auto value = [&](const Expr& expr) { return evaluate_int(expr, dims, tensors, axes); };
  int64_t visited = 0;
  for (int64_t q = 0; q < q_len; q += grain.rows) {
    const int64_t last = std::min(q + grain.rows, q_len) - 1;
    set(Axis::q_lo, q);
    set(Axis::q_hi, last);
    const int64_t begin = std::clamp<int64_t>(value(spec.kv_range.begin), 0, kv_len) / grain.panel * grain.panel;
    const int64_t end = std::clamp<int64_t>(value(spec.kv_range.end), 0, kv_len);
    const int64_t stop = std::min((end + grain.panel - 1) / grain.panel * grain.panel, kv_len);
    for (int64_t kv = begin / grain.keys * grain.keys; kv < end; kv += grain.keys) {
      const int64_t block_end = std::min(kv + grain.keys, kv_len);
      set(Axis::kv_lo, kv);
      set(Axis::kv_hi, block_end - 1);
      if (!value(spec.kv_range.skip)) visited += (last - q + 1) * (std::min(block_end, stop) - std::max(kv, begin));
    }
  }
  return static_cast<double>(visited) * static_cast<double>(heads);
}

std::vector<TensorView> step_tensors(const Program& program, const Step& step, std::span<const TensorView> inputs) {
  std::vector<TensorView> tensors;
  for (const int id : step.tensors) {
    const ProgramTensor& tensor = program.tensors[static_cast<size_t>(id)];
    TensorView none;
    none.rank = static_cast<int>(tensor.type.rank());
    tensors.push_back(tensor.role == TensorRole::param ? inputs[static_cast<size_t>(tensor.position)] : none);
  }
  return tensors;
}

Work count_work(const Program& program, const DimBindings& dims, std::span<const TensorView> inputs) {
  Work sum;
  for (const Step& step : program.steps) {
    const auto* attention = std::get_if<AttentionStep>(&step.what);
    if (!attention) continue;
    const Work work = count_work(attention->spec, dims, step_tensors(program, step, inputs));
    sum.scores += work.scores;
    sum.all += work.all;
    sum.flops += work.flops;
  }
  return sum;
}

}  // namespace tilewright
