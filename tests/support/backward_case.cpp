#include "tests/support/backward_case.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ir/result.h"
#include "ir/text.h"
#include "tests/support/spec_kernel.h"

namespace tilewright::testing {
namespace {

/// Tensors of a backward spec, made beside it.
struct GradientTensors {
  const BackwardOptions& o;
  BackwardCase c;
  std::mt19937_64& random;

  TestTensor& tensor(const std::string& name, DType dtype, Shape shape, bool output) {
    c.spec.tensors.push_back({name, {dtype, shape}, output});
    std::vector<int64_t> sizes;
    for (const Dim& dim : shape) sizes.push_back(*dim.evaluate(c.dims));
    c.tensors.emplace_back(dtype, sizes, o.forward.layout, random);
    c.tensors.back().poison();
    return c.tensors.back();
  }
  int last() const { return static_cast<int>(c.spec.tensors.size()) - 1; }

  static void fill(TestTensor& tensor, double mean, double deviation, std::mt19937_64& random) {
    std::normal_distribution<double> normal(mean, deviation);
    for (int64_t i = 0; i < tensor.size(); ++i) tensor.set(i, normal(random));
  }

  DType gradient_type(DType of) const { return o.wide_gradients ? c.spec.accumulate : of; }

  /// An output that lies as `like` does.
  Access output(const std::string& name, const Access& like) {
    const TensorType type = c.spec.tensors[static_cast<size_t>(like.tensor)].type;
    tensor(name, gradient_type(type.dtype), type.shape, true);
    return {last(), like.axes};
  }
};

/// d score / d s, for the score expressions of attention_case.
ExprId derivative(const CaseOptions& o, Expr& e, DType t) {
  const ExprId scale = e.constant(1 / std::sqrt(double(o.dqk)), t);
  if (o.score != Score::softcap) return scale;
  const ExprId x = e.op(Op::div, t, {e.op(Op::mul, t, {e.score(t), scale}), e.constant(2, t)});
  const ExprId y = e.op(Op::tanh, t, {x});
  const ExprId slope = e.op(Op::sub, t, {e.constant(1, t), e.op(Op::mul, t, {y, y})});
  return e.op(Op::mul, t, {slope, scale});
}

}  // namespace

std::string BackwardOptions::text() const {
  return fmt::format("{}; captured {} row_sum {} key_sum {} table {} wide {}", forward.text(), captured, row_sum,
                     key_sum, table, wide_gradients);
}

BackwardCase make_backward_case(const BackwardOptions& options, std::mt19937_64& random) {
  CaseOptions forward_options = options.forward;
  forward_options.lse = true;
  AttentionCase forward = make_case(forward_options, random);
  analyze_mask(forward.spec);
  GradientTensors b{options, {}, random};
  BackwardSpec& spec = b.c.spec;
  b.c.options = options;
  static_cast<ScoreSpace&>(spec) = forward.spec;
  b.c.dims = forward.dims;
  b.c.tensors = std::move(forward.tensors);
  // What the forward pass writes is read here: O's place holds dO.
  const Access output_gradient = forward.spec.output, statistics = *forward.spec.logsumexp;
  for (const auto& [access, name] : {std::pair{output_gradient, "do"}, std::pair{statistics, "lse"}}) {
    const auto at = static_cast<size_t>(access.tensor);
    spec.tensors[at].name = name;
    spec.tensors[at].output = false;
    GradientTensors::fill(b.c.tensors[at], access.tensor == statistics.tensor ? 1 : 0, 1, random);
  }
  // Slopes times distances are scores of tens, whose exponentials no LSE of the order of 1 holds down.
  for (size_t i = 0; i < spec.tensors.size(); ++i)
    if (spec.tensors[i].name == "slopes") GradientTensors::fill(b.c.tensors[i], 0, 0.01, random);
  spec.output_gradient = DotTerm{output_gradient, forward.spec.value, forward.spec.value_dim};
  const DType t = spec.accumulate;
  const Dim B = Dim::named("B"), H = Dim(options.forward.heads);
  GradientTensors::fill(b.tensor("delta", t, {B, H, spec.q_len}, false), 0, 1, random);
  const int delta = b.last();

  Expr& e = spec.weights;
  const ExprId batch = e.index(Axis::b), head = e.index(Axis::h), q = e.index(Axis::q), kv = e.index(Axis::kv);
  const ExprId score = e.import(forward.spec.score);
  const ExprId lse = e.load(statistics.tensor, t, {batch, head, q}, true);
  const ExprId row = e.load(delta, t, {batch, head, q}, true);
  const ExprId p = e.op(Op::exp, t, {e.op(Op::sub, t, {score, lse})});
  ExprId dp = e.score(t, 1), dropped = p;
  if (forward.spec.weight_factor) {
    const ExprId factor = e.import(*forward.spec.weight_factor);
    dp = e.op(Op::mul, t, {factor, dp});
    dropped = e.op(Op::mul, t, {p, factor});
  }
  const ExprId de = e.op(Op::mul, t, {p, e.op(Op::sub, t, {dp, row})});
  const ExprId ds = e.op(Op::mul, t, {de, derivative(options.forward, e, t)});

  // Wide gradients stand for graphs whose arithmetic is wide.
  const DType rounding = options.wide_gradients ? DType::f32 : rounding_of(options.forward.dtype);
  for (size_t i = 0; i < spec.dots.size(); ++i) {
    const std::string suffix = i ? "2" : "";
    const DotTerm dot = spec.dots[i];
    spec.rows.push_back({ds, dot.key, dot.head_dim, b.output("dq" + suffix, dot.query), rounding});
    spec.columns.push_back({ds, dot.query, dot.head_dim, b.output("dk" + suffix, dot.key), rounding});
  }
  const Access dv = b.output("dv", forward.spec.value);
  spec.columns.push_back({dropped, output_gradient, forward.spec.value_dim, dv, rounding});

  const DType narrow = b.gradient_type(options.forward.dtype);
  if (options.captured && options.forward.score == Score::bias) {
    b.tensor("dbias", narrow, {Dim(1), H, spec.q_len, spec.kv_len}, true);
    spec.captured.push_back({de, b.last(), {e.constant_int(0, DType::i64), head, q, kv}, true});
  }
  if (options.captured && options.forward.score == Score::alibi) {
    b.tensor("dslopes", narrow, {H}, true);
    const ExprId distance = e.op(Op::cast, t, {e.op(Op::sub, DType::i64, {kv, q})});
    spec.captured.push_back({e.op(Op::mul, t, {de, distance}), b.last(), {head}, true});
  }
  if (options.row_sum) {
    b.tensor("rows", narrow, {B, H, spec.q_len}, true);
    spec.captured.push_back({de, b.last(), {batch, head, q}, true});
  }
  if (options.key_sum) {
    b.tensor("keys", narrow, {spec.kv_len}, true);
    spec.captured.push_back({p, b.last(), {kv}, true});
  }
  if (options.table) {
    b.tensor("table", narrow, {Dim(9), H}, true);
    const ExprId at = e.op(Op::add, DType::i64, {e.op(Op::sub, DType::i64, {kv, q}), e.constant_int(4, DType::i64)});
    spec.captured.push_back({p, b.last(), {at, head}, false});
  }
  const std::vector<ExprId*> all = roots(spec);
  spec.weights = e.pruned(all);
  return std::move(b.c);
}

int64_t run_backward_case(const BackwardCase& test, const CpuSchedule& schedule, const CpuTarget& target, int workers) {
  const SpecKernel& kernel = spec_kernel(print(test.spec), schedule, target,
                                         [&] { return generate_backward(test.spec, schedule, target, "case"); });
  return run_spec_kernel(kernel, args_layout(test.spec), test.dims, test.tensors, {.workers = workers});
}

std::vector<OracleTensor> expected_gradients(const BackwardCase& test) {
  auto want = interpret(test.spec, test.dims, views_of(test.tensors));
  if (want) return std::move(*want);
  ADD_FAILURE() << to_string(want.error());
  return std::vector<OracleTensor>(test.tensors.size());
}

std::string wrong_gradient(const BackwardCase& test, const std::vector<OracleTensor>& want, double weights) {
  size_t output = 0;
  for (size_t i = 0; i < test.tensors.size(); ++i) {
    const SpecTensor& tensor = test.spec.tensors[i];
    if (!test.tensors[i].gaps_intact()) return fmt::format("bytes around {} were written", tensor.name);
    if (!tensor.output) continue;
    const std::vector<long double>& values = want[output++].values;
    if (static_cast<int64_t>(values.size()) != test.tensors[i].size()) return tensor.name + " has another size";
    double largest = 0;
    for (long double value : values)
      if (std::isfinite(static_cast<double>(value))) largest = std::max(largest, std::abs(static_cast<double>(value)));
    const double unit = tensor.type.dtype == DType::bf16 ? 0x1p-8 : tensor.type.dtype == DType::f16 ? 0x1p-11 : 0;
    const double arithmetic = std::max(weights, test.spec.accumulate == DType::f64 ? 1e-12 : 2e-5);
    for (size_t at = 0; at < values.size(); ++at) {
      const auto expected = static_cast<double>(values[at]);
      const double got = test.tensors[i].get(static_cast<int64_t>(at));
      constexpr double kLargestF16 = 65504;
      const bool overflows = tensor.type.dtype == DType::f16 && std::abs(expected) > kLargestF16;
      const bool right = std::isnan(expected) ? std::isnan(got)
                         : overflows && std::isinf(got)
                             ? std::signbit(got) == std::signbit(expected)
                             : std::abs(got - expected) <= arithmetic * largest + unit * std::abs(expected);
      if (!right) return fmt::format("{} element {}: got {}, want {}", tensor.name, at, got, expected);
    }
  }
  return {};
}

void check_backward_case(const BackwardCase& test, const std::vector<OracleTensor>& want, double weights) {
  EXPECT_EQ(wrong_gradient(test, want, weights), "");
}

}  // namespace tilewright::testing
