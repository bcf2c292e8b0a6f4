#include "codegen/cpu/decode_split.h"

#include <fmt/format.h>

#include <limits>
#include <optional>

namespace tilewright::cpu {
using llvm::Value;

namespace {

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
  for (ExprEmitter* e : {&keep_kv, &begin, &end, &skip}) e->set_axis(axis, value);
}

DecodeSplit::DecodeSplit(LlvmBuilder& builder, const TileProgram& program, const DecodeLayout& layout)
    : b_(builder),
      spec_(program.spec),
      l_(layout),
      args_layout_(args_layout(program.spec)),
      // Tiles multiply queries of bf16, which a scale would round once more: the score keeps it.
      leading_(layout.tiles.columns == 0 ? leading_scale(program.score) : LeadingScale{1, program.score}),
      computed_(emit_rows(builder, spec_, args_layout_, spec_.dots[0], layout.lanes, "rows")),
      vectors_(builder, layout),
      weights_(builder, program, leading_.expr, layout) {
  if (layout.tiles.columns > 0) tiles_.emplace(builder, layout, vectors_);
  for (const auto& which : {std::pair{l_.key.dtype, false}, std::pair{l_.value.dtype, hides()}})
    if (!copies_.contains(which)) copies_[which] = emit_copy(which.first, which.second);
}

void DecodeSplit::kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  b_.mark_cold();
  ArgsReader args(b_, args_layout_);
  const auto emitter = [&](const Expr& expr, int64_t lanes) {
    return ExprEmitter(b_, args, spec_.tensors, expr, lanes, Axis::kv);
  };
  Emitters emit{emitter(spec_.keep_kv, l_.lanes), emitter(spec_.kv_range.begin, 1), emitter(spec_.kv_range.end, 1),
                emitter(spec_.kv_range.skip, 1)};
  Value* kv_len = args.dim(spec_.kv_len);
  Value* splits = b_.ceil_div(kv_len, l_.split_kv);
  Value* kv_heads = b_.ir.CreateUDiv(extent_product(b_, args, spec_.heads), b_.i64(spec_.head_group));
  Value* rows = b_.mul(args.dim(spec_.q_len), b_.i64(spec_.head_group));
  Value* key_bytes = b_.i64(l_.key.dim * size_of(l_.key.dtype) + l_.value.dim * size_of(l_.value.dtype));
  Value* bytes = b_.mul(b_.mul(extent_product(b_, args, spec_.batch), kv_heads), b_.mul(kv_len, key_bytes));
  from_memory_ = b_.ir.CreateICmpUGT(bytes, b_.i64(b_.target().l3_bytes / 2));
  Value* workspace = args.workspace();
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* index) {
    Value* sequence = b_.ir.CreateUDiv(index, splits);
    Value* begin = b_.mul(b_.sub(index, b_.mul(sequence, splits)), b_.i64(l_.split_kv));
    Value* batch = b_.ir.CreateUDiv(sequence, kv_heads);
    Value* head = b_.mul(b_.sub(sequence, b_.mul(batch, kv_heads)), b_.i64(spec_.head_group));
    Value* state = at(workspace, b_.mul(b_.mul(index, rows), b_.i64(l_.record())));
    item(args, emit, {batch, head, begin, b_.min(b_.add(begin, b_.i64(l_.split_kv)), kv_len), state});
  });
  b_.ret();
}

/// Runs `body` for every query head of the group when an expression depends on it, else once.
Values DecodeSplit::over_heads(const std::vector<const Expr*>& exprs, const Item& item, Emitters& emit,
                               const Values& start, const std::function<Values(const Values&)>& body) {
  bool each = false;
  for (const Expr* expr : exprs) each = each || depends_on(*expr, Axis::h);
  if (!each || spec_.head_group == 1) {
    emit.set(Axis::h, item.h);
    return body(start);
  }
  return b_.loop_nonempty(b_.i64(0), b_.i64(spec_.head_group), 1, start, [&](Value* g, const Values& carried) {
    emit.set(Axis::h, b_.add(item.h, g));
    return body(carried);
  });
}

/// The part of the split that any row may keep.
Values DecodeSplit::key_range(Emitters& emit, const Item& item) {
  Values range = over_heads({&spec_.kv_range.begin, &spec_.kv_range.end}, item, emit, {item.end, item.begin},
                            [&](const Values& carried) {
                              return Values{b_.min(carried[0], emit.begin.emit()), b_.max(carried[1], emit.end.emit())};
                            });
  // A split starts at a multiple of 4; so do its blocks when there are weights to compute.
  if (spec_.weight_factor) range[0] = b_.ir.CreateAnd(range[0], b_.i64(-4));
  return {b_.max(range[0], item.begin), b_.min(range[1], item.end)};
}

/// No row keeps any of these keys.
Value* DecodeSplit::skipped(Emitters& emit, const Item& item, Value* first, Value* last) {
  emit.set(Axis::kv_lo, first);
  emit.set(Axis::kv_hi, last);
  return over_heads({&spec_.kv_range.skip}, item, emit, {b_.ir.getTrue()},
                    [&](const Values& carried) { return Values{b_.ir.CreateAnd(carried[0], emit.skip.emit())}; })[0];
}

void DecodeSplit::item(ArgsReader& args, Emitters& emit, const Item& item) {
  Value* q_len = args.dim(spec_.q_len);
  emit.set(Axis::b, item.b);
  emit.set(Axis::q_lo, b_.i64(0));
  emit.set(Axis::q_hi, b_.sub(q_len, b_.i64(1)));
  const Values range = key_range(emit, item);
  Value* total = b_.mul(q_len, b_.i64(spec_.head_group));
  b_.loop(b_.i64(0), total, l_.rows, [&](Value* first) {
    rows(args, emit, item, first, b_.min(b_.sub(total, first), b_.i64(l_.rows)), range[0], range[1]);
  });
}

void DecodeSplit::pack_queries(ArgsReader& args, const Item& item, Value* first_row, Value* count) {
  const DotTerm& dot = spec_.dots[0];
  const DType dtype = operand_dtype(spec_, dot.query, dot.query_row);
  b_.loop_nonempty(b_.i64(0), count, 1, {}, [&](Value* i, const Values&) {
    Value* row = b_.add(first_row, i);
    Value* q = b_.ir.CreateUDiv(row, b_.i64(spec_.head_group));
    Value* h = b_.add(item.h, b_.sub(row, b_.mul(q, b_.i64(spec_.head_group))));
    const RowAccess query = resolve_stored(b_, args, spec_, dot.query, dot.query_row, item.b, h);
    Value* from = b_.element_pointer(dtype, query.base, b_.mul(q, query.stride_seq));
    if (computed_.query) {
      from = scratch(l_.row_at);
      computed_.query->call(item.b, h, q, b_.i64(1), from);
    }
    if (tiles_)
      pack_for_tiles(dtype, from, query.stride_dim, i);
    else
      pack_for_vectors(dtype, from, query.stride_dim, i);
    return Values{};
  });
}

void DecodeSplit::pack_for_vectors(DType dtype, Value* from, Value* stride, Value* row) {
  const int64_t lanes = l_.lanes, unit = l_.key.pairs ? 2 : 1;
  Value* to = at(scratch(l_.q_at), b_.mul(row, b_.i64(l_.query_stride)));
  auto copy = [&](Value* column, int64_t width, Value* mask) {
    Value* pointer = b_.element_pointer(dtype, from, b_.mul(column, stride));
    Value* x =
        b_.ir.CreateFPCast(b_.load_strided(dtype, pointer, stride, width, mask), b_.vector_type(l_.dtype, width));
    x = b_.ir.CreateFMul(x, b_.constant(l_.dtype, leading_.scale, width));
    for (int64_t part = 0; part < width / lanes; ++part) {
      std::vector<int> pick(static_cast<size_t>(lanes));
      for (int64_t k = 0; k < lanes; ++k)
        pick[static_cast<size_t>(k)] = static_cast<int>(width == lanes ? k : 2 * k + part);
      b_.store_vector(l_.dtype, b_.ir.CreateShuffleVector(x, pick), at(to, b_.add(column, b_.i64(part * lanes))));
    }
  };
  b_.loop(b_.i64(0), b_.i64(l_.key.vectors * lanes), unit * lanes,
          [&](Value* column) { copy(column, unit * lanes, nullptr); });
  if (l_.key.tail) copy(b_.i64(l_.key.vectors * lanes), lanes, b_.lane_mask(b_.i64(l_.key.tail), lanes));
}

void DecodeSplit::pack_for_tiles(DType dtype, Value* from, Value* stride, Value* row) {
  Value* to = scratch(l_.tiles.query_at);
  b_.loop_nonempty(b_.i64(0), b_.i64(l_.key.dim), l_.lanes, {}, [&](Value* column, const Values&) {
    Value* pointer = b_.element_pointer(dtype, from, b_.mul(column, stride));
    Value* mask = l_.key.tail ? b_.lane_mask(b_.sub(b_.i64(l_.key.dim), column), l_.lanes) : nullptr;
    Value* x = b_.load_strided(dtype, pointer, stride, l_.lanes, mask);
    b_.store_vector(DType::bf16, x, b_.element_pointer(DType::bf16, to, column));
    return Values{};
  });
  tiles_->pack_query(b_.argument(3), row);
}

void DecodeSplit::rows(ArgsReader& args, Emitters& emit, const Item& item, Value* first_row, Value* count, Value* begin,
                       Value* end) {
  Value* state = at(item.state, b_.mul(first_row, b_.i64(l_.record())));
  auto fill = [&](int64_t from, int64_t to, double with) {
    b_.loop_nonempty(b_.i64(from), b_.i64(to), l_.lanes, {}, [&](Value* i, const Values&) {
      b_.store_vector(l_.dtype, b_.constant(l_.dtype, with, l_.lanes), at(b_.argument(3), i));
      return Values{};
    });
  };
  auto each_row = [&](const std::function<void(Value * row, Value * record)>& body) {
    b_.loop_nonempty(b_.i64(0), count, 1, {}, [&](Value* row, const Values&) {
      body(row, at(state, b_.mul(row, b_.i64(l_.record()))));
      return Values{};
    });
  };
  auto unused = [&] {
    each_row([&](Value*, Value* record) {
      b_.store(l_.dtype, b_.constant(l_.dtype, 0), at(record, b_.i64(l_.value_stride + 1)));
    });
    return Values{};
  };
  const auto compute = [&](Value* exactly) {
    fill(l_.max_at, l_.sum_at, kMinusInfinity);
    fill(l_.sum_at, l_.factor_at, 0);
    fill(l_.factor_at, l_.sums_at, 1);
    fill(l_.sums_at, l_.partial_at, 0);
    pack_queries(args, item, first_row, count);
    const DotTerm& dot = spec_.dots[0];
    const RowAccess key = resolve_stored(b_, args, spec_, dot.key, dot.key_row, item.b, item.h);
    const RowAccess value = resolve_access(b_, args, spec_, spec_.value, item.b, item.h);
    b_.loop_nonempty(begin, end, l_.block_kv, {}, [&](Value* kv, const Values&) {
      Value* keys = b_.min(b_.sub(end, kv), b_.i64(l_.block_kv));
      auto run = [&] { block(emit, {item.b, item.h, first_row, count, kv, keys}, key, value, exactly); };
      if (is_constant_false(spec_.kv_range.skip))
        run();
      else
        b_.when(b_.ir.CreateNot(skipped(emit, item, kv, b_.sub(b_.add(kv, keys), b_.i64(1)))), run);
      return Values{};
    });
  };
  auto used = [&] {
    if (!tiles_) compute(nullptr);
    // What tiles made of V is right wherever it is finite; else everything is computed once more.
    if (tiles_)
      b_.loop_nonempty(b_.i64(0), b_.i64(2), 1, {b_.ir.getFalse()}, [&](Value* attempt, const Values& done) {
        return b_.branch(
            done[0], [&] { return done; },
            [&] {
              compute(b_.ir.CreateICmpNE(attempt, b_.i64(0)));
              return Values{sums_are_finite(count)};
            });
      });
    each_row([&](Value* row, Value* record) {
      Value* sums = at(scratch(l_.sums_at), b_.mul(row, b_.i64(l_.value_stride)));
      b_.loop_nonempty(b_.i64(0), b_.i64(l_.value_stride), l_.lanes, {}, [&](Value* column, const Values&) {
        b_.store_vector(l_.dtype, b_.load_vector(l_.dtype, at(sums, column), l_.lanes), at(record, column));
        return Values{};
      });
      Value* sum = b_.constant(l_.dtype, 1);
      if (softmax())
        sum = b_.reduce_add(b_.load_vector(l_.dtype, at(scratch(l_.sum_at), b_.mul(row, b_.i64(l_.lanes))), l_.lanes));
      b_.store(l_.dtype, b_.load(l_.dtype, at(scratch(l_.max_at), row)), at(record, b_.i64(l_.value_stride)));
      b_.store(l_.dtype, sum, at(record, b_.i64(l_.value_stride + 1)));
    });
    return Values{};
  };
  b_.branch(b_.ir.CreateICmpSLT(begin, end), used, unused);
}

/// void copy(args, b, h, kv, keys, from, stride of keys, stride of d, dim, to): rows one after another, hidden ones as
/// zeros.
llvm::Function* DecodeSplit::emit_copy(DType dtype, bool hide) {
  auto& ir = b_.ir;
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  const std::string name = fmt::format("{}_{}", hide ? "copy_visible" : "copy", to_string(dtype));
  llvm::Function* function = b_.begin_internal(name, ir.getVoidTy(), {p, i, i, i, i, p, i, i, i, p});
  auto arg = [&](unsigned n) { return b_.argument(n); };
  std::optional<ArgsReader> args;
  std::optional<ExprEmitter> visible;
  if (hide) {
    args.emplace(b_, args_layout_);
    visible.emplace(b_, *args, spec_.tensors, spec_.keep_kv, 1, Axis::kv);
    visible->set_axis(Axis::b, arg(1));
    visible->set_axis(Axis::h, arg(2));
    visible->hoist();
  }
  llvm::Type* raw = b_.memory_type(dtype);
  const llvm::Align align(static_cast<uint64_t>(size_of(dtype)));
  b_.loop_nonempty(b_.i64(0), arg(4), 1, {}, [&](Value* k, const Values&) {
    Value* kept = hide ? visible->emit(b_.add(arg(3), k), nullptr, nullptr) : nullptr;
    Value* from = b_.element_pointer(dtype, arg(5), b_.mul(k, arg(6)));
    Value* to = b_.element_pointer(dtype, arg(9), b_.mul(k, arg(8)));
    b_.loop_nonempty(b_.i64(0), arg(8), 1, {}, [&](Value* d, const Values&) {
      Value* x = ir.CreateAlignedLoad(raw, b_.element_pointer(dtype, from, b_.mul(d, arg(7))), align);
      if (kept) x = ir.CreateSelect(kept, x, llvm::Constant::getNullValue(raw));
      ir.CreateAlignedStore(x, b_.element_pointer(dtype, to, d), align);
      return Values{};
    });
    return Values{};
  });
  b_.ret();
  return function;
}

/// Rows where they lie when the innermost stride is 1 and nothing is hidden; else a copy.
DecodeBlock DecodeSplit::natural_or_copied(Emitters& emit, const DecodeOperand& operand, const RowAccess& access,
                                           const DecodeRows& rows, int64_t copy_at, bool hide) {
  auto& ir = b_.ir;
  Value* base = b_.element_pointer(operand.dtype, access.base, b_.mul(rows.kv, access.stride_seq));
  Value* natural = ir.CreateICmpEQ(access.stride_dim, b_.i64(1));
  if (hide) {
    Value* all = b_.loop_nonempty(b_.i64(0), rows.keys, l_.lanes, {ir.getTrue()}, [&](Value* i, const Values& carried) {
      Value* beyond = ir.CreateNot(b_.lane_mask(b_.sub(rows.keys, i), l_.lanes));
      Value* kept = ir.CreateOr(emit.keep_kv.emit(b_.add(rows.kv, i), nullptr, ir.CreateNot(beyond)), beyond);
      return Values{ir.CreateAnd(carried[0], ir.CreateAndReduce(kept))};
    })[0];
    natural = ir.CreateAnd(natural, all);
  }
  const Values chosen = b_.branch(
      natural, [&] { return Values{base, access.stride_seq}; },
      [&] {
        Value *copy = scratch(copy_at), *dim = b_.i64(operand.dim);
        ir.CreateCall(copies_.at({operand.dtype, hide}), {b_.argument(0), rows.b, rows.h, rows.kv, rows.keys, base,
                                                          access.stride_seq, access.stride_dim, dim, copy});
        return Values{copy, dim};
      });
  return {chosen[0], chosen[1], rows.keys, from_memory_};
}

DecodeBlock DecodeSplit::keys(Emitters& emit, const RowAccess& key, const DecodeRows& rows) {
  if (!computed_.key) return natural_or_copied(emit, l_.key, key, rows, l_.key_copy_at, false);
  Value* copy = scratch(l_.key_copy_at);
  computed_.key->call(rows.b, rows.h, rows.kv, rows.keys, copy);
  return {copy, b_.i64(l_.key.dim), rows.keys, b_.ir.getFalse()};
}

void DecodeSplit::block(Emitters& emit, const DecodeRows& rows, const RowAccess& key, const RowAccess& value,
                        Value* exactly) {
  Value* here = b_.argument(3);
  // Scores of hidden keys are masked, whatever K holds there; V must not reach the product with its weight of 0.
  const DecodeBlock visited = keys(emit, key, rows);
  if (tiles_)
    tiles_->scores(here, visited, rows.count);
  else
    vectors_.scores(here, visited, rows.count);
  weights_.call(here, rows);
  if (hides()) {
    emit.set(Axis::h, rows.h);
    emit.keep_kv.hoist();
  }
  const DecodeBlock values = natural_or_copied(emit, l_.value, value, rows, l_.value_copy_at, hides());
  if (!tiles_) return vectors_.outputs(here, values, rows.count);
  const auto by = [&](auto& products) {
    products.outputs(here, values, rows.count);
    return Values{};
  };
  b_.branch(exactly, [&] { return by(vectors_); }, [&] { return by(*tiles_); });
}

Value* DecodeSplit::sums_are_finite(Value* rows) {
  auto& ir = b_.ir;
  Value* words = b_.mul(rows, b_.i64(l_.value_stride));
  return b_.loop_nonempty(b_.i64(0), words, l_.lanes, {ir.getTrue()}, [&](Value* i, const Values& carried) {
    Value* bits = b_.load_vector(DType::i32, at(scratch(l_.sums_at), i), l_.lanes);
    Value* exponent = b_.splat(ir.getInt32(0x7f800000), l_.lanes);
    Value* finite = ir.CreateICmpNE(ir.CreateAnd(bits, exponent), exponent);
    return Values{ir.CreateAnd(carried[0], ir.CreateAndReduce(finite))};
  })[0];
}

}  // namespace tilewright::cpu
