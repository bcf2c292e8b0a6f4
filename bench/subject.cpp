#include "bench/subject.h"

#include <cmath>
#include <cstring>
#include <limits>

namespace tilewright::bench {

Result<Subject> Subject::create(const Engine& engine, Graph graph, DimBindings dims, const CompileOptions& options) {
  auto kernel = engine.compile(graph, options);
  if (!kernel) return kernel.error();
  Subject subject(std::move(*kernel), std::move(dims));
  auto inputs = make_inputs(graph, subject.dims_, 1, *engine.executor());
  if (!inputs) return inputs.error();
  auto outputs = make_outputs(subject.kernel_, subject.dims_);
  if (!outputs) return outputs.error();
  for (const HostTensor& each : *outputs)  // so that no run pays for fresh pages
    std::memset(each.view.data, 0, static_cast<size_t>(each.view.element_count() * size_of(each.view.dtype)));
  subject.inputs_ = std::move(*inputs);
  subject.outputs_ = std::move(*outputs);
  subject.in_ = views(subject.inputs_);
  subject.out_ = views(subject.outputs_);
  subject.work_ = count_work(subject.kernel_.program(), subject.dims_, subject.in_);
  return subject;
}

double Subject::run(const std::shared_ptr<Executor>& executor, TimeOf clock, int64_t workspace_limit) const {
  RunOptions options;
  options.executor = executor;
  options.workspace_limit = workspace_limit;
  if (workspace_limit < 0) {  // memory of our own, so that no run pays for fresh pages
    const auto bytes = kernel_.workspace_bytes(dims_, executor->workers());
    TW_CHECK(bytes.ok());
    if (static_cast<int64_t>(workspace_.size()) < *bytes + 64) workspace_.resize(static_cast<size_t>(*bytes) + 64);
    const size_t past = reinterpret_cast<uintptr_t>(workspace_.data()) % 64;
    options.workspace = workspace_.data() + (past ? 64 - past : 0);
    options.workspace_bytes = *bytes;
  }
  const double start = now(clock);
  TW_CHECK(kernel_.run(in_, out_, options).ok());
  return now(clock) - start;
}

size_t Subject::fused_step() const {
  const auto& steps = kernel_.program().steps;
  size_t step = 0;
  while (step < steps.size() && std::holds_alternative<LoopStep>(steps[step].what)) ++step;
  TW_CHECK(step < steps.size());
  return step;
}

const AttentionSpec& Subject::spec() const {
  return std::get<AttentionStep>(kernel_.program().steps[fused_step()].what).spec;
}

const CpuSchedule& Subject::schedule() const {
  const auto choices = kernel_.choices(dims_);
  TW_CHECK(choices.ok());
  const size_t step = fused_step();
  return kernel_.stats().step_reports[step].schedules[(*choices)[step]];
}

double Subject::visited() const {
  const Step& step = kernel_.program().steps[fused_step()];
  return count_visited(spec(), dims_, step_tensors(kernel_.program(), step, in_),
                       {schedule().strip_rows, schedule().block_kv, schedule().nr()});
}

int64_t Subject::input_bytes() const {
  int64_t bytes = 0;
  for (const TensorView& view : in_) bytes += view.element_count() * size_of(view.dtype);
  return bytes;
}

Graph attention_graph(const AttentionShape& shape, Scores scores) {
  const Dim batch = Dim::named("B"), q_len = Dim::named("Sq"), kv_len = Dim::named("Sk");
  GraphBuilder b("attention");
  const ValueId q = b.param("q", {shape.dtype, {batch, shape.heads, q_len, shape.head_dim}});
  ValueId k = b.param("k", {shape.dtype, {batch, shape.kv_heads, kv_len, shape.head_dim}});
  ValueId v = b.param("v", {shape.dtype, {batch, shape.kv_heads, kv_len, shape.head_dim}});
  if (shape.heads != shape.kv_heads) {
    k = b.repeat_heads(k, shape.heads / shape.kv_heads);
    v = b.repeat_heads(v, shape.heads / shape.kv_heads);
  }
  const DType wide = shape.dtype == DType::f64 ? DType::f64 : DType::f32;
  ValueId s =
      b.binary(Op::mul, b.matmul_nt(q, k), b.constant(1 / std::sqrt(static_cast<double>(shape.head_dim)), wide));
  const ValueId minus_inf = b.constant(-std::numeric_limits<double>::infinity(), wide);
  const ValueId i = b.index(2, {1, 1, q_len, 1}), j = b.index(3, {1, 1, 1, kv_len});
  switch (scores) {
    case Scores::plain:
    case Scores::dropout: break;
    case Scores::causal: s = b.mask_causal(s, CausalAlign::bottom_right); break;
    case Scores::alibi: s = b.alibi(s, b.param("slope", {wide, {shape.heads}}), CausalAlign::bottom_right); break;
    case Scores::window: s = b.mask_window(s, 1023, 0, CausalAlign::bottom_right); break;
    case Scores::softcap: s = b.softcap(s, 50); break;
    case Scores::bias: s = b.binary(Op::add, s, b.param("bias", {wide, {1, shape.heads, q_len, kv_len}})); break;
    case Scores::documents: {
      const ValueId doc = b.param("doc", {DType::i32, {kv_len}});
      s = b.select(b.binary(Op::eq, b.load(doc, {i}), b.load(doc, {j})), s, minus_inf);
      break;
    }
    case Scores::gather: {
      const ValueId table = b.param("table", {wide, {1024, shape.heads}});
      const ValueId rel = b.param("rel", {DType::i32, {q_len, kv_len}});
      const ValueId entry = b.load(rel, {i, j});
      s = b.binary(Op::add, s, b.load(table, {entry, b.index(1, {1, shape.heads, 1, 1}, DType::i32)}));
      break;
    }
  }
  ValueId p = b.softmax(s, 3);
  if (scores == Scores::dropout) p = b.dropout(p, b.constant_int(42, DType::i64), b.constant_int(0, DType::i64), 0.1);
  if (shape.dtype == wide)
    b.result(b.named(b.matmul(p, v), "o"));
  else
    b.result(b.named(b.cast(b.matmul(b.cast(p, shape.dtype), v), shape.dtype), "o"));
  return b.take();
}

Graph modification_graph(Scores scores) {
  const Dim rows = Dim::named("R"), columns = Dim::named("C");
  GraphBuilder b("modification");
  const ValueId s = b.param("s", {DType::f32, {rows, columns}});
  if (scores == Scores::softcap) {
    b.result(b.named(b.softcap(s, 50), "t"));
    return b.take();
  }
  if (scores == Scores::dropout) {
    b.result(b.named(b.dropout(s, b.constant_int(42, DType::i64), b.constant_int(0, DType::i64), 0.1), "t"));
    return b.take();
  }
  TW_CHECK(scores == Scores::gather);
  const ValueId table = b.param("table", {DType::f32, {1024, 8}});
  const ValueId rel = b.param("rel", {DType::i32, {rows, columns}});
  const ValueId entry = b.load(rel, {b.index(0, {rows, 1}), b.index(1, {1, columns})});
  b.result(b.named(b.binary(Op::add, s, b.load(table, {entry, b.constant_int(3, DType::i32)})), "t"));
  return b.take();
}

}  // namespace tilewright::bench
