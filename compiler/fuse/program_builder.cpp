#include "compiler/fuse/program_builder.h"

#include <algorithm>

#include "compiler/passes.h"

namespace tilewright::fusion {
namespace {

DType accumulation_type(std::initializer_list<DType> types) {
  DType out = DType::f32;
  for (DType type : types) {
    if (is_integer(type)) return type;
    if (type == DType::f64) out = DType::f64;
  }
  return out;
}

}  // namespace

const std::vector<SpecTensor>& FusedStep::spec_tensors() const {
  if (const auto* attention = std::get_if<AttentionStep>(&what)) return attention->spec.tensors;
  return std::get<BackwardStep>(what).spec.tensors;
}

ProgramBuilder::ProgramBuilder(const GraphFacts& facts, const std::vector<FusedStep>& fused,
                               const std::vector<Epilogue>& epilogues)
    : facts_(facts), graph_(facts.graph), fused_(fused) {
  program_.name = graph_.name;
  for (size_t i = 0; i < fused.size(); ++i)
    for (size_t t = 0; t < fused[i].tensors.size(); ++t)
      if (fused[i].spec_tensors()[t].output) written_by_[fused[i].tensors[t]] = i;
  for (const Epilogue& epilogue : epilogues) epilogue_of_[epilogue.output] = &epilogue;
}

Result<Program> ProgramBuilder::build() {
  for (size_t i = 0; i < graph_.params.size(); ++i) {
    const ValueId param = graph_.params[i];
    tensor_[param] = static_cast<int>(program_.tensors.size());
    program_.tensors.push_back({graph_[param].name, graph_.type(param), TensorRole::param, static_cast<int>(i)});
  }
  for (size_t i = 0; i < graph_.nodes.size(); ++i)
    if (graph_.nodes[i].op == Op::update) tensor_of(ValueId{static_cast<int32_t>(i)});
  for (size_t i = 0; i < graph_.results.size(); ++i) {
    const ValueId value = graph_.results[i];
    const int source = tensor_of(value);
    const ProgramTensor& tensor = program_.tensors[static_cast<size_t>(source)];
    if (tensor.role == TensorRole::result && tensor.position == static_cast<int>(i)) continue;
    const int copy = static_cast<int>(program_.tensors.size());
    program_.tensors.push_back({unique_name(tensor.name), tensor.type, TensorRole::result, static_cast<int>(i)});
    emit_copy(value, copy);
  }
  if (!errors_.empty()) return errors_;
  set_lifetimes();
  return std::move(program_);
}

std::string ProgramBuilder::unique_name(const std::string& stem) const {
  for (int i = 1;; ++i) {
    const std::string name = fmt::format("{}_{}", stem, i);
    const auto taken = [&](const auto& named) { return named.name == name; };
    if (std::none_of(graph_.nodes.begin(), graph_.nodes.end(), taken) &&
        std::none_of(program_.tensors.begin(), program_.tensors.end(), taken))
      return name;
  }
}

int ProgramBuilder::declare(ValueId value) {
  const Node& node = graph_[value];
  ProgramTensor tensor{node.name.empty() ? unique_name("value") : node.name, node.type, TensorRole::temporary};
  const auto position = std::find(graph_.results.begin(), graph_.results.end(), value);
  if (position != graph_.results.end()) {
    tensor.role = TensorRole::result;
    tensor.position = static_cast<int>(position - graph_.results.begin());
  }
  const int index = static_cast<int>(program_.tensors.size());
  program_.tensors.push_back(std::move(tensor));
  tensor_[value] = index;
  return index;
}

int ProgramBuilder::tensor_of(ValueId value) {
  if (auto found = tensor_.find(value); found != tensor_.end()) return found->second;
  emit(value);
  return tensor_.at(value);
}

void ProgramBuilder::emit(ValueId value) {
  const Node& node = graph_[value];
  if (auto found = written_by_.find(value); found != written_by_.end()) return emit_fused(fused_[found->second]);
  if (auto found = epilogue_of_.find(value); found != epilogue_of_.end())
    return emit_contract(found->second->contract, found->second);
  switch (info(node.op).group) {
    case OpGroup::reduce: return node.op == Op::scatter_add ? emit_scatter(value) : emit_reduce(value);
    case OpGroup::contract: return emit_contract(value, nullptr);
    default: break;
  }
  if (node.op == Op::concat) return emit_concat(value);
  if (node.op == Op::update) return emit_update(value);
  emit_pointwise(value);
}

void ProgramBuilder::emit_fused(const FusedStep& fused) {
  Step step;
  for (size_t i = 0; i < fused.tensors.size(); ++i)
    step.tensors.push_back(fused.spec_tensors()[i].output ? declare(fused.tensors[i]) : tensor_of(fused.tensors[i]));
  step.what = fused.what;
  program_.steps.push_back(std::move(step));
}

ProgramBuilder::LoopParts::LoopParts(const GraphFacts& facts, Region region, const Node& node, const Shape& extents)
    : tracer(facts, region) {
  step.name = node.name;
  step.extents = extents;
  for (size_t i = 0; i < extents.size(); ++i) at.push_back(tracer.math.axis(static_cast<Axis>(i), extents[i]));
}

Expr ProgramBuilder::simplified(const LoopParts& parts, ExprId id) const {
  AxisExtents extents;
  for (size_t i = 0; i < parts.step.extents.size(); ++i)
    extents.known.emplace_back(static_cast<Axis>(i), parts.step.extents[i]);
  return simplify(extract(parts.tracer.pool, id), extents);
}

void ProgramBuilder::finish(LoopParts& parts, int target, const Indices& output) {
  LoopStep& step = parts.step;
  Step out;
  std::vector<int> moved(parts.tracer.tensors.size(), -1);
  const auto keep_loads = [&](Expr& expr) {
    if (expr.empty()) return;
    for (const ExprNode& node : expr.nodes()) {
      if (node.tensor < 0 || moved[static_cast<size_t>(node.tensor)] >= 0) continue;
      moved[static_cast<size_t>(node.tensor)] = static_cast<int>(step.tensors.size());
      const int tensor = tensor_of(parts.tracer.tensors[static_cast<size_t>(node.tensor)]);
      const ProgramTensor& source = program_.tensors[static_cast<size_t>(tensor)];
      step.tensors.push_back({source.name, source.type, false});
      out.tensors.push_back(tensor);
    }
    expr = with_tensors(expr, moved);
  };
  keep_loads(step.value);
  keep_loads(step.value2);
  if (step.sink) keep_loads(*step.sink);
  keep_loads(step.epilogue);
  for (ExprId axis : output) keep_loads(step.output.axes.emplace_back(simplified(parts, axis)));
  step.output.tensor = static_cast<int>(step.tensors.size());
  const ProgramTensor& written = program_.tensors[static_cast<size_t>(target)];
  step.tensors.push_back({written.name, written.type, true});
  out.tensors.push_back(target);
  out.what = std::move(step);
  program_.steps.push_back(std::move(out));
}

void ProgramBuilder::emit_pointwise(ValueId value) {
  const Node& node = graph_[value];
  LoopParts parts(facts_, Region::loop, node, node.type.shape);
  parts.step.value = simplified(parts, parts.tracer.compute(value, parts.at));
  parts.step.accumulate = accumulation_type({node.type.dtype});
  finish(parts, declare(value), parts.at);
}

void ProgramBuilder::emit_copy(ValueId value, int target) {
  const Node& node = graph_[value];
  LoopParts parts(facts_, Region::loop, node, node.type.shape);
  const int tensor = parts.tracer.tensor(value);
  ExprId load = parts.tracer.pool.load(tensor, node.type.dtype, parts.at, true);
  parts.step.name = program_.tensors[static_cast<size_t>(target)].name;
  parts.step.value = extract(parts.tracer.pool, parts.tracer.cast(load, node.type.dtype));
  parts.step.accumulate = accumulation_type({node.type.dtype});
  finish(parts, target, parts.at);
}

void ProgramBuilder::emit_concat(ValueId value) {
  const Node& node = graph_[value];
  const auto axis = static_cast<size_t>(node.attributes.axis);
  const int target = declare(value);
  Dim begin = 0;
  for (ValueId part : node.operands) {
    LoopParts parts(facts_, Region::loop, node, graph_.type(part).shape);
    parts.step.value = simplified(parts, parts.tracer.read(part, parts.at));
    parts.step.accumulate = accumulation_type({node.type.dtype});
    Indices output = parts.at;
    output[axis] = parts.tracer.math.add(output[axis], parts.tracer.math.constant(begin));
    finish(parts, target, output);
    begin = begin + graph_.type(part).shape[axis];
  }
}

/// Writes the new rows into the inout param; the value is that tensor from here on.
void ProgramBuilder::emit_update(ValueId value) {
  TW_CHECK(updates_in_place(graph_, value));
  const Node& node = graph_[value];
  const auto axis = static_cast<size_t>(node.attributes.axis);
  const ValueId rows = node.operands[1], position = node.operands[2];
  const int target = tensor_of(node.operands[0]);
  LoopParts parts(facts_, Region::loop, node, graph_.type(rows).shape);
  Tracer& t = parts.tracer;
  parts.step.value = simplified(parts, t.read(rows, parts.at));
  parts.step.accumulate = accumulation_type({node.type.dtype});
  const Indices where = graph_.type(position).rank() == 1 ? Indices{parts.at[0]} : Indices{};
  const ExprId last = t.pool.dim(node.type.shape[axis] - graph_.type(rows).shape[axis]);
  ExprId begin = t.pool.op(Op::min, DType::i64, {t.cast(t.read(position, where), DType::i64), last});
  begin = t.pool.op(Op::max, DType::i64, {begin, t.pool.constant_int(0, DType::i64)});
  Indices output = parts.at;
  output[axis] = t.math.add(output[axis], begin);
  finish(parts, target, output);
  tensor_[value] = target;
}

void ProgramBuilder::emit_reduce(ValueId value) {
  const Node& node = graph_[value];
  const TensorType& operand = graph_.type(node.operands[0]);
  const auto axis = static_cast<size_t>(node.attributes.axis);
  LoopParts parts(facts_, Region::loop, node, operand.shape);
  LoopStep& step = parts.step;
  step.kind = node.op == Op::softmax ? LoopKind::softmax : LoopKind::reduce;
  step.op = node.op;
  step.axis = static_cast<int>(axis);
  step.accumulate = accumulation_type({operand.dtype, node.type.dtype});
  step.value = simplified(parts, parts.tracer.read(node.operands[0], parts.at));
  Indices row = parts.at;
  row[axis] = parts.tracer.math.constant(0);
  if (const ValueId sink = Graph::operand(node, 1); sink != kNoValue) {
    const Shape& shape = graph_.type(sink).shape;
    const bool per_head = shape.size() == 1 && !shape[0].is_constant(1) && row.size() >= 3 && axis + 1 == row.size();
    const Indices at = per_head ? Indices{row[row.size() - 3]} : broadcast_indices(parts.tracer.math, shape, row);
    step.sink = simplified(parts, parts.tracer.read(sink, at));
  }
  Indices output = node.op == Op::softmax ? parts.at : row;
  if (node.op != Op::softmax && !node.attributes.keepdims) output.erase(output.begin() + node.attributes.axis);
  finish(parts, declare(value), output);
}

/// Zeros, then the updates added one after another.
void ProgramBuilder::emit_scatter(ValueId value) {
  const Node& node = graph_[value];
  const int target = declare(value);
  LoopParts zeros(facts_, Region::loop, node, node.type.shape);
  zeros.step.accumulate = accumulation_type({node.type.dtype});
  zeros.step.value.set_root(is_float(node.type.dtype) ? zeros.step.value.constant(0, node.type.dtype)
                                                      : zeros.step.value.constant_int(0, node.type.dtype));
  finish(zeros, target, zeros.at);

  LoopParts parts(facts_, Region::loop, node, graph_.type(node.operands[0]).shape);
  LoopStep& step = parts.step;
  step.kind = LoopKind::scatter;
  step.op = node.op;
  step.accumulate = accumulation_type({node.type.dtype});
  Tracer& t = parts.tracer;
  step.value = simplified(parts, t.read(node.operands[0], parts.at));
  Indices output;
  for (size_t i = 1; i < node.operands.size(); ++i) {
    const ExprId index = t.cast(t.read_operand(node, i, parts.at), DType::i64);
    const ExprId low = t.pool.op(Op::max, DType::i64, {index, t.pool.constant_int(0, DType::i64)});
    output.push_back(t.pool.op(Op::min, DType::i64, {low, t.pool.dim(node.type.shape[i - 1] - 1)}));
  }
  finish(parts, target, output);
}

void ProgramBuilder::emit_contract(ValueId value, const Epilogue* epilogue) {
  const Node& node = graph_[value];
  const ValueId written = epilogue ? epilogue->output : value;
  const Shape &a = graph_.type(node.operands[0]).shape, &b = graph_.type(node.operands[1]).shape;
  Shape extents = node.type.shape;
  extents.push_back(a.back());
  if (extents.size() > 8) {
    Diagnostic d =
        unsupported("{} of rank {} is not supported, at most 7 axes are", info(node.op).name, node.type.rank());
    d.value = node.name;
    d.line = node.line;
    errors_.add(std::move(d));
    declare(written);
    return;
  }
  LoopParts parts(facts_, Region::contract, graph_[written], extents);
  LoopStep& step = parts.step;
  step.kind = LoopKind::contract;
  step.axis = static_cast<int>(extents.size()) - 1;
  step.accumulate = accumulation_type({graph_.type(node.operands[0]).dtype, node.type.dtype});
  if (graph_.type(node.operands[0]).dtype == DType::f32 && step.accumulate == DType::f32)
    step.precision = graph_.precision.value_or(PrecisionPolicy::f32);
  const size_t lead = node.type.shape.size() - 2;
  const ExprId row = parts.at[lead], column = parts.at[lead + 1], k = parts.at[lead + 2];
  const Indices lead_at(parts.at.begin(), parts.at.begin() + static_cast<int64_t>(lead));
  const auto operand = [&](const Shape& shape, ExprId outer, bool k_last) {
    Indices at = broadcast_indices(parts.tracer.math, Shape(shape.begin(), shape.end() - 2), lead_at);
    at.push_back(k_last ? outer : k);
    at.push_back(k_last ? k : outer);
    return at;
  };
  const ExprId left = parts.tracer.read(node.operands[0], operand(a, row, true));
  const ExprId right = parts.tracer.read(node.operands[1], operand(b, column, node.op == Op::matmul_nt));
  step.value = simplified(parts, parts.tracer.cast(left, step.accumulate));
  step.value2 = simplified(parts, parts.tracer.cast(right, step.accumulate));
  Indices output = parts.at;
  output.pop_back();
  if (epilogue) {
    Tracer& tracer = parts.tracer;
    const ExprId sum = tracer.cast(tracer.pool.score(step.accumulate), node.type.dtype);
    tracer.enter(Region::loop);
    tracer.computed_here = &epilogue->members;
    tracer.on_contract = [&](ValueId id, const Indices&) {
      return id == value ? std::optional<ExprId>(sum) : std::nullopt;
    };
    step.epilogue = simplified(parts, tracer.compute(written, output));
  }
  finish(parts, declare(written), output);
}

void ProgramBuilder::set_lifetimes() {
  for (size_t t = 0; t < program_.tensors.size(); ++t) {
    ProgramTensor& tensor = program_.tensors[t];
    bool seen = false;
    for (size_t s = 0; s < program_.steps.size(); ++s) {
      const auto& used = program_.steps[s].tensors;
      if (std::find(used.begin(), used.end(), static_cast<int>(t)) == used.end()) continue;
      if (!seen) tensor.first_step = static_cast<int>(s);
      tensor.last_step = static_cast<int>(s);
      seen = true;
    }
  }
}

}  // namespace tilewright::fusion
