// The second half of an attempt: where O and LSE go, and the spec's own tensor table.
#include "compiler/fuse/attempt.h"

namespace tilewright::fusion {

Access Attempt::access(ValueId tensor, const Indices& at) {
  Access out;
  out.tensor = t_.tensor(tensor);
  for (ExprId axis : at) out.axes.push_back(extract(t_.pool, axis));
  return out;
}

void Attempt::find_output() {
  Indices at = frame_.lead;
  at.push_back(weights_.operand == 1 ? d_ : frame_.q);
  at.push_back(weights_.operand == 1 ? frame_.q : d_);
  match_.output = follow_views(facts_, t_, pv_, at, Axis::q, true);
  spec_.output = access(match_.output, at);
}

bool Attempt::depends_on(ValueId value, ValueId target) const {
  std::vector<bool> reaches(graph_.nodes.size(), false);
  reaches[GraphFacts::at(target)] = true;
  for (size_t i = GraphFacts::at(target); i <= GraphFacts::at(value); ++i)
    for (ValueId operand : graph_.nodes[i].operands)
      if (operand != kNoValue && reaches[GraphFacts::at(operand)]) reaches[i] = true;
  return reaches[GraphFacts::at(value)];
}

void Attempt::find_logsumexp() {
  if (weights_.softmax == kNoValue || !one_to_one_) return;
  const Node& softmax = graph_[weights_.softmax];
  std::vector<ValueId> inputs{value_.root};
  for (const ScoreDot& dot : dots_.dots) inputs.insert(inputs.end(), {dot.query.root, dot.key.root});
  for (ValueId id : t_.tensors)
    if (id != match_.output) inputs.push_back(id);
  for (ValueId user : facts_.users[GraphFacts::at(scores_)]) {
    const Node& lse = graph_[user];
    if (lse.op != Op::logsumexp || lse.attributes.axis != softmax.attributes.axis || lse.operands != softmax.operands)
      continue;
    bool cyclic = false;
    for (ValueId input : inputs) cyclic = cyclic || depends_on(input, user);
    if (cyclic) continue;
    Indices at = scores_at_;
    if (lse.attributes.keepdims)
      at.back() = t_.math.constant(0);
    else
      at.pop_back();
    if (!is_strided_access(t_.math, t_.pool, at, Axis::q)) continue;
    match_.logsumexp_node = user;
    match_.logsumexp = follow_views(facts_, t_, user, at, Axis::q, false);
    spec_.logsumexp = access(match_.logsumexp, at);
    return;
  }
}

AttentionMatch Attempt::finish() {
  const auto stored = [&](const DotOperand& operand, const std::optional<RowProgram>& row) {
    return row ? Access{} : access(operand.root, operand.at);
  };
  for (size_t i = 0; i < dots_.dots.size(); ++i) {
    const ScoreDot& dot = dots_.dots[i];
    DotPrograms& rows = rows_[i];
    spec_.dots.push_back({stored(dot.query, rows.query), stored(dot.key, rows.key), dot.head_dim, std::move(rows.query),
                          std::move(rows.key)});
    match_.products.push_back(dot.product);
  }
  spec_.value = access(value_.root, value_.at);

  // Tensors in the order people expect: q, k, v, what the expressions load, results.
  std::vector<int> moved(t_.tensors.size(), -1);
  const auto place = [&](int old) {
    int& slot = moved[static_cast<size_t>(old)];
    if (slot >= 0) return;
    slot = static_cast<int>(match_.tensors.size());
    const ValueId value = t_.tensors[static_cast<size_t>(old)];
    match_.tensors.push_back(value);
    spec_.tensors.push_back({graph_[value].name, graph_.type(value), false});
  };
  const auto place_loads = [&](const Expr& expr) {
    for (const ExprNode& node : expr.nodes())
      if (node.tensor >= 0) place(node.tensor);
  };
  std::vector<Access*> accesses;
  for (DotTerm& dot : spec_.dots)
    for (auto [from, row] : {std::pair{&dot.query, &dot.query_row}, {&dot.key, &dot.key_row}}) {
      if (*row)
        place_loads((*row)->values);
      else
        place(from->tensor);
      if (!*row) accesses.push_back(from);
    }
  accesses.push_back(&spec_.value);
  place(spec_.value.tensor);
  place_loads(spec_.score);
  place_loads(spec_.keep);
  if (spec_.sink) place_loads(*spec_.sink);
  if (spec_.weight_factor) place_loads(*spec_.weight_factor);
  const size_t inputs = spec_.tensors.size();
  place(spec_.output.tensor);
  if (spec_.logsumexp) place(spec_.logsumexp->tensor);
  for (size_t i = inputs; i < spec_.tensors.size(); ++i) spec_.tensors[i].output = true;

  accesses.push_back(&spec_.output);
  if (spec_.logsumexp) accesses.push_back(&*spec_.logsumexp);
  for (Access* a : accesses) a->tensor = moved[static_cast<size_t>(a->tensor)];
  for (DotTerm& dot : spec_.dots)
    for (auto* row : {&dot.query_row, &dot.key_row})
      if (*row) *row = with_tensors(**row, moved);
  spec_.score = with_tensors(spec_.score, moved);
  spec_.keep = with_tensors(spec_.keep, moved);
  if (spec_.sink) spec_.sink = with_tensors(*spec_.sink, moved);
  if (spec_.weight_factor) spec_.weight_factor = with_tensors(*spec_.weight_factor, moved);
  match_.spec = std::move(spec_);
  return std::move(match_);
}

}  // namespace tilewright::fusion
