#include "compiler/fuse/row_reader.h"

#include <algorithm>
#include <utility>

#include "compiler/fuse/row_region.h"

namespace tilewright::fusion {
namespace {

constexpr size_t kMostPieces = 8;

/// The value of an index expression over d alone at d = i.
std::optional<int64_t> index_at(const Expr& pool, ExprId id, int64_t i) {
  const ExprNode& node = pool[id];
  if (node.kind == ExprKind::constant) return node.literal.integer;
  if (node.kind == ExprKind::index) return node.axis == Axis::d ? std::optional(i) : std::nullopt;
  if (node.kind != ExprKind::op || node.args.size() != 2) return std::nullopt;
  const auto a = index_at(pool, node.args[0], i), b = index_at(pool, node.args[1], i);
  if (!a || !b) return std::nullopt;
  switch (node.op) {
    case Op::add: return *a + *b;
    case Op::sub: return *a - *b;
    case Op::mul: return *a * *b;
    case Op::div: return *a >= 0 && *b > 0 ? std::optional(*a / *b) : std::nullopt;
    case Op::mod: return *a >= 0 && *b > 0 ? std::optional(*a % *b) : std::nullopt;
    default: return std::nullopt;
  }
}

class RowReader {
 public:
  RowReader(const GraphFacts& facts, const Tracer& base, const ScoreFrame& frame, const RowSource& source,
            const RowRegion& region)
      : facts_(facts), graph_(facts.graph), base_(base), frame_(frame), source_(source), region_(region) {}

  /// False, with a reason, when the row is none.
  bool run() {
    std::vector<RowPiece> open{{0, 1, source_.head_dim}};
    while (!open.empty() && refused_.empty()) {
      RowPiece piece = open.back();
      open.pop_back();
      split_.clear();
      const Expr value = trace_piece(piece);
      if (!refused_.empty()) break;
      if (split_.empty()) {
        piece.value = keep(value);
        found_.row.pieces.push_back(piece);
        continue;
      }
      // Parts of the piece, in its own numbering.
      for (size_t n = split_.size(); n-- > 0;)
        open.push_back({piece.begin + piece.step * split_[n].begin, piece.step * split_[n].step, split_[n].count});
      if (open.size() + found_.row.pieces.size() > kMostPieces) refuse("it is put together from too many parts");
    }
    if (!refused_.empty()) return false;
    found_.row.values = found_.row.values.pruned(roots(found_.row));
    return true;
  }

  ComputedRow found_;
  std::string refused_;

 private:
  void refuse(std::string reason) {
    if (refused_.empty()) refused_ = std::move(reason);
  }

  /// `t` knows what `from` knows, and d is below `count`.
  void prepare(Tracer& t, const Tracer& from, int64_t count) {
    t.pool = from.pool;
    t.tensors = from.tensors;
    t.math.adopt(from.math);
    t.math.set_extent(t.pool.index(Axis::d), count);
    t.kept_in_memory = &region_.in_memory;
    t.on_memory = [this, &t, count](ValueId id, const Indices& at) { return read(t, id, at, count); };
  }

  Expr trace_piece(const RowPiece& piece) {
    Tracer t(facts_, Region::attention);
    prepare(t, base_, piece.count);
    const ExprId i = t.math.axis(Axis::d, piece.count);
    const ExprId k = t.math.add(t.math.scale(i, piece.step), t.math.constant(piece.begin));
    Indices at = source_.at(t, k);
    const std::vector<ValueId>& path = source_.operand->path;
    for (size_t n = 0; n + 1 < path.size(); ++n)
      at = is_simple_view(graph_[path[n]].op) ? view_operand_indices(t.math, graph_, graph_[path[n]], at)
                                              : t.operand_indices(path[n + 1], at);
    return finish(t, t.read(path.back(), at), piece.count);
  }

  Expr finish(Tracer& t, ExprId value, int64_t count) {
    if (!refused_.empty() || !split_.empty()) return {};
    AxisExtents extents = frame_.extents();
    extents.known.emplace_back(Axis::d, count);
    Expr expr = simplify(extract(t.pool, t.cast(value, source_.accumulate)), extents);
    std::vector<int> moved(t.tensors.size(), -1);
    for (const ExprNode& node : expr.nodes())
      if (node.tensor >= 0)
        moved[static_cast<size_t>(node.tensor)] = position(t.tensors[static_cast<size_t>(node.tensor)]);
    return with_tensors(expr, moved);
  }

  int position(ValueId tensor) {
    auto& tensors = found_.tensors;
    const auto at = std::find(tensors.begin(), tensors.end(), tensor);
    if (at != tensors.end()) return static_cast<int>(at - tensors.begin());
    tensors.push_back(tensor);
    return static_cast<int>(tensors.size()) - 1;
  }

  ExprId keep(const Expr& value) { return found_.row.values.import(value); }

  /// In the place of absorbed concatenations and sums; anything else lies in memory.
  std::optional<ExprId> read(Tracer& t, ValueId id, const Indices& at, int64_t count) {
    if (!region_.absorbed[GraphFacts::at(id)]) return std::nullopt;
    const Node& node = graph_[id];
    if (node.op == Op::concat) return read_part(t, node, at, count);
    if (info(node.op).group == OpGroup::reduce) return read_sum(t, id, at);
    return std::nullopt;
  }

  std::optional<ExprId> read_part(Tracer& t, const Node& concat, const Indices& at, int64_t count) {
    const auto axis = static_cast<size_t>(concat.attributes.axis);
    std::vector<int64_t> ends;
    for (const ValueId operand : concat.operands) {
      const Dim& size = graph_.type(operand).shape[axis];
      if (!size.is_constant()) return std::nullopt;
      ends.push_back(size.constant() + (ends.empty() ? 0 : ends.back()));
    }
    std::vector<size_t> parts;
    for (int64_t i = 0; i < count; ++i) {
      const auto where = index_at(t.pool, at[axis], i);
      if (!where || *where < 0 || *where >= ends.back()) return std::nullopt;
      parts.push_back(static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), *where) - ends.begin()));
    }
    if (!std::equal(parts.begin() + 1, parts.end(), parts.begin())) {
      if (split_.empty()) split(parts);
      return t.pool.constant(0, compute_type(concat.type.dtype));
    }
    const ValueId part = concat.operands[parts[0]];
    Indices inner = at;
    inner[axis] = t.math.add(at[axis], t.math.constant(parts[0] == 0 ? 0 : -ends[parts[0] - 1]));
    if (graph_.type(part).shape[axis].is_constant(1)) inner[axis] = t.math.constant(0);
    return t.read(part, inner);
  }

  /// Into the columns up to the first change and the rest, or into every m-th column.
  void split(const std::vector<size_t>& parts) {
    const auto count = static_cast<int64_t>(parts.size());
    const auto change = std::adjacent_find(parts.begin(), parts.end(), std::not_equal_to<>());
    const int64_t cut = change - parts.begin() + 1;
    for (int64_t m = 2; m <= 4 && m < count; ++m) {
      const auto period = static_cast<std::ptrdiff_t>(m);
      if (!std::equal(parts.begin() + period, parts.end(), parts.begin())) continue;
      for (int64_t n = 0; n < m; ++n) split_.push_back({n, m, (count - n + m - 1) / m});
      return;
    }
    split_ = {{0, 1, cut}, {cut, 1, count - cut}};
  }

  std::optional<ExprId> read_sum(Tracer& t, ValueId id, const Indices& at) {
    const Node& node = graph_[id];
    const auto axis = static_cast<size_t>(node.attributes.axis);
    const TensorType& type = graph_.type(node.operands[0]);
    Indices lead = at;
    if (node.attributes.keepdims) lead.erase(lead.begin() + static_cast<std::ptrdiff_t>(axis));
    for (const ExprId index : lead)
      if (depends(t.pool, index) & bit(Axis::d)) return std::nullopt;
    const DType dtype = compute_type(node.type.dtype);
    if (!type.shape[axis].is_constant() || !is_float(dtype)) return std::nullopt;
    const int64_t count = type.shape[axis].constant();
    if (count < 1 || count > source_.head_dim) return std::nullopt;
    if (dtype == DType::f64 && source_.accumulate != DType::f64) {
      refuse("a sum of f64 would be narrowed");
      return t.pool.constant(0, dtype);
    }
    const ExprId sum = t.pool.score(source_.accumulate, sum_number(t, node.operands[0], lead, axis, count));
    const ExprId value = t.cast(sum, dtype);
    if (node.op == Op::reduce_sum) return value;
    return t.pool.op(Op::div, dtype, {value, t.pool.constant(static_cast<double>(count), dtype)});
  }

  /// The number of Σ over `axis` of `operand`, a new one if need be.
  int sum_number(const Tracer& from, ValueId operand, const Indices& lead, size_t axis, int64_t count) {
    const auto outer = std::exchange(split_, {});
    Tracer t(facts_, Region::attention);
    prepare(t, from, count);
    Indices at = lead;
    at.insert(at.begin() + static_cast<std::ptrdiff_t>(axis), t.math.axis(Axis::d, count));
    const ExprId value = t.read(operand, at);
    if (!split_.empty()) refuse("a sum runs over a row that is put together from parts");
    const Expr expr = finish(t, value, count);
    split_ = outer;
    if (!refused_.empty()) return 0;
    const RowSum sum{count, keep(expr)};
    auto& sums = found_.row.sums;
    const auto same = std::find(sums.begin(), sums.end(), sum);
    if (same != sums.end()) return static_cast<int>(same - sums.begin());
    if (sums.size() == kMaxRowSums) {
      refuse(fmt::format("it takes more than {} sums over a row", kMaxRowSums));
      return 0;
    }
    sums.push_back(sum);
    return static_cast<int>(sums.size()) - 1;
  }

  const GraphFacts& facts_;
  const Graph& graph_;
  const Tracer& base_;
  const ScoreFrame& frame_;
  const RowSource& source_;
  const RowRegion& region_;
  std::vector<RowPiece> split_;  ///< asked for by the trace under way
};

std::string shared_reason(const Graph& graph, const RowRegion& region) {
  const std::string& name = graph[region.shared].name;
  if (region.other == kNoValue) return fmt::format("%{} is a result", name);
  return fmt::format("%{} is read by %{}, too", name, graph[region.other].name);
}

}  // namespace

RowReading read_row(const GraphFacts& facts, const Tracer& base, const ScoreFrame& frame, const RowSource& source) {
  const RowRegion region = find_row_region(facts, source.product, source.operand->path);
  if (!region.has_work) return {std::nullopt, region.shared == kNoValue ? "" : shared_reason(facts.graph, region)};
  RowReader reader(facts, base, frame, source, region);
  if (!reader.run()) return {std::nullopt, reader.refused_};
  return {std::move(reader.found_), {}};
}

}  // namespace tilewright::fusion
