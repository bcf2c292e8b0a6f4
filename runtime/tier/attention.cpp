// Any TileProgram, op by op over tiles in scratch. Work items are (b, h, query block), as those of generated code.
//
//   queries [block_q, Σ head_dim]     keys [Σ head_dim, block_kv]: transposed, so that lanes run along kv; [block_kv,
//                                     Σ head_dim] as they are stored for a handful of rows (decode)
//   S, P    [block_q, block_kv]       values [block_kv, value_dim], O [block_q, value_dim]
//
// all of the accumulation type, so that dtypes, strides, hidden keys and tails are dealt with where rows are copied in.
// With 64 × 128 tiles of floats every tile is 32 KB at head dim 64: S and P stay in L2, panels of keys and values in
// L1.
#include <algorithm>
#include <limits>
#include <numbers>

#include "compiler/passes.h"
#include "compiler/score_chain.h"
#include "runtime/inline_array.h"
#include "runtime/tier/row_program.h"
#include "runtime/tier/steps.h"

namespace tilewright::tier {
namespace {

constexpr int64_t kBlockQ = 64, kBlockKv = 128;
/// Up to this many rows, keys are not transposed: that costs as much as the product with some ten rows.
constexpr int64_t kFewRows = 8;

/// Where the parts of a worker's scratch are, and the programs of the spec's expressions.
struct AttentionPlan {
  AttentionPlan(const AttentionSpec& spec, CpuIsa isa);

  struct Dot {
    std::optional<PlacedAccess> query, key;
    std::optional<PlacedRow> query_row, key_row;
    int64_t head_dim = 0;
  };

  TileProgram program;
  ArgsLayout layout;
  const IsaOps* ops;
  ScratchLayout scratch;
  int64_t element;      ///< bytes of the accumulation type
  int64_t score_chain;  ///< see compiler/score_chain.h

  std::vector<Dot> dots;
  PlacedAccess value, output;
  std::optional<PlacedAccess> logsumexp;
  std::vector<std::optional<PlacedProgram>> lanes;  ///< by instruction of `step`: map_score, mask and map_weight
  std::optional<PlacedProgram> keep_kv, begin, end, skip, full, sink;
  DimFormula q_len, kv_len;
  std::vector<DimFormula> heads;

  int64_t query_width = 0, value_width = 0;
  std::vector<int64_t> tiles;  ///< by value of the program
  int64_t queries_at = 0, keys_at = 0, values_at = 0, rows_at = 0;
};

bool is_constant(const Expr& expr, int64_t value) {
  return expr.empty() || (expr.root_node().kind == ExprKind::constant && expr.root_node().literal.integer == value);
}

AttentionPlan::AttentionPlan(const AttentionSpec& spec, CpuIsa isa)
    : program(build_tile_program(spec)),
      layout(args_layout(spec)),
      ops(&isa_ops(isa)),
      element(size_of(spec.accumulate)),
      score_chain(tilewright::score_chain(spec)),
      value(spec.value, spec.tensors, layout, scratch),
      output(spec.output, spec.tensors, layout, scratch),
      q_len(spec.q_len, layout.dims),
      kv_len(spec.kv_len, layout.dims) {
  const auto place = [&](const Expr& expr, Axis vary) {
    return PlacedProgram(LaneProgram(expr, vary, spec.tensors, layout), scratch);
  };
  for (const Dim& dim : spec.heads) heads.emplace_back(dim, layout.dims);
  for (const DotTerm& term : spec.dots) {
    Dot dot;
    dot.head_dim = term.head_dim;
    query_width += term.head_dim;
    const auto operand = [&](const Access& access, const std::optional<RowProgram>& row, auto& stored, auto& computed) {
      if (row)
        computed.emplace(*row, spec.accumulate, spec.tensors, layout, scratch);
      else
        stored.emplace(access, spec.tensors, layout, scratch);
    };
    operand(term.query, term.query_row, dot.query, dot.query_row);
    operand(term.key, term.key_row, dot.key, dot.key_row);
    dots.push_back(std::move(dot));
  }
  if (spec.logsumexp) logsumexp.emplace(*spec.logsumexp, spec.tensors, layout, scratch);
  const DType type = spec.accumulate;
  for (const TileInst& inst : program.step) {
    // What becomes of a tile's element s at (b, h, q, kv).
    Expr expr;
    const ExprId s = expr.score(type);
    std::optional<ExprId> root;
    if (inst.op == TileOp::map_score) {
      root = expr.import(program.score);
      if (program.score_scale != 1) root = expr.op(Op::mul, type, {*root, expr.constant(program.score_scale, type)});
    } else if (inst.op == TileOp::mask) {
      root = expr.op(Op::select, type, {expr.import(spec.keep), s, expr.constant(inst.literal, type)});
    } else if (inst.op == TileOp::map_weight) {
      root = expr.op(Op::mul, type, {s, expr.import(*spec.weight_factor)});
    }
    if (root) expr.set_root(*root);
    lanes.push_back(root ? std::optional(place(expr, Axis::kv)) : std::nullopt);
  }
  if (!is_constant(spec.keep_kv, 1)) keep_kv = place(spec.keep_kv, Axis::kv);
  const KvRange& range = spec.kv_range;
  if (!is_constant(range.begin, 0)) begin = place(range.begin, kNoAxis);
  if (!range.end.empty()) end = place(range.end, kNoAxis);
  if (!is_constant(range.skip, 0)) skip = place(range.skip, kNoAxis);
  if (!is_constant(range.full, 0)) full = place(range.full, kNoAxis);
  if (spec.sink) {
    Expr natural = *spec.sink;
    if (natural.root_node().dtype != type) natural.set_root(natural.op(Op::cast, type, {natural.root()}));
    natural.set_root(natural.op(Op::mul, type, {natural.root(), natural.constant(std::numbers::log2e, type)}));
    sink = place(natural, kNoAxis);
  }

  value_width = round_up(spec.value_dim, kTileUnit);
  for (const TileValue& tile : program.values) {
    const int64_t elements = tile.shape == TileShape::column    ? kBlockQ
                             : tile.shape == TileShape::tile_qk ? kBlockQ * kBlockKv
                                                                : kBlockQ * value_width;
    tiles.push_back(scratch.place(elements * element));
  }
  queries_at = scratch.place(kBlockQ * query_width * element);
  keys_at = scratch.place(query_width * kBlockKv * element);
  values_at = scratch.place(kBlockKv * value_width * element);
  rows_at = scratch.place(kTileUnit * query_width * element);
}

template <class T>
class AttentionRun {
 public:
  AttentionRun(const AttentionPlan& plan, const KernelArgs& args, std::byte* scratch)
      : plan_(plan),
        spec_(plan.program.spec),
        tiles_(plan.ops->tiles<T>()),
        scratch_(scratch),
        queries_(plan.dots.size()),
        keys_(plan.dots.size()) {
    at_.args = &args;
    const std::span<const int64_t> dims(args.meta, plan.layout.dims.size());
    q_len_ = plan.q_len.evaluate(dims);
    kv_len_ = plan.kv_len.evaluate(dims);
    for (const DimFormula& dim : plan.heads) heads_ *= dim.evaluate(dims);
    for (const auto& program : plan.lanes) start(program);
    for (const auto* program : {&plan.keep_kv, &plan.begin, &plan.end, &plan.skip, &plan.full, &plan.sink})
      start(*program);
    for (const AttentionPlan::Dot& dot : plan.dots)
      for (const auto* row : {&dot.query_row, &dot.key_row})
        if (*row) (*row)->start(at_, *plan.ops, scratch);
  }

  void item(int64_t number) {
    const int64_t blocks = (q_len_ + kBlockQ - 1) / kBlockQ;
    at_.axis(Axis::b) = number / (blocks * heads_);
    at_.axis(Axis::h) = number / blocks % heads_;
    q_begin_ = number % blocks * kBlockQ;
    rows_ = std::min(kBlockQ, q_len_ - q_begin_);
    at_.axis(Axis::q_lo) = q_begin_;
    at_.axis(Axis::q_hi) = q_begin_ + rows_ - 1;
    for (size_t i = 0; i < plan_.dots.size(); ++i) {
      const AttentionPlan::Dot& dot = plan_.dots[i];
      if (dot.query) queries_[i] = rows_of(*dot.query);
      if (dot.key) keys_[i] = rows_of(*dot.key);
    }
    values_ = rows_of(plan_.value);
    output_ = rows_of(plan_.output);
    if (plan_.logsumexp) lse_ = rows_of(*plan_.logsumexp);

    transposed_ = rows_ > kFewRows;
    load_queries();
    run(plan_.program.init);
    const int64_t first = plan_.begin ? std::max<int64_t>(0, uniform(*plan_.begin)) : 0;
    const int64_t last = plan_.end ? std::min(kv_len_, uniform(*plan_.end)) : kv_len_;
    for (int64_t kv = first; kv < last; kv += kBlockKv) {
      kv_begin_ = kv;
      keys_here_ = std::min(kBlockKv, last - kv);
      width_ = round_up(keys_here_, kLanes);
      at_.axis(Axis::kv_lo) = kv;
      at_.axis(Axis::kv_hi) = kv + keys_here_ - 1;
      if (plan_.skip && uniform(*plan_.skip)) continue;
      load_keys_and_values();
      run(plan_.program.step);
    }
    run(plan_.program.finish);
  }

 private:
  void start(const std::optional<PlacedProgram>& program) const {
    if (program) evaluator(*program).start(at_);
  }
  LaneEvaluator evaluator(const PlacedProgram& program) const { return program.evaluator(*plan_.ops, scratch_); }
  int64_t uniform(const PlacedProgram& program) const { return evaluator(program).integer(at_); }
  Rows rows_of(const PlacedAccess& access) const {
    return resolve(access, at_, *plan_.ops, scratch_, {Axis::q, Axis::kv}, Axis::d);
  }
  T* at(int64_t offset) const { return reinterpret_cast<T*>(scratch_ + offset); }

  struct Tile {
    T* data;
    int64_t stride, width;  ///< elements between rows, and of a row that are in use; a column is one row
    bool column;
  };
  Tile tile(int value) const {
    T* data = at(plan_.tiles[static_cast<size_t>(value)]);
    switch (plan_.program.values[static_cast<size_t>(value)].shape) {
      case TileShape::column: return {data, kBlockQ, round_up(rows_, kTileUnit), true};
      case TileShape::tile_qk: return {data, kBlockKv, width_, false};
      case TileShape::tile_qv: break;
    }
    return {data, plan_.value_width, plan_.value_width, false};
  }

  void operand_row(const Rows& stored, const std::optional<PlacedRow>& computed, Axis axis, int64_t position,
                   int64_t columns, T* to) {
    if (!computed) return read_row(stored.dtype, stored.row(position), stored.dim, columns, to);
    at_.axis(axis) = position;
    computed->evaluate(at_, *plan_.ops, scratch_, to);
  }

  void load_queries() {
    for (int64_t row = 0; row < rows_; ++row) {
      T* to = at(plan_.queries_at) + row * plan_.query_width;
      for (size_t i = 0; i < plan_.dots.size(); ++i) {
        const AttentionPlan::Dot& dot = plan_.dots[i];
        operand_row(queries_[i], dot.query_row, Axis::q, q_begin_ + row, dot.head_dim, to);
        to += dot.head_dim;
      }
    }
  }

  /// Rows past the block's end and rows that keep_kv hides are zeros, and their memory is not touched.
  void load_keys_and_values() {
    const int64_t width = plan_.query_width;
    for (int64_t first = 0; first < width_; first += kTileUnit) {
      if (plan_.keep_kv && first % kLanes == 0) {
        evaluator(*plan_.keep_kv).row(at_);
        lanes(*plan_.keep_kv, first);
      }
      T* rows = transposed_ ? at(plan_.rows_at) : at(plan_.keys_at) + first * width;
      for (int64_t i = 0; i < kTileUnit; ++i) {
        const int64_t key = first + i;
        T *key_row = rows + i * width, *value_row = at(plan_.values_at) + key * plan_.value_width;
        const bool hidden =
            key >= keys_here_ || (plan_.keep_kv && !evaluator(*plan_.keep_kv).template root<int64_t>()[key % kLanes]);
        if (hidden) {
          std::fill(key_row, key_row + width, T{0});
          std::fill(value_row, value_row + plan_.value_width, T{0});
          continue;
        }
        for (size_t term = 0; term < plan_.dots.size(); ++term) {
          const AttentionPlan::Dot& dot = plan_.dots[term];
          operand_row(keys_[term], dot.key_row, Axis::kv, kv_begin_ + key, dot.head_dim, key_row);
          key_row += dot.head_dim;
        }
        read_row(values_.dtype, values_.row(kv_begin_ + key), values_.dim, spec_.value_dim, value_row);
        std::fill(value_row + spec_.value_dim, value_row + plan_.value_width, T{0});
      }
      if (!transposed_) continue;
      T* keys = at(plan_.keys_at) + first;
      for (int64_t d = 0; d < width; ++d)
        for (int64_t i = 0; i < kTileUnit; ++i) keys[d * kBlockKv + i] = rows[i * width + d];
    }
  }

  /// Runs the lanes of keys first … of the block.
  void lanes(const PlacedProgram& program, int64_t first) {
    at_.first = kv_begin_ + first;
    at_.active = std::min(kLanes, keys_here_ - first);
    evaluator(program).lanes(at_);
  }

  void run(const std::vector<TileInst>& code) {
    for (size_t i = 0; i < code.size(); ++i) {
      const TileInst& inst = code[i];
      switch (inst.op) {
        case TileOp::dot: dot(inst); break;
        case TileOp::map_score: apply(inst, *plan_.lanes[i]); break;
        case TileOp::mask:
          if (!plan_.full || inst.a != inst.dst || !uniform(*plan_.full)) apply(inst, *plan_.lanes[i]);
          break;
        case TileOp::map_weight: apply(inst, *plan_.lanes[i]); break;
        case TileOp::row_max:
        case TileOp::row_sum: reduce(inst); break;
        case TileOp::dot_value: dot_value(inst); break;
        case TileOp::load_sink: load_sink(inst); break;
        case TileOp::store_output: store_output(inst); break;
        case TileOp::store_lse: store_lse(inst); break;
        default: combine(inst);
      }
    }
  }

  void dot(const TileInst& inst) {
    const Tile to = tile(inst.dst);
    int64_t start = 0;
    // Every term, and every piece of a long one, is a sum of its own: the error grows with the longest of them.
    for (const AttentionPlan::Dot& term : plan_.dots)
      for (const int64_t end = start + term.head_dim; start < end;) {
        const int64_t count = std::min(plan_.score_chain, end - start);
        const T* queries = at(plan_.queries_at) + start;
        const int64_t width = plan_.query_width;
        if (transposed_)
          tiles_.multiply(rows_, width_, count, queries, width, at(plan_.keys_at) + start * kBlockKv, kBlockKv, to.data,
                          to.stride, start > 0);
        else
          tiles_.multiply_nt(rows_, width_, count, queries, width, at(plan_.keys_at) + start, width, to.data, to.stride,
                             start > 0);
        start += count;
      }
  }

  /// Elements of keys past the block's end become what the normaliser ignores, whatever the expression makes of them.
  void apply(const TileInst& inst, const PlacedProgram& program) {
    const Tile from = tile(inst.a), to = tile(inst.dst);
    const bool softmax = spec_.normaliser == Normaliser::softmax && inst.op != TileOp::map_weight;
    const T hidden = softmax ? -std::numeric_limits<T>::infinity() : T{0};
    const LaneEvaluator lane = evaluator(program);
    for (int64_t row = 0; row < rows_; ++row) {
      at_.axis(Axis::q) = q_begin_ + row;
      lane.row(at_);
      for (int64_t column = 0; column < width_; column += kLanes) {
        at_.products[0] = from.data + row * from.stride + column;
        lanes(program, column);
        T* out = to.data + row * to.stride + column;
        std::memcpy(out, lane.root<T>(), kLanes * sizeof(T));
        for (int64_t i = at_.active; i < kLanes; ++i) out[i] = hidden;
      }
    }
  }

  void reduce(const TileInst& inst) {
    const Tile from = tile(inst.a), to = tile(inst.dst);
    for (int64_t row = 0; row < rows_; ++row)
      to.data[row] = tiles_.fold(inst.op, from.data + row * from.stride, from.width);
  }

  void dot_value(const TileInst& inst) {
    const Tile weights = tile(inst.b), to = tile(inst.dst), before = tile(inst.a);
    if (before.data != to.data) std::memcpy(to.data, before.data, static_cast<size_t>(rows_ * to.stride) * sizeof(T));
    tiles_.multiply(rows_, plan_.value_width, keys_here_, weights.data, weights.stride, at(plan_.values_at),
                    plan_.value_width, to.data, to.stride, true);
  }

  /// A column operand of a tile serves all of its row.
  void combine(const TileInst& inst) {
    const Tile to = tile(inst.dst);
    const auto literal = static_cast<T>(inst.literal);
    if (to.column) {
      tiles_.combine(inst.op, to.data, inst.a < 0 ? nullptr : tile(inst.a).data, false,
                     inst.b < 0 ? nullptr : tile(inst.b).data, false, to.width, literal);
      return;
    }
    const auto operand = [&](int value, int64_t row, bool& one) -> const T* {
      if (value < 0) return nullptr;
      const Tile from = tile(value);
      one = from.column;
      return from.data + (one ? row : row * from.stride);
    };
    for (int64_t row = 0; row < rows_; ++row) {
      bool a_one = false, b_one = false;
      const T *a = operand(inst.a, row, a_one), *b = operand(inst.b, row, b_one);
      tiles_.combine(inst.op, to.data + row * to.stride, a, a_one, b, b_one, to.width, literal);
    }
  }

  void load_sink(const TileInst& inst) {
    const Tile to = tile(inst.dst);
    const LaneEvaluator sink = evaluator(*plan_.sink);
    for (int64_t row = 0; row < rows_; ++row) {
      at_.axis(Axis::q) = q_begin_ + row;
      sink.row(at_);
      to.data[row] = sink.root<T>()[0];
    }
  }

  void store_output(const TileInst& inst) {
    const Tile from = tile(inst.a);
    for (int64_t row = 0; row < rows_; ++row)
      write_row(output_.dtype, output_.row(q_begin_ + row), output_.dim, spec_.value_dim,
                from.data + row * from.stride);
  }
  void store_lse(const TileInst& inst) {
    write_row(lse_.dtype, lse_.row(q_begin_), lse_.seq, rows_, tile(inst.a).data);
  }

  const AttentionPlan& plan_;
  const AttentionSpec& spec_;
  const TileOps<T>& tiles_;
  std::byte* scratch_;
  LaneContext at_;
  int64_t q_len_ = 0, kv_len_ = 0, heads_ = 1;

  // Of the item, and of the block of keys.
  InlineArray<Rows, 4> queries_, keys_;
  Rows values_, output_, lse_;
  int64_t q_begin_ = 0, rows_ = 0;
  bool transposed_ = true;
  int64_t kv_begin_ = 0, keys_here_ = 0, width_ = 0;
};

using AttentionKernel = ItemKernel<AttentionPlan, AttentionRun<float>, AttentionRun<double>>;

}  // namespace

TierStep make_attention(const AttentionSpec& spec, CpuIsa isa) {
  CpuSchedule schedule = tier_schedule(isa, spec.accumulate);
  schedule.block_q = kBlockQ;
  schedule.block_kv = kBlockKv;
  return make_step(std::move(schedule), item_count(spec, kBlockQ), std::make_shared<const AttentionKernel>(spec, isa));
}

}  // namespace tilewright::tier
