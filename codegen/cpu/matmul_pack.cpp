#include "codegen/cpu/matmul_pack.h"

#include "codegen/cpu/row_copy.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
/// Rows, columns or depths between what is read and what is asked for: a piece of a row takes about 100 cycles to move
/// and starts on a page of its own, which hardware prefetchers do not foresee.
constexpr int64_t kAhead = 6;
}  // namespace

MatmulPacker::MatmulPacker(LlvmBuilder& builder, const LoopStep& step, const ArgsLayout& args_layout,
                           const MatmulLayout& layout, const std::string& prefix)
    : b_(builder), step_(step), layout_(layout) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  const auto start = [&](const std::string& name, const std::vector<llvm::Type*>& params) {
    return b_.begin_internal(prefix + name, b_.ir.getVoidTy(), params);
  };
  rows_ = start("_pack_rows", {p, i, i, i, i, i, p, p});
  ArgsReader rows_args(b_, args_layout);
  emit_pack_rows(rows_args);
  columns_ = start("_pack_columns", {p, i, i, i, i, i, i, p, p});
  ArgsReader columns_args(b_, args_layout);
  emit_pack_columns(columns_args);
  store_ = start("_store", {p, i, i, i, i, i, p});
  ArgsReader store_args(b_, args_layout);
  emit_store(store_args);
}

std::optional<ExprEmitter> MatmulPacker::ahead(LoopFrame& frame, const Expr& expr, int vary, int moving) {
  std::optional<ExprEmitter> emitter(frame.emitter(expr, layout_.lanes, vary));
  if (!emitter->streams(static_cast<Axis>(moving))) emitter.reset();
  return emitter;
}

void MatmulPacker::ask(std::optional<ExprEmitter>& later, int moving, Value* position) {
  if (later) later->prefetch(static_cast<Axis>(moving), position);
}

void MatmulPacker::set_row(LoopFrame& frame, std::optional<ExprEmitter>& emitter, Value* row) {
  frame.set_flat(layout_.axes.rows, row);
  if (!emitter) return;
  for (int axis : layout_.axes.rows) emitter->set_axis(static_cast<Axis>(axis), frame.value(axis));
  emitter->hoist();
}

Value* MatmulPacker::read(ExprEmitter& value, Value* position, Value* mask) {
  Value* x = to_accumulator(b_, b_.splat(value.emit(position, nullptr, mask), layout_.lanes), layout_.dtype);
  return mask ? b_.ir.CreateSelect(mask, x, b_.constant(layout_.dtype, 0, layout_.lanes)) : x;
}

void MatmulPacker::transposed(Value* count, Value* stage, Value* dst, int64_t pitch,
                              const std::function<void(Value*)>& start_row,
                              const std::function<Value*(Value*, Value*)>& read_row) {
  const DType type = layout_.dtype;
  b_.loop_nonempty(b_.i64(0), b_.i64(layout_.lanes), 1, {}, [&](Value* row, const Values&) {
    start_row(row);
    Value* staged = at(stage, b_.mul(row, b_.i64(layout_.stage_width)));
    for_each_vector(b_, count, layout_.lanes, [&](Value* position, Value* mask) {
      b_.store_vector(type, read_row(position, mask), at(staged, position));
    });
    return Values{};
  });
  b_.loop(b_.i64(0), count, transpose_step(type), [&](Value* position) {
    transpose_to_panel(b_, type, layout_.lanes, at(stage, position), layout_.stage_width,
                       at(dst, b_.mul(position, b_.i64(pitch))), pitch);
  });
}

/// void pack_rows(args, outer, row, rows, k, depth, stage, dst)
void MatmulPacker::emit_pack_rows(ArgsReader& args) {
  const MatmulLayout& l = layout_;
  auto arg = [&](unsigned n) { return b_.argument(n); };
  Value *row = arg(2), *rows = arg(3), *k = arg(4), *depth = arg(5), *stage = arg(6), *dst = arg(7);
  LoopFrame frame(b_, args, step_, l.inner());
  frame.decode(arg(1));
  if (l.transpose_a) {
    const int row_axis = l.axes.rows.back();
    ExprEmitter value = frame.emitter(step_.value, l.lanes, row_axis);
    Value* last = b_.sub(b_.add(k, depth), b_.i64(1));
    b_.loop(b_.i64(0), depth, l.lanes, [&](Value* first) {
      Value* exists = nullptr;
      transposed(
          rows, stage, at(dst, first), l.lda,
          [&](Value* i) {
            Value* here = b_.add(b_.add(k, first), i);
            exists = b_.ir.CreateICmpSLE(here, last);
            value.set_axis(static_cast<Axis>(l.axes.depth), b_.min(here, last));
            value.hoist();
          },
          [&](Value* position, Value* mask) {
            Value* x = read(value, b_.add(row, position), mask);
            return b_.ir.CreateSelect(exists, x, b_.constant(l.dtype, 0, l.lanes));
          });
    });
  } else {
    const int moving = l.axes.rows.back();
    std::optional<ExprEmitter> value(frame.emitter(step_.value, l.lanes, l.axes.depth));
    std::optional<ExprEmitter> later = ahead(frame, step_.value, l.axes.depth, moving);
    b_.loop(b_.i64(0), rows, 1, [&](Value* i) {
      if (later) set_row(frame, later, b_.add(b_.add(row, i), b_.i64(kAhead)));
      set_row(frame, value, b_.add(row, i));
      Value* to = at(dst, b_.mul(i, b_.i64(l.lda)));
      for_each_vector(b_, depth, l.lanes, [&](Value* position, Value* mask) {
        if (!mask) ask(later, moving, b_.add(k, position));
        b_.store_vector(l.dtype, read(*value, b_.add(k, position), mask), at(to, position));
      });
    });
  }
  b_.ret();
}

/// void pack_columns(args, outer, column, columns, k, depth, panel_step, stage, dst)
void MatmulPacker::emit_pack_columns(ArgsReader& args) {
  const MatmulLayout& l = layout_;
  auto arg = [&](unsigned n) { return b_.argument(n); };
  Value *column = arg(2), *columns = arg(3), *k = arg(4), *depth = arg(5), *panel_step = arg(6), *stage = arg(7),
        *dst = arg(8);
  LoopFrame frame(b_, args, step_, l.inner());
  frame.decode(arg(1));
  Value* zeros = b_.constant(l.dtype, 0, l.lanes);
  auto panel = [&](Value* first) { return at(dst, b_.mul(b_.ir.CreateUDiv(first, b_.i64(l.nr())), panel_step)); };
  if (l.transpose_b) {
    ExprEmitter value = frame.emitter(step_.value2, l.lanes, l.axes.depth);
    std::optional<ExprEmitter> later = ahead(frame, step_.value2, l.axes.depth, l.axes.column);
    Value* last = b_.sub(b_.add(column, columns), b_.i64(1));
    Value* padded_columns = b_.mul(b_.ceil_div(columns, l.nr()), b_.i64(l.nr()));
    b_.loop(b_.i64(0), padded_columns, l.lanes, [&](Value* first) {
      Value* exists = nullptr;
      Value* to = at(panel(first), b_.ir.CreateURem(first, b_.i64(l.nr())));
      transposed(
          depth, stage, to, l.nr(),
          [&](Value* i) {
            Value* here = b_.add(b_.add(column, first), i);
            exists = b_.ir.CreateICmpSLE(here, last);
            value.set_axis(static_cast<Axis>(l.axes.column), b_.min(here, last));
            value.hoist();
            if (!later) return;
            later->set_axis(static_cast<Axis>(l.axes.column), b_.add(here, b_.i64(kAhead)));
            later->hoist();
          },
          [&](Value* position, Value* mask) {
            if (!mask) ask(later, l.axes.column, b_.add(k, position));
            return b_.ir.CreateSelect(exists, read(value, b_.add(k, position), mask), zeros);
          });
    });
    b_.ret();
    return;
  }
  ExprEmitter value = frame.emitter(step_.value2, l.lanes, l.axes.column);
  std::optional<ExprEmitter> later = ahead(frame, step_.value2, l.axes.column, l.axes.depth);
  b_.loop(b_.i64(0), depth, 1, [&](Value* i) {
    value.set_axis(static_cast<Axis>(l.axes.depth), b_.add(k, i));
    value.hoist();
    if (later) {
      later->set_axis(static_cast<Axis>(l.axes.depth), b_.add(b_.add(k, i), b_.i64(kAhead)));
      later->hoist();
    }
    b_.loop(b_.i64(0), columns, l.nr(), [&](Value* first) {
      Value* to = at(panel(first), b_.mul(i, b_.i64(l.nr())));
      Value* rest = b_.sub(columns, first);
      b_.branch(
          b_.ir.CreateICmpSGE(rest, b_.i64(l.nr())),
          [&] {
            for (int64_t j = 0; j < l.nr(); j += l.lanes) {
              Value* here = b_.add(b_.add(column, first), b_.i64(j));
              ask(later, l.axes.depth, here);
              b_.store_vector(l.dtype, read(value, here, nullptr), at(to, b_.i64(j)));
            }
            return Values{};
          },
          [&] {
            b_.loop(b_.i64(0), b_.i64(l.nr()), l.lanes, [&](Value* j) {
              Value* mask = b_.lane_mask(b_.sub(rest, j), l.lanes);
              b_.store_vector(l.dtype, read(value, b_.add(b_.add(column, first), j), mask), at(to, j));
            });
            return Values{};
          });
    });
  });
  b_.loop(depth, padded(depth), 1, [&](Value* i) {
    b_.loop(b_.i64(0), columns, l.nr(), [&](Value* first) {
      Value* to = at(panel(first), b_.mul(i, b_.i64(l.nr())));
      for (int64_t j = 0; j < l.nr(); j += l.lanes) b_.store_vector(l.dtype, zeros, at(to, b_.i64(j)));
    });
  });
  b_.ret();
}

/// void store(args, outer, row, rows, column, columns, c)
void MatmulPacker::emit_store(ArgsReader& args) {
  const MatmulLayout& l = layout_;
  auto arg = [&](unsigned n) { return b_.argument(n); };
  Value *row = arg(2), *rows = arg(3), *column = arg(4), *columns = arg(5), *c = arg(6);
  LoopFrame frame(b_, args, step_, l.inner());
  frame.decode(arg(1));
  const int moving = l.axes.rows.back();
  std::optional<ExprEmitter> epilogue;
  if (!step_.epilogue.empty()) epilogue.emplace(frame.emitter(step_.epilogue, l.lanes, l.axes.column));
  std::optional<ExprEmitter> later =
      epilogue ? ahead(frame, step_.epilogue, l.axes.column, moving) : std::optional<ExprEmitter>();
  const DType out = frame.output_type();
  b_.loop(b_.i64(0), rows, 1, [&](Value* i) {
    if (later) set_row(frame, later, b_.add(b_.add(row, i), b_.i64(kAhead)));
    set_row(frame, epilogue, b_.add(row, i));
    const LoopFrame::Place place = frame.output(l.axes.column);
    Value* from = at(c, b_.mul(i, b_.i64(l.ldc)));
    for_each_vector(b_, columns, l.lanes, [&](Value* position, Value* mask) {
      Value* x = b_.load_vector(l.dtype, at(from, position), l.lanes);
      Value* here = b_.add(column, position);
      if (!mask) ask(later, moving, here);
      if (epilogue) x = b_.splat(epilogue->emit(here, x, mask), l.lanes);
      llvm::Type* type = b_.vector_type(out, l.lanes);
      if (x->getType() != type && is_float(out)) x = b_.ir.CreateFPCast(x, type);
      b_.store_strided(out, x, b_.element_pointer(out, place.pointer, b_.mul(here, place.stride)), place.stride, mask);
    });
  });
  b_.ret();
}

void MatmulPacker::pack_rows(Value* outer, Value* row, Value* rows, Value* k, Value* depth, Value* stage, Value* dst) {
  b_.ir.CreateCall(rows_, {b_.argument(0), outer, row, rows, k, depth, stage, dst});
}

void MatmulPacker::pack_columns(Value* outer, Value* column, Value* columns, Value* k, Value* depth, Value* panel_step,
                                Value* stage, Value* dst) {
  b_.ir.CreateCall(columns_, {b_.argument(0), outer, column, columns, k, depth, panel_step, stage, dst});
}

void MatmulPacker::store(Value* outer, Value* row, Value* rows, Value* column, Value* columns, Value* c) {
  b_.ir.CreateCall(store_, {b_.argument(0), outer, row, rows, column, columns, c});
}

}  // namespace tilewright::cpu
