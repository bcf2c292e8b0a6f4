// Loop steps that are no products: pointwise maps, reductions, unfused softmax and logsumexp, scattered sums. Lanes run
// along the innermost axis, or along the one that is folded; a work item is one row of it (all of a scatter).
#include <algorithm>
#include <cmath>
#include <limits>

#include "compiler/contract_axes.h"
#include "runtime/tier/steps.h"

namespace tilewright::tier {
namespace {

/// The step with its expressions as programs. Everything runs with lanes along `vary`.
struct LoopPlan {
  LoopPlan(const LoopStep& loop, CpuIsa isa) : step(loop), layout(args_layout(step)), ops(&isa_ops(isa)) {
    const bool folds = step.kind == LoopKind::reduce || step.kind == LoopKind::softmax;
    const int last = std::max(static_cast<int>(step.extents.size()) - 1, 0);  // a scalar has one position of axis 0
    vary = folds ? step.axis : last;
    for (int axis = 0; axis < static_cast<int>(step.extents.size()); ++axis)
      if (axis != vary) outer.push_back(axis);
    for (const Dim& extent : step.extents) extents.emplace_back(extent, layout.dims);
    output_dtype = step.tensors[static_cast<size_t>(step.output.tensor)].type.dtype;
    if (step.kind == LoopKind::scatter) {
      Expr all;
      std::vector<ExprId> roots;
      for (const Expr& axis : step.output.axes) roots.push_back(all.import(axis));
      indices = PlacedProgram(LaneProgram(all, roots, axis_of(vary), step.tensors, layout), scratch);
    } else {
      output = PlacedAccess(step.output, step.tensors, layout, scratch);
    }
    const Expr folded = folds ? accumulated(step.value, step.accumulate) : step.value;
    value = place(folded);
    if (folds && (step.kind == LoopKind::softmax || step.op == Op::logsumexp)) place_softmax(folded);
    products_at = scratch.place(2 * kRegisterBytes);
  }

  static Axis axis_of(int axis) { return static_cast<Axis>(axis); }
  PlacedProgram place(const Expr& expr) { return {LaneProgram(expr, axis_of(vary), step.tensors, layout), scratch}; }

  /// With s the reference and t the sum: e^(value - s), that of the sink, e^(value - s) / t, and s + ln t.
  void place_softmax(const Expr& of) {
    const DType type = step.accumulate;
    const auto shifted = [&](Expr expr) {
      const ExprId difference = expr.op(Op::sub, type, {expr.root(), expr.score(type, 0)});
      expr.set_root(expr.op(Op::exp, type, {difference}));
      return expr;
    };
    Expr power = shifted(of);
    exponential = place(power);
    power.set_root(power.op(Op::div, type, {power.root(), power.score(type, 1)}));
    weight = place(power);
    if (step.sink) {
      const Expr natural = accumulated(*step.sink, type);
      sink = place(natural);
      sink_exponential = place(shifted(natural));
    }
    Expr sum;
    const ExprId logarithm = sum.op(Op::log, type, {sum.score(type, 1)});
    sum.set_root(sum.op(Op::add, type, {sum.score(type, 0), logarithm}));
    logsumexp = place(sum);
  }

  LoopStep step;
  ArgsLayout layout;
  const IsaOps* ops;
  ScratchLayout scratch;
  int vary = 0;
  std::vector<int> outer;
  std::vector<DimFormula> extents;
  DType output_dtype;
  PlacedAccess output;
  PlacedProgram value, indices;
  std::optional<PlacedProgram> exponential, weight, sink, sink_exponential, logsumexp;
  int64_t products_at = 0;
};

class LoopRun {
 public:
  LoopRun(const LoopPlan& plan, const KernelArgs& args, std::byte* scratch)
      : plan_(plan), step_(plan.step), scratch_(scratch), dims_(args.meta, plan.layout.dims.size()) {
    at_.args = &args;
    extent_ = step_.extents.empty() ? 1 : plan.extents[static_cast<size_t>(plan.vary)].evaluate(dims_);
    evaluator(plan.value).start(at_);
    if (step_.kind == LoopKind::scatter) evaluator(plan.indices).start(at_);
    for (const auto* program : {&plan.exponential, &plan.weight, &plan.sink, &plan.sink_exponential, &plan.logsumexp})
      if (*program) evaluator(**program).start(at_);
  }

  void item(int64_t number) {
    if (step_.kind == LoopKind::scatter) return scatter();
    decode(plan_.outer, plan_.extents, dims_, number, at_);
    const Axis vary = LoopPlan::axis_of(plan_.vary);
    output_ = resolve(plan_.output, at_, *plan_.ops, scratch_, {}, vary);
    if (step_.kind == LoopKind::pointwise) return pointwise();
    switch (lane_of(step_.accumulate)) {
      case Lane::f32: return folded<float>();
      case Lane::f64: return folded<double>();
      case Lane::integer: return reduce<int64_t>();
    }
  }

 private:
  LaneEvaluator evaluator(const PlacedProgram& program) const { return program.evaluator(*plan_.ops, scratch_); }

  /// take(evaluator, first position, count) for every run of lanes of the row.
  template <class Take>
  void each(const PlacedProgram& program, const Take& take) {
    const LaneEvaluator lane = evaluator(program);
    lane.row(at_);
    for (int64_t first = 0; first < extent_; first += kLanes) {
      at_.first = first;
      at_.active = std::min(kLanes, extent_ - first);
      lane.lanes(at_);
      take(lane, first, at_.active);
    }
  }

  void store(Lane kind, int64_t first, int64_t count, const void* lanes) const {
    std::byte* to = output_.base + first * output_.dim * size_of(output_.dtype);
    store_lanes(output_.dtype, to, output_.dim, count, kind, lanes);
  }

  void pointwise() {
    const Lane kind = plan_.value.program.roots[0].lane;
    each(plan_.value, [&](const LaneEvaluator& lane, int64_t first, int64_t count) {
      store(kind, first, count, lane.root<std::byte>());
    });
  }

  template <class T, class Join>
  T fold(const PlacedProgram& program, T start, const Join& join) {
    std::array<T, kLanes> partial;
    partial.fill(start);
    each(program, [&](const LaneEvaluator& lane, int64_t, int64_t count) {
      const T* values = lane.root<T>();
      for (size_t i = 0; i < static_cast<size_t>(count); ++i) partial[i] = join(partial[i], values[i]);
    });
    T result = start;
    for (const T part : partial) result = join(result, part);
    return result;
  }

  template <class T>
  static constexpr Lane kKind = std::is_integral_v<T> ? Lane::integer
                                : sizeof(T) == 4      ? Lane::f32
                                                      : Lane::f64;

  template <class T>
  void reduce() {
    // A NaN on either side stays.
    const auto better = [](T x, T y, bool first) {
      if constexpr (std::is_floating_point_v<T>) return std::isnan(x) || first ? x : y;
      return first ? x : y;
    };
    T result{};
    using Limits = std::numeric_limits<T>;
    switch (step_.op) {
      case Op::reduce_max: {
        const T least = Limits::has_infinity ? -Limits::infinity() : lowest_integer<T>();
        result = fold<T>(plan_.value, least, [&](T x, T y) { return better(x, y, x > y); });
        break;
      }
      case Op::reduce_min: {
        const T most = Limits::has_infinity ? Limits::infinity() : static_cast<T>(-1 - lowest_integer<T>());
        result = fold<T>(plan_.value, most, [&](T x, T y) { return better(x, y, x < y); });
        break;
      }
      default: {
        using Sum = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;  // integers wrap
        result = fold<T>(plan_.value, T{0},
                         [](T x, T y) { return static_cast<T>(static_cast<Sum>(x) + static_cast<Sum>(y)); });
        if (step_.op == Op::reduce_mean) result /= static_cast<T>(extent_);
      }
    }
    store(kKind<T>, 0, 1, &result);
  }

  /// Of the accumulation type's width.
  template <class T>
  T lowest_integer() const {
    const int64_t bits = 8 * size_of(step_.accumulate);
    return static_cast<T>(INT64_MIN >> (64 - bits));
  }

  template <class T>
  void folded() {
    if (step_.kind == LoopKind::reduce && step_.op != Op::logsumexp) return reduce<T>();
    constexpr T kMinusInfinity = -std::numeric_limits<T>::infinity();
    auto* reference = reinterpret_cast<T*>(scratch_ + plan_.products_at);
    auto* sum = reinterpret_cast<T*>(scratch_ + plan_.products_at + kRegisterBytes);
    at_.products = {reference, sum};
    T largest = fold<T>(plan_.value, kMinusInfinity, [](T x, T y) { return y > x ? y : x; });
    if (plan_.sink) {
      const T sink = single<T>(*plan_.sink);
      largest = sink > largest ? sink : largest;
    }
    // So that (-inf) - reference stays -inf.
    std::fill(reference, reference + kLanes, largest == kMinusInfinity ? T{0} : largest);
    T total = fold<T>(*plan_.exponential, T{0}, [](T x, T y) { return x + y; });
    if (plan_.sink) total += single<T>(*plan_.sink_exponential);
    if (step_.kind == LoopKind::reduce) {
      std::fill(sum, sum + kLanes, total);
      const T lse = total == 0 ? kMinusInfinity : single<T>(*plan_.logsumexp);
      return store(kKind<T>, 0, 1, &lse);
    }
    std::fill(sum, sum + kLanes, total == 0 ? T{1} : total);
    each(*plan_.weight, [&](const LaneEvaluator& lane, int64_t first, int64_t count) {
      store(kKind<T>, first, count, lane.root<T>());
    });
  }

  /// A program that does not vary along the row.
  template <class T>
  T single(const PlacedProgram& program) {
    const LaneEvaluator lane = evaluator(program);
    at_.first = 0;
    at_.active = 1;
    lane.row(at_);
    lane.lanes(at_);
    return lane.root<T>()[0];
  }

  /// All updates, row-major, one after another: what an element gets does not depend on threads.
  void scatter() {
    const auto& shape = step_.tensors[static_cast<size_t>(step_.output.tensor)].type.shape;
    const auto tensor = static_cast<size_t>(step_.output.tensor);
    const int64_t* meta = at_.args->meta;
    for (size_t axis = 0; axis < shape.size(); ++axis)
      if (meta[plan_.layout.shape_offset[tensor] + static_cast<int64_t>(axis)] == 0) return;
    int64_t rows = 1;
    for (const int axis : plan_.outer) rows *= plan_.extents[static_cast<size_t>(axis)].evaluate(dims_);
    for (int64_t row = 0; row < rows; ++row) {
      decode(plan_.outer, plan_.extents, dims_, row, at_);
      const LaneEvaluator indices = evaluator(plan_.indices);
      indices.row(at_);
      each(plan_.value, [&](const LaneEvaluator& lane, int64_t, int64_t count) {
        indices.lanes(at_);
        for (int64_t i = 0; i < count; ++i) {
          int64_t offset = 0;
          for (size_t axis = 0; axis < shape.size(); ++axis)
            offset +=
                indices.root<int64_t>(axis)[i] * meta[plan_.layout.stride_offset[tensor] + static_cast<int64_t>(axis)];
          add(lane, i, offset);
        }
      });
    }
  }

  void add(const LaneEvaluator& lane, int64_t i, int64_t offset) const {
    const DType dtype = plan_.output_dtype;
    std::byte* to = static_cast<std::byte*>(at_.args->tensors[step_.output.tensor]) + offset * size_of(dtype);
    switch (plan_.value.program.roots[0].lane) {
      case Lane::f32: return add_real(dtype, to, lane.root<float>()[i]);
      case Lane::f64: return add_real(dtype, to, lane.root<double>()[i]);
      case Lane::integer: break;
    }
    uint64_t sum = 0;  // the low bytes of a little-endian sum do not need the high ones
    std::memcpy(&sum, to, static_cast<size_t>(size_of(dtype)));
    sum += static_cast<uint64_t>(lane.root<int64_t>()[i]);
    std::memcpy(to, &sum, static_cast<size_t>(size_of(dtype)));
  }
  template <class T>
  static void add_real(DType dtype, std::byte* to, T update) {
    T sum = 0;
    read_row(dtype, to, 1, 1, &sum);
    sum += update;
    write_row(dtype, to, 1, 1, &sum);
  }

  const LoopPlan& plan_;
  const LoopStep& step_;
  std::byte* scratch_;
  std::span<const int64_t> dims_;
  LaneContext at_;
  int64_t extent_ = 0;
  Rows output_;
};

using LoopKernel = ItemKernel<LoopPlan, LoopRun>;

}  // namespace

TierStep make_loop(const LoopStep& loop, CpuIsa isa) {
  auto kernel = std::make_shared<const LoopKernel>(loop, isa);
  const std::vector<int> none;
  const bool scatter = loop.kind == LoopKind::scatter;
  Expr items = extent_product(loop, scatter ? none : kernel->plan().outer);
  return make_step(tier_schedule(isa, loop.accumulate), std::move(items), std::move(kernel));
}

}  // namespace tilewright::tier
