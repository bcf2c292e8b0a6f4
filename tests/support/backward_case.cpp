#include "tests/support/backward_case.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <atomic>
#include <cmath>
#include <map>
#include <thread>

#include "ir/result.h"
#include "ir/text.h"
#include "runtime/orc_jit.h"

namespace tilewright::testing {
namespace {

struct Builder {
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

int64_t value_of(const Expr& expr, const DimBindings& dims) {
  const std::vector<int64_t> axes(12, 0);
  return evaluate_int(expr, dims, {}, axes);
}

TestTensor guarded_bytes(int64_t bytes) {
  std::mt19937_64 random(0);
  TestTensor memory(DType::i8, {(bytes + 63) / 64 * 64}, Layout::contiguous, random);
  memory.poison();
  return memory;
}

struct Compiled {
  std::shared_ptr<const JitCode> code;
  LaunchInfo launch;
  int64_t ir_instructions = 0;
};

const Compiled& compile(const BackwardCase& test, const CpuSchedule& schedule, const CpuTarget& target) {
  static std::map<std::string, Compiled> done;
  Compiled& compiled = done[print(test.spec) + print(schedule) + std::string(to_string(target.isa))];
  if (compiled.code) return compiled;
  CpuKernelSource source = generate_backward(test.spec, schedule, target, "case");
  compiled.launch = std::move(source.launch);
  auto object = compile_module(std::move(source.module), target, {.verify = true});
  if (!object) {
    ADD_FAILURE() << to_string(object.error());
    return compiled;
  }
  auto code = JitCode::load(object->bytes);
  if (!code) {
    ADD_FAILURE() << to_string(code.error());
    return compiled;
  }
  compiled.code = *code;
  compiled.ir_instructions = object->ir_instructions;
  return compiled;
}

}  // namespace

std::string BackwardOptions::text() const {
  return fmt::format("{}; captured {} row_sum {} key_sum {} table {} wide {}", forward.text(), captured, row_sum,
                     key_sum, table, wide_gradients);
}

std::vector<TensorView> BackwardCase::views() const {
  std::vector<TensorView> result;
  for (const TestTensor& tensor : tensors) result.push_back(tensor.view());
  return result;
}

BackwardCase make_backward_case(const BackwardOptions& options, std::mt19937_64& random) {
  CaseOptions forward_options = options.forward;
  forward_options.lse = true;
  AttentionCase forward = make_case(forward_options, random);
  analyze_mask(forward.spec);
  Builder b{options, {}, random};
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
    Builder::fill(b.c.tensors[at], access.tensor == statistics.tensor ? 1 : 0, 1, random);
  }
  // Slopes times distances are scores of tens, whose exponentials no LSE of the order of 1 holds down.
  for (size_t i = 0; i < spec.tensors.size(); ++i)
    if (spec.tensors[i].name == "slopes") Builder::fill(b.c.tensors[i], 0, 0.01, random);
  spec.output_gradient = DotTerm{output_gradient, forward.spec.value, forward.spec.value_dim};
  const DType t = spec.accumulate;
  const Dim B = Dim::named("B"), H = Dim(options.forward.heads);
  Builder::fill(b.tensor("delta", t, {B, H, spec.q_len}, false), 0, 1, random);
  const int delta = b.last();

  Expr& e = spec.weights;
  const ExprId batch = e.index(Axis::b), head = e.index(Axis::h), q = e.index(Axis::q), kv = e.index(Axis::kv);
  const ExprId score = e.import(forward.spec.score);
  const ExprId lse = e.load(statistics.tensor, t, {batch, head, q}, true);
  const ExprId row = e.load(delta, t, {batch, head, q}, true);
  const ExprId p = e.op(Op::exp, t, {e.op(Op::sub, t, {score, lse})});
  const ExprId de = e.op(Op::mul, t, {p, e.op(Op::sub, t, {e.score(t, 1), row})});
  const ExprId ds = e.op(Op::mul, t, {de, derivative(options.forward, e, t)});

  for (size_t i = 0; i < spec.dots.size(); ++i) {
    const std::string suffix = i ? "2" : "";
    const DotTerm dot = spec.dots[i];
    spec.rows.push_back({ds, dot.key, dot.head_dim, b.output("dq" + suffix, dot.query)});
    spec.columns.push_back({ds, dot.query, dot.head_dim, b.output("dk" + suffix, dot.key)});
  }
  spec.columns.push_back({p, output_gradient, forward.spec.value_dim, b.output("dv", forward.spec.value)});

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
  const Compiled& compiled = compile(test, schedule, target);
  if (!compiled.code) return 0;
  const LaunchInfo& launch = compiled.launch;
  const ArgsLayout layout = args_layout(test.spec);
  std::vector<int64_t> meta(static_cast<size_t>(layout.size));
  for (size_t i = 0; i < layout.dims.size(); ++i) meta[i] = test.dims.find(layout.dims[i])->second;
  std::vector<void*> pointers;
  for (size_t i = 0; i < test.tensors.size(); ++i) {
    const TensorView& view = test.tensors[i].view();
    pointers.push_back(view.data);
    for (int axis = 0; axis < view.rank; ++axis) {
      meta[static_cast<size_t>(layout.shape_offset[i] + axis)] = view.shape[static_cast<size_t>(axis)];
      meta[static_cast<size_t>(layout.stride_offset[i] + axis)] = view.strides[static_cast<size_t>(axis)];
    }
  }
  const TestTensor workspace = guarded_bytes(value_of(launch.workspace_bytes, test.dims));
  const KernelArgs args{pointers.data(), meta.data(), workspace.view().data, nullptr};
  for (const LaunchPhase& phase : launch.phases) {
    const auto function = compiled.code->find_as<KernelFunction>(phase.symbol);
    if (!function) {
      ADD_FAILURE() << "no symbol " << phase.symbol;
      return 0;
    }
    const int64_t items = value_of(phase.items, test.dims);
    std::atomic<int64_t> next{0};
    auto work = [&] {
      const unsigned saved = _mm_getcsr();
      _mm_setcsr(saved | 0x8040);  // as the runtime runs them: subnormals are zero
      const TestTensor scratch = guarded_bytes(launch.scratch_bytes);
      for (int64_t item = next++; item < items; item = next++) function(&args, item, item + 1, scratch.view().data);
      _mm_setcsr(saved);
    };
    std::vector<std::thread> helpers;
    for (int i = 1; i < workers; ++i) helpers.emplace_back(work);
    work();
    for (std::thread& helper : helpers) helper.join();
  }
  return compiled.ir_instructions;
}

std::vector<OracleTensor> expected_gradients(const BackwardCase& test) {
  auto want = interpret(test.spec, test.dims, test.views());
  if (want) return std::move(*want);
  ADD_FAILURE() << to_string(want.error());
  return std::vector<OracleTensor>(test.tensors.size());
}

void check_backward_case(const BackwardCase& test, const std::vector<OracleTensor>& want) {
  size_t output = 0;
  for (size_t i = 0; i < test.tensors.size(); ++i) {
    const SpecTensor& tensor = test.spec.tensors[i];
    EXPECT_TRUE(test.tensors[i].gaps_intact()) << "bytes around " << tensor.name << " were written";
    if (!tensor.output) continue;
    const std::vector<long double>& values = want[output++].values;
    ASSERT_EQ(static_cast<int64_t>(values.size()), test.tensors[i].size());
    double largest = 0;
    for (long double value : values)
      if (std::isfinite(static_cast<double>(value))) largest = std::max(largest, std::abs(static_cast<double>(value)));
    const double unit = tensor.type.dtype == DType::bf16 ? 0x1p-8 : tensor.type.dtype == DType::f16 ? 0x1p-11 : 0;
    const double arithmetic = test.spec.accumulate == DType::f64 ? 1e-12 : 2e-5;
    for (size_t at = 0; at < values.size(); ++at) {
      const auto expected = static_cast<double>(values[at]);
      const double got = test.tensors[i].get(static_cast<int64_t>(at));
      if (std::isnan(expected))
        ASSERT_TRUE(std::isnan(got)) << tensor.name << " element " << at << ": got " << got << ", want NaN";
      else
        ASSERT_TRUE(std::abs(got - expected) <= arithmetic * largest + unit * std::abs(expected))
            << tensor.name << " element " << at << ": got " << got << ", want " << expected;
    }
  }
}

}  // namespace tilewright::testing
