#include "codegen/cpu/backward_layout.h"

#include <algorithm>
#include <numeric>

#include "codegen/cpu/expr_emitter.h"
#include "codegen/cpu/launch_sizes.h"
#include "compiler/score_chain.h"
#include "ir/result.h"

namespace tilewright::cpu {
namespace {

constexpr int64_t kTiled = AmxBackwardLayout::kStep;

/// Through casts between integers.
const ExprNode& plain(const Expr& expr, ExprId id) {
  while (expr[id].kind == ExprKind::op && expr[id].op == Op::cast) id = expr[id].args[0];
  return expr[id];
}

bool is_axis(const Expr& expr, ExprId id, Axis axis) {
  const ExprNode& node = plain(expr, id);
  return node.kind == ExprKind::index && node.axis == axis;
}

/// floor(h / group).
bool is_kv_head(const Expr& expr, ExprId id, int64_t group) {
  const ExprNode& node = plain(expr, id);
  if (node.kind != ExprKind::op || node.op != Op::div || !is_axis(expr, node.args[0], Axis::h)) return false;
  const ExprNode& by = plain(expr, node.args[1]);
  return by.kind == ExprKind::constant && by.literal.integer == group;
}

bool is_one(const std::vector<Dim>& dims) {
  return std::all_of(dims.begin(), dims.end(), [](const Dim& dim) { return dim.is_constant() && dim.constant() == 1; });
}

}  // namespace

BackwardLayout::BackwardLayout(const FoldedWeights& folded, const CpuSchedule& schedule, const CpuTarget& target)
    : dtype(folded.spec.accumulate),
      element(size_of(dtype)),
      lanes(schedule.lanes),
      k_unroll(schedule.k_unroll),
      score_tile{schedule.mr, schedule.nv},
      spec_(folded.spec),
      tiled_(schedule.kernel == CpuTemplate::amx_backward) {
  panel = score_tile.nv * lanes;
  if (tiled_) panel = round_up(panel, kTiled);
  block_kv = round_up(schedule.block_kv, panel);
  chunk_kv = round_up(schedule.chunk_kv, block_kv);
  for (const CapturedSum& sum : spec_.captured) classify(sum);
  list_operands(target, folded);
  const bool scatters = std::ranges::any_of(captured, [](const Captured& c) { return !c.owned; });
  const bool wide = draws_random(spec_.weights) && !scatters;
  score_lanes = lanes;
  while (wide && score_lanes < 4 * lanes && panel % (2 * score_lanes) == 0) score_lanes *= 2;
  row_unit = tiled_ ? kTiled : k_unroll;
  rounded = std::lcm(score_lanes, row_unit);
  int64_t whole_rows = tiled_ ? kTiled : std::lcm(score_tile.mr, k_unroll);
  for (const Product& p : columns)
    if (!tiled_) rounded = std::lcm(rounded, p.shape.mr);
  for (const Product& p : rows)
    if (!tiled_) whole_rows = std::lcm(whole_rows, p.shape.mr);
  block_q = round_up(schedule.block_q, whole_rows);
  strip_rows = tiled_ ? kTiled : block_q;
  spare = rounded;
  tile_rows = strip_rows;
  tile_stride = round_up(block_kv, rounded) + 64 / element;
  place(schedule, target);
  lay_out_workspace();
}

size_t BackwardLayout::rows_of(std::vector<Rows>& list, const Access& access, int64_t width, double scale,
                               int64_t stride) {
  for (size_t i = 0; i < list.size(); ++i)
    if (list[i].access == access && list[i].width == width && list[i].scale == scale) {
      list[i].stride = std::max(list[i].stride, stride);
      return i;
    }
  list.push_back({access, type_of(access.tensor), width, scale, stride, 0});
  return list.size() - 1;
}

size_t BackwardLayout::tile_of(ExprId weight) {
  const auto found = std::find(weights.begin(), weights.end(), weight);
  if (found == weights.end()) {
    weights.push_back(weight);
    return weights.size() - 1;
  }
  return static_cast<size_t>(found - weights.begin());
}

BackwardLayout::Product BackwardLayout::product(const BackwardProduct& from, bool by_rows, const CpuTarget& target) {
  const int64_t vectors = std::max<int64_t>(1, round_up(from.width, lanes) / lanes);
  Product p{};
  p.shape = tile_for_columns(score_tile, vectors, target);
  p.width = from.width;
  p.stride = tiled_ ? round_up(std::max<int64_t>(from.width, 1), kTiled) : round_up(vectors, p.shape.nv) * lanes;
  p.operand = rows_of(by_rows ? kv_rows : q_rows, from.operand, from.width, 1, p.stride);
  p.weight = tile_of(from.weight);
  p.output = from.output;
  p.type = type_of(from.output.tensor);
  p.rounding = from.rounding;
  p.staged = by_rows && p.type != dtype;
  return p;
}

void BackwardLayout::list_operands(const CpuTarget& target, const FoldedWeights& folded) {
  for (const BackwardProduct& from : spec_.columns) columns.push_back(product(from, false, target));
  for (const BackwardProduct& from : spec_.rows) rows.push_back(product(from, true, target));
  // Packing moves 16 bytes of a key at once, the product k_unroll elements.
  const int64_t unit = std::lcm(k_unroll, 16 / element);
  bool first[2] = {true, true};
  auto add = [&](int number, const DotTerm& dot) {
    const int64_t padded = round_up(std::max<int64_t>(dot.head_dim, 1), unit);
    const double scale = number == 0 ? folded.query_scale : 1;
    const int64_t chain = number == 0 ? folded.score_chain : kLongestChain;
    const size_t queries = rows_of(q_rows, dot.query, dot.head_dim, scale, round_up(padded, lanes));
    Term term{number, std::exchange(first[number], false), queries, dot.key, type_of(dot.key.tensor), dot.head_dim,
              padded, chain_length(padded, unit, chain),   -1,      0};
    for (size_t i = 0; i < kv_rows.size(); ++i)
      if (kv_rows[i].access == dot.key && kv_rows[i].width == dot.head_dim) term.kv_rows = static_cast<int>(i);
    terms.push_back(std::move(term));
  };
  for (const DotTerm& dot : spec_.dots) add(0, dot);
  if (spec_.output_gradient) add(1, *spec_.output_gradient);
}

void BackwardLayout::classify(const CapturedSum& sum) {
  const Expr& expr = spec_.weights;
  const auto depends = dependencies(expr);
  const Shape& shape = spec_.tensors[static_cast<size_t>(sum.tensor)].type.shape;
  Captured c{};
  bool by_b = is_one(spec_.batch), by_h = is_one(spec_.heads);
  int kv_axes = 0;
  bool covered = true;  // by points of the score, each of its own
  // `axis` of the tensor is an axis of the index space, all of it: `each` of its positions share an element.
  auto takes = [&](int& slot, size_t axis, const std::vector<Dim>& extents, int64_t each = 1) {
    covered &= slot < 0 && tilewright::product(extents) == shape[axis] * each;
    slot = static_cast<int>(axis);
  };
  for (size_t axis = 0; axis < sum.index.size(); ++axis) {
    const ExprId id = sum.index[axis];
    kv_axes += (depends[static_cast<size_t>(raw(id))] & bit(Axis::kv)) != 0;
    const bool group = !is_axis(expr, id, Axis::h) && is_kv_head(expr, id, spec_.head_group);
    if (is_axis(expr, id, Axis::kv)) {
      takes(c.kv_axis, axis, {spec_.kv_len});
    } else if (is_axis(expr, id, Axis::q)) {
      takes(c.q_axis, axis, {spec_.q_len});
    } else if (is_axis(expr, id, Axis::b)) {
      by_b = true;
      takes(c.b_axis, axis, spec_.batch);
    } else if (group || is_axis(expr, id, Axis::h)) {
      by_h = true;
      c.by_group = group;
      takes(c.h_axis, axis, spec_.heads, group ? spec_.head_group : 1);
    } else {
      covered &= shape[axis].is_constant() && shape[axis].constant() == 1;
    }
  }
  c.owned = sum.in_bounds && kv_axes == 1 && c.kv_axis >= 0;
  c.direct = c.owned && type_of(sum.tensor) == dtype;
  c.stored = c.direct && covered && c.q_axis >= 0;
  if (c.owned) {
    split_batch &= by_b;
    split_heads &= by_h;
  }
  captured.push_back(c);
}

bool BackwardLayout::partial_tables() const {
  return std::any_of(captured.begin(), captured.end(), [](const Captured& c) { return !c.owned; });
}

void BackwardLayout::place(const CpuSchedule& schedule, const CpuTarget& target) {
  const int64_t line = 64 / element;
  int64_t at = 0;
  auto take = [&](int64_t count) {
    const int64_t here = at;
    at += round_up(count, line);
    return here;
  };
  tiles = static_cast<int64_t>(std::max<size_t>(weights.size(), spec_.output_gradient ? 2 : 1));
  tiles_at = take(tiles * tile_rows * tile_stride);
  for (Product& p : rows) p.at = take(block_q * p.stride);
  if (tiled_) {
    amx.emplace(*this, schedule, target, at * element);
    scratch_bytes = amx->scratch_bytes;
    return;
  }
  for (Rows& r : q_rows) r.at = take(block_q * r.stride);
  for (Rows& r : kv_rows) r.at = take(chunk_kv * r.stride);
  stage_stride = lanes;
  for (Term& term : terms) {
    term.panels_at = take(chunk_kv * term.padded_dim);
    stage_stride = std::max(stage_stride, term.padded_dim);
  }
  for (Product& p : columns) p.at = take((chunk_kv + spare) * p.stride);
  stage_at = take(lanes * stage_stride);
  ones_at = take(std::max(block_q, block_kv + spare));
  scratch_bytes = at * element;
}

void BackwardLayout::lay_out_workspace() {
  LaunchSizes s;
  const ExprId batch = s.product(spec_.batch), heads = s.product(spec_.heads);
  ExprId at = s.lines(s.mul(s.mul(s.blocks(s.dim(spec_.kv_len), chunk_kv), s.mul(batch, heads)), s.i(8)));
  done_at = s.done(at);
  if (partial_tables()) at = s.add(at, s.i(kPartialTables * 64));
  for (const Product& p : rows) {
    staged_at.push_back(s.done(at));
    const ExprId count = s.mul(s.mul(batch, heads), s.mul(s.dim(spec_.q_len), s.i(p.width * element)));
    if (p.staged) at = s.add(at, s.lines(count));
  }
  for (size_t i = 0; i < captured.size(); ++i) {
    table_at.push_back(s.done(at));
    if (!captured[i].direct) at = s.add(at, s.import(table_bytes(spec_, i, captured[i].tables())));
  }
  workspace_bytes = s.done(at);
}

Expr BackwardLayout::items() const {
  LaunchSizes s;
  ExprId count = s.blocks(s.dim(spec_.kv_len), chunk_kv);
  if (split_batch) count = s.mul(count, s.product(spec_.batch));
  if (split_heads) count = s.mul(count, s.div(s.product(spec_.heads), spec_.head_group));
  return s.done(count);
}

Expr BackwardLayout::row_blocks() const {
  LaunchSizes s;
  return s.done(s.mul(s.mul(s.product(spec_.batch), s.product(spec_.heads)), s.blocks(s.dim(spec_.q_len), block_q)));
}

}  // namespace tilewright::cpu
