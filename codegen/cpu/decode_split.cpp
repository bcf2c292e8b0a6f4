#include "codegen/cpu/decode_split.h"

#include <limits>

#include "codegen/cpu/vector_math.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

bool depends_on(const Expr& expr, Axis axis) {
  const Expr pruned = expr.pruned();
  const auto bits = dependencies(pruned);
  return !bits.empty() && (bits[static_cast<size_t>(raw(pruned.root()))] & bit(axis));
}
bool is_constant_false(const Expr& expr) {
  return expr.root_node().kind == ExprKind::constant && expr.root_node().literal.integer == 0;
}
}  // namespace

void DecodeSplit::Emitters::set(Axis axis, Value* value) {
  for (ExprEmitter* e : {&score, &keep, &keep_kv, &keep_kv_one, &begin, &end, &skip}) e->set_axis(axis, value);
}
void DecodeSplit::Emitters::hoist() {
  for (ExprEmitter* e : {&score, &keep}) e->hoist();
}

void DecodeSplit::kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  ArgsReader args(b_, args_layout_);
  const auto emitter = [&](const Expr& expr, int64_t lanes) {
    return ExprEmitter(b_, args, spec_.tensors, expr, lanes, Axis::kv);
  };
  Emitters emit{emitter(leading_.expr, l_.lanes), emitter(spec_.keep, l_.lanes),    emitter(spec_.keep_kv, l_.lanes),
                emitter(spec_.keep_kv, 1),        emitter(spec_.kv_range.begin, 1), emitter(spec_.kv_range.end, 1),
                emitter(spec_.kv_range.skip, 1)};
  DecodeTiles tiles(b_, l_, b_.argument(3));
  tiles_ = &tiles;
  Value* kv_len = args.dim(spec_.kv_len);
  Value* splits = b_.ceil_div(kv_len, l_.split_kv);
  Value* kv_heads = b_.ir.CreateUDiv(extent_product(b_, args, spec_.heads), b_.i64(spec_.head_group));
  Value* rows = b_.mul(args.dim(spec_.q_len), b_.i64(spec_.head_group));
  Value* workspace = args.workspace();
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* index) {
    Value* sequence = b_.ir.CreateUDiv(index, splits);
    Value* begin = b_.mul(b_.sub(index, b_.mul(sequence, splits)), b_.i64(l_.split_kv));
    Value* batch = b_.ir.CreateUDiv(sequence, kv_heads);
    Value* head = b_.mul(b_.sub(sequence, b_.mul(batch, kv_heads)), b_.i64(spec_.head_group));
    Value* state = tiles.at(workspace, b_.mul(b_.mul(index, rows), b_.i64(l_.record())));
    item(args, emit, {batch, head, begin, b_.min(b_.add(begin, b_.i64(l_.split_kv)), kv_len), state});
  });
  b_.ret();
  tiles_ = nullptr;
}

/// Runs `body` for every query head of the group when an expression depends on it, else once.
Value* DecodeSplit::over_heads(const std::vector<const Expr*>& exprs, const Item& item, Emitters& emit,
                               const Values& start, const std::function<Values(const Values&)>& body, Values& result) {
  bool each = false;
  for (const Expr* expr : exprs) each = each || depends_on(*expr, Axis::h);
  const int64_t heads = each ? spec_.head_group : 1;
  result = b_.loop_nonempty(b_.i64(0), b_.i64(heads), 1, start, [&](Value* g, const Values& carried) {
    emit.set(Axis::h, b_.add(item.h, g));
    return body(carried);
  });
  return result[0];
}

/// The part of the split that any row may keep.
Values DecodeSplit::key_range(ArgsReader&, Emitters& emit, const Item& item) {
  Values range;
  over_heads(
      {&spec_.kv_range.begin, &spec_.kv_range.end}, item, emit, {item.end, item.begin},
      [&](const Values& carried) {
        return Values{b_.min(carried[0], emit.begin.emit()), b_.max(carried[1], emit.end.emit())};
      },
      range);
  return {b_.max(range[0], item.begin), b_.min(range[1], item.end)};
}

/// No row keeps any of these keys.
Value* DecodeSplit::skipped(ArgsReader&, Emitters& emit, const Item& item, Value* first, Value* last) {
  Values result;
  emit.set(Axis::kv_lo, first);
  emit.set(Axis::kv_hi, last);
  return over_heads(
      {&spec_.kv_range.skip}, item, emit, {b_.ir.getTrue()},
      [&](const Values& carried) { return Values{b_.ir.CreateAnd(carried[0], emit.skip.emit())}; }, result);
}

void DecodeSplit::item(ArgsReader& args, Emitters& emit, const Item& item) {
  Value* q_len = args.dim(spec_.q_len);
  emit.set(Axis::b, item.b);
  emit.hoist();
  emit.set(Axis::q_lo, b_.i64(0));
  emit.set(Axis::q_hi, b_.sub(q_len, b_.i64(1)));
  const Values range = key_range(args, emit, item);
  Value* total = b_.mul(q_len, b_.i64(spec_.head_group));
  b_.loop(b_.i64(0), total, l_.rows, [&](Value* first) {
    rows(args, emit, item, first, b_.min(b_.sub(total, first), b_.i64(l_.rows)), range[0], range[1]);
  });
}

void DecodeSplit::pack_queries(ArgsReader& args, const Item& item, Value* first_row, Value* count) {
  const DType dtype = spec_.tensors[static_cast<size_t>(spec_.dots[0].query.tensor)].type.dtype;
  const int64_t lanes = l_.lanes, unit = l_.key.pairs ? 2 : 1;
  b_.loop_nonempty(b_.i64(0), count, 1, {}, [&](Value* i, const Values&) {
    Value* row = b_.add(first_row, i);
    Value* q = b_.ir.CreateUDiv(row, b_.i64(spec_.head_group));
    Value* h = b_.add(item.h, b_.sub(row, b_.mul(q, b_.i64(spec_.head_group))));
    const RowAccess query = resolve_access(b_, args, spec_, spec_.dots[0].query, item.b, h);
    Value* from = b_.element_pointer(dtype, query.base, b_.mul(q, query.stride_seq));
    Value* to = tiles_->at(tiles_->scratch(l_.q_at), b_.mul(i, b_.i64(l_.query_stride)));
    auto copy = [&](Value* column, int64_t width, Value* mask) {
      Value* pointer = b_.element_pointer(dtype, from, b_.mul(column, query.stride_dim));
      Value* x = b_.ir.CreateFPCast(b_.load_strided(dtype, pointer, query.stride_dim, width, mask),
                                    b_.vector_type(l_.dtype, width));
      x = b_.ir.CreateFMul(x, b_.constant(l_.dtype, leading_.scale, width));
      for (int64_t part = 0; part < width / lanes; ++part) {
        std::vector<int> pick(static_cast<size_t>(lanes));
        for (int64_t k = 0; k < lanes; ++k)
          pick[static_cast<size_t>(k)] = static_cast<int>(width == lanes ? k : 2 * k + part);
        b_.store_vector(l_.dtype, b_.ir.CreateShuffleVector(x, pick),
                        tiles_->at(to, b_.add(column, b_.i64(part * lanes))));
      }
    };
    b_.loop(b_.i64(0), b_.i64(l_.key.vectors * lanes), unit * lanes,
            [&](Value* column) { copy(column, unit * lanes, nullptr); });
    if (l_.key.tail) copy(b_.i64(l_.key.vectors * lanes), lanes, b_.lane_mask(b_.i64(l_.key.tail), lanes));
    return Values{};
  });
}

void DecodeSplit::rows(ArgsReader& args, Emitters& emit, const Item& item, Value* first_row, Value* count, Value* begin,
                       Value* end) {
  DecodeTiles& t = *tiles_;
  Value* state = t.at(item.state, b_.mul(first_row, b_.i64(l_.record())));
  auto fill = [&](Value* base, Value* length, double with) {
    b_.loop(b_.i64(0), length, l_.lanes,
            [&](Value* i) { b_.store_vector(l_.dtype, b_.constant(l_.dtype, with, l_.lanes), t.at(base, i)); });
  };
  auto unused = [&] {
    b_.loop_nonempty(b_.i64(0), count, 1, {}, [&](Value* row, const Values&) {
      Value* record = t.at(state, b_.mul(row, b_.i64(l_.record())));
      b_.store(l_.dtype, b_.constant(l_.dtype, 0), t.at(record, b_.i64(l_.value_stride + 1)));
      return Values{};
    });
    return Values{};
  };
  auto used = [&] {
    fill(state, b_.mul(count, b_.i64(l_.record())), 0);
    b_.loop(b_.i64(0), count, 1, [&](Value* row) {
      b_.store(l_.dtype, b_.constant(l_.dtype, kMinusInfinity), t.at(t.scratch(l_.max_at), row));
    });
    fill(t.scratch(l_.sum_at), b_.mul(count, b_.i64(l_.lanes)), 0);
    pack_queries(args, item, first_row, count);
    const RowAccess key = resolve_access(b_, args, spec_, spec_.dots[0].key, item.b, item.h);
    const RowAccess value = resolve_access(b_, args, spec_, spec_.value, item.b, item.h);
    b_.loop_nonempty(begin, end, l_.block_kv, {}, [&](Value* kv, const Values&) {
      Value* keys = b_.min(b_.sub(end, kv), b_.i64(l_.block_kv));
      auto run = [&] {
        block(emit, item, first_row, count, key, value, kv, keys);
        return Values{};
      };
      if (is_constant_false(spec_.kv_range.skip)) return run();
      Value* skip = skipped(args, emit, item, kv, b_.sub(b_.add(kv, keys), b_.i64(1)));
      return b_.branch(skip, [] { return Values{}; }, run);
    });
    b_.loop_nonempty(b_.i64(0), count, 1, {}, [&](Value* row, const Values&) {
      Value* record = t.at(state, b_.mul(row, b_.i64(l_.record())));
      Value* sum = softmax() ? b_.reduce_add(b_.load_vector(
                                   l_.dtype, t.at(t.scratch(l_.sum_at), b_.mul(row, b_.i64(l_.lanes))), l_.lanes))
                             : b_.constant(l_.dtype, 1);
      b_.store(l_.dtype, b_.load(l_.dtype, t.at(t.scratch(l_.max_at), row)), t.at(record, b_.i64(l_.value_stride)));
      b_.store(l_.dtype, sum, t.at(record, b_.i64(l_.value_stride + 1)));
      return Values{};
    });
    return Values{};
  };
  b_.branch(b_.ir.CreateICmpSLT(begin, end), used, unused);
}

/// Rows where they lie when the innermost stride is 1 and nothing is hidden; else a copy, hidden rows as zeros.
DecodeBlock DecodeSplit::natural_or_staged(Emitters& emit, const DecodeOperand& operand, const RowAccess& access,
                                           Value* kv, Value* keys, int64_t stage_at, bool hide) {
  auto& ir = b_.ir;
  Value* base = b_.element_pointer(operand.dtype, access.base, b_.mul(kv, access.stride_seq));
  Value* natural = ir.CreateICmpEQ(access.stride_dim, b_.i64(1));
  if (hide) {
    Value* all = b_.loop_nonempty(b_.i64(0), keys, l_.lanes, {ir.getTrue()}, [&](Value* i, const Values& carried) {
      Value* beyond = ir.CreateNot(b_.lane_mask(b_.sub(keys, i), l_.lanes));
      Value* kept = ir.CreateOr(emit.keep_kv.emit(b_.add(kv, i), nullptr, ir.CreateNot(beyond)), beyond);
      return Values{ir.CreateAnd(carried[0], ir.CreateAndReduce(kept))};
    })[0];
    natural = ir.CreateAnd(natural, all);
  }
  Value* stage = tiles_->scratch(stage_at);
  const Values chosen = b_.branch(
      natural, [&] { return Values{base, access.stride_seq}; },
      [&] {
        llvm::Type* raw = b_.memory_type(operand.dtype);
        const llvm::Align align(static_cast<uint64_t>(size_of(operand.dtype)));
        b_.loop_nonempty(b_.i64(0), keys, 1, {}, [&](Value* k, const Values&) {
          Value* kept = hide ? emit.keep_kv_one.emit(b_.add(kv, k), nullptr, nullptr) : ir.getTrue();
          Value* from = b_.element_pointer(operand.dtype, base, b_.mul(k, access.stride_seq));
          Value* to = b_.element_pointer(operand.dtype, stage, b_.mul(k, b_.i64(operand.dim)));
          b_.loop_nonempty(b_.i64(0), b_.i64(operand.dim), 1, {}, [&](Value* d, const Values&) {
            Value* x =
                ir.CreateAlignedLoad(raw, b_.element_pointer(operand.dtype, from, b_.mul(d, access.stride_dim)), align);
            ir.CreateAlignedStore(ir.CreateSelect(kept, x, llvm::Constant::getNullValue(raw)),
                                  b_.element_pointer(operand.dtype, to, d), align);
            return Values{};
          });
          return Values{};
        });
        return Values{stage, b_.i64(operand.dim)};
      });
  return {chosen[0], chosen[1], keys};
}

void DecodeSplit::block(Emitters& emit, const Item& item, Value* first_row, Value* count, const RowAccess& key,
                        const RowAccess& value, Value* kv, Value* keys) {
  // Scores of hidden keys are masked, whatever K holds there; V must not reach the product with its weight of 0.
  tiles_->scores(natural_or_staged(emit, l_.key, key, kv, keys, l_.key_stage_at, false), count);
  weights(emit, item, first_row, count, kv, keys);
  const bool hide = !spec_.keep_kv.is_constant_true();
  if (hide) {
    emit.set(Axis::h, item.h);
    emit.keep_kv.hoist();
    emit.keep_kv_one.hoist();
  }
  const DecodeBlock values = natural_or_staged(emit, l_.value, value, kv, keys, l_.value_stage_at, hide);
  tiles_->outputs(values, count, tiles_->at(item.state, b_.mul(first_row, b_.i64(l_.record()))));
}

/// S becomes P in place, row by row; the maximum, the sum and the factor of earlier sums advance.
void DecodeSplit::weights(Emitters& emit, const Item& item, Value* first_row, Value* count, Value* kv, Value* keys) {
  auto& ir = b_.ir;
  DecodeTiles& t = *tiles_;
  const DType type = l_.dtype;
  const int64_t lanes = l_.lanes;
  Value* hidden = b_.constant(type, softmax() ? kMinusInfinity : 0, lanes);
  b_.loop_nonempty(b_.i64(0), count, 1, {}, [&](Value* i, const Values&) {
    Value* row = b_.add(first_row, i);
    Value* q = ir.CreateUDiv(row, b_.i64(spec_.head_group));
    emit.set(Axis::h, b_.add(item.h, b_.sub(row, b_.mul(q, b_.i64(spec_.head_group)))));
    emit.set(Axis::q, q);
    emit.hoist();
    Value* scores = t.at(t.scratch(l_.scores_at), b_.mul(i, b_.i64(l_.block_kv)));
    Value* maximum = b_.loop_nonempty(
        b_.i64(0), keys, lanes, {b_.constant(type, kMinusInfinity, lanes)}, [&](Value* column, const Values& carried) {
          Value* position = b_.add(kv, column);
          Value* inside = b_.lane_mask(b_.sub(keys, column), lanes);
          Value* s = emit.score.emit(position, b_.load_vector(type, t.at(scores, column), lanes), inside);
          if (program_.score_scale != 1) s = ir.CreateFMul(s, b_.constant(type, program_.score_scale, lanes));
          Value* kept = inside;
          if (!spec_.keep.is_constant_true()) kept = ir.CreateAnd(inside, emit.keep.emit(position, nullptr, inside));
          s = ir.CreateSelect(kept, s, hidden);
          b_.store_vector(type, s, t.at(scores, column));
          return Values{softmax() ? b_.max_ignoring_nan(s, carried[0]) : carried[0]};
        })[0];
    Value* factor = t.at(t.scratch(l_.factor_at), i);
    if (!softmax()) {
      b_.store(type, b_.constant(type, 1), factor);
      return Values{};
    }
    Value* max_slot = t.at(t.scratch(l_.max_at), i);
    Value* before = b_.load(type, max_slot);
    Value* after = b_.max_ignoring_nan(b_.reduce_max(maximum), before);
    // Rows that keep nothing so far stay at -inf; their reference is 0, so that nothing becomes -inf - -inf.
    Value* reference =
        ir.CreateSelect(ir.CreateFCmpOEQ(after, b_.constant(type, kMinusInfinity)), b_.constant(type, 0), after);
    b_.store(type, after, max_slot);
    Value* scale = math::exp2(b_, ir.CreateFSub(before, reference));
    b_.store(type, scale, factor);
    Value* subtract = b_.splat(reference, lanes);
    Value* sum_slot = t.at(t.scratch(l_.sum_at), b_.mul(i, b_.i64(lanes)));
    Value* sum = ir.CreateFMul(b_.load_vector(type, sum_slot, lanes), b_.splat(scale, lanes));
    sum = b_.loop_nonempty(b_.i64(0), keys, lanes, {sum}, [&](Value* column, const Values& carried) {
      Value* p = math::exp2(b_, ir.CreateFSub(b_.load_vector(type, t.at(scores, column), lanes), subtract));
      b_.store_vector(type, p, t.at(scores, column));
      return Values{ir.CreateFAdd(carried[0], p)};
    })[0];
    b_.store_vector(type, sum, sum_slot);
    return Values{};
  });
}

}  // namespace tilewright::cpu
