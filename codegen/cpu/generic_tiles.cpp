// The ops on tiles: one loop nest each.
#include <cmath>
#include <limits>
#include <numbers>

#include "codegen/cpu/generic_template.h"
#include "codegen/cpu/vector_math.h"
#include "ir/result.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {}

Value* GenericTemplate::pointer(const Tile& tile, Value* row, Value* column) {
  Value* base = b_.byte_pointer(b_.argument(3), b_.i64(tile.offset));
  return b_.element_pointer(type_, base, b_.add(b_.mul(row, b_.i64(tile.width)), column));
}
Value* GenericTemplate::load(const Tile& tile, Value* row, Value* column, int64_t lanes) {
  return b_.load_vector(type_, pointer(tile, row, column), lanes);
}
void GenericTemplate::store(const Tile& tile, Value* row, Value* column, Value* value) {
  b_.store_vector(type_, value, pointer(tile, row, column));
}

void GenericTemplate::for_rows(const std::function<void(Value* row)>& body) {
  b_.loop_nonempty(b_.i64(0), rows_, 1, {}, [&](Value* row, const Values&) {
    body(row);
    return Values{};
  });
}
void GenericTemplate::for_vectors(int64_t width, const std::function<void(Value* column)>& body) {
  b_.loop_nonempty(b_.i64(0), b_.i64(width), lanes_, {}, [&](Value* column, const Values&) {
    body(column);
    return Values{};
  });
}

Value* GenericTemplate::combine(const TileInst& inst, Value* a, Value* b) {
  auto& ir = b_.ir;
  const int64_t lanes = lanes_;
  switch (inst.op) {
    case TileOp::fill: return b_.constant(type_, inst.literal, lanes);
    case TileOp::max: return b_.max_ignoring_nan(a, b);
    case TileOp::finite_or_zero:
      return ir.CreateSelect(ir.CreateFCmpOEQ(a, b_.constant(type_, kMinusInfinity, lanes)),
                             b_.constant(type_, 0, lanes), a);
    case TileOp::exp2_sub: return math::exp2(b_, ir.CreateFSub(a, b));
    case TileOp::mul: return ir.CreateFMul(a, b);
    case TileOp::add: return ir.CreateFAdd(a, b);
    case TileOp::div_or_zero: {
      Value* zero = b_.constant(type_, 0, lanes);
      return ir.CreateSelect(ir.CreateFCmpOEQ(b, zero), zero, ir.CreateFDiv(a, b));
    }
    case TileOp::log2_add: {
      return ir.CreateSelect(ir.CreateFCmpOEQ(b, b_.constant(type_, 0, lanes)),
                             b_.constant(type_, kMinusInfinity, lanes), math::logsumexp(b_, a, b));
    }
    default: TW_CHECK(!"an elementwise tile op");
  }
  return nullptr;
}

/// A column operand of a tile is broadcast along its rows. Columns are computed in whole vectors: lanes past the last
/// row hold nothing that is read.
void GenericTemplate::elementwise(const TileInst& inst) {
  const Tile& result = tile(inst.dst);
  const auto operand = [&](int value, Value* row, Value* column) -> Value* {
    if (value < 0) return nullptr;
    const Tile& from = tile(value);
    if (from.shape == TileShape::column && result.shape != TileShape::column)
      return b_.splat(load(from, b_.i64(0), row, 1), lanes_);
    return load(from, row, column, lanes_);
  };
  if (result.shape == TileShape::column) {
    for_vectors(result.width, [&](Value* column) {
      Value* row = b_.i64(0);
      store(result, row, column, combine(inst, operand(inst.a, row, column), operand(inst.b, row, column)));
    });
    return;
  }
  for_rows([&](Value* row) {
    for_vectors(result.width, [&](Value* column) {
      store(result, row, column, combine(inst, operand(inst.a, row, column), operand(inst.b, row, column)));
    });
  });
}

void GenericTemplate::row_reduce(const TileInst& inst) {
  const Tile &from = tile(inst.a), &to = tile(inst.dst);
  const bool sum = inst.op == TileOp::row_sum;
  for_rows([&](Value* row) {
    Value* start = b_.constant(type_, sum ? 0 : kMinusInfinity, lanes_);
    Value* folded =
        b_.loop_nonempty(b_.i64(0), b_.i64(from.width), lanes_, {start}, [&](Value* column, const Values& carried) {
          Value* next = load(from, row, column, lanes_);
          return Values{sum ? b_.ir.CreateFAdd(carried[0], next) : b_.max_ignoring_nan(next, carried[0])};
        })[0];
    store(to, b_.i64(0), row, sum ? b_.reduce_add(folded) : b_.reduce_max(folded));
  });
}

/// Columns past the block's end become what the normaliser ignores, whatever the expression makes of them.
void GenericTemplate::map_score(const TileInst& inst) {
  const double hidden = spec_.normaliser == Normaliser::softmax ? kMinusInfinity : 0;
  for_scores(score_, [&](Value* row, Value* column, Value* active) {
    Value* score = score_.emit(b_.add(kv_begin_, column), load(tile(inst.a), row, column, lanes_), active);
    score = b_.splat(score, lanes_);
    if (program_.score_scale != 1) score = b_.ir.CreateFMul(score, b_.constant(type_, program_.score_scale, lanes_));
    store(tile(inst.dst), row, column, b_.ir.CreateSelect(active, score, b_.constant(type_, hidden, lanes_)));
  });
}

void GenericTemplate::mask(const TileInst& inst) {
  for_scores(keep_, [&](Value* row, Value* column, Value* active) {
    Value* keep = b_.splat(keep_.emit(b_.add(kv_begin_, column), nullptr, active), lanes_);
    Value* score = load(tile(inst.a), row, column, lanes_);
    store(tile(inst.dst), row, column, b_.ir.CreateSelect(keep, score, b_.constant(type_, inst.literal, lanes_)));
  });
}

void GenericTemplate::map_weight(const TileInst& inst) {
  for_scores(*weight_, [&](Value* row, Value* column, Value* active) {
    Value* factor = b_.splat(weight_->emit(b_.add(kv_begin_, column), nullptr, active), lanes_);
    Value* weight = b_.ir.CreateFMul(load(tile(inst.a), row, column, lanes_), factor);
    store(tile(inst.dst), row, column, b_.ir.CreateSelect(active, weight, b_.constant(type_, 0, lanes_)));
  });
}

void GenericTemplate::for_scores(ExprEmitter& expr,
                                 const std::function<void(Value* row, Value* column, Value* active)>& body) {
  for_rows([&](Value* row) {
    expr.set_axis(Axis::q, b_.add(item_.q_begin, row));
    expr.hoist();
    for_vectors(block_kv_, [&](Value* column) {
      Value* left = b_.sub(b_.sub(kv_end_, kv_begin_), column);
      body(row, column, b_.lane_mask(left, lanes_));
    });
  });
}

void GenericTemplate::load_sink(const TileInst& inst) {
  for_rows([&](Value* row) {
    sink_->set_axis(Axis::q, b_.add(item_.q_begin, row));
    Value* sink = accumulated(spec_.sink->root_node().dtype, sink_->emit());
    store(tile(inst.dst), b_.i64(0), row, b_.ir.CreateFMul(sink, b_.constant(type_, std::numbers::log2e)));
  });
}

}  // namespace tilewright::cpu
