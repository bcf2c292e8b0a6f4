#include "codegen/cpu/matmul_pack.h"

#include "codegen/cpu/row_copy.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
/// Rows between the one that is stored and the one that is asked for: a piece of a row takes about 100 cycles to move
/// and starts on a page of its own, which hardware prefetchers do not foresee.
constexpr int64_t kAhead = 6;

void prefetch(LlvmBuilder& b, Value* pointer, bool write, int locality) {
  auto* function = llvm::Intrinsic::getDeclaration(&b.module(), llvm::Intrinsic::prefetch, {b.pointer_type()});
  b.ir.CreateCall(function, {pointer, b.ir.getInt32(write), b.ir.getInt32(locality), b.ir.getInt32(1)});
}
}  // namespace

MatmulPacker::MatmulPacker(LlvmBuilder& builder, const LoopStep& step, const ArgsLayout& args_layout,
                           const MatmulLayout& layout, const std::string& prefix)
    : b_(builder),
      step_(step),
      layout_(layout),
      rows_of_a_(operand(step.value, layout.axes.rows, layout.tile.mr, !layout.transpose_a)),
      columns_of_b_(operand(step.value2, {layout.axes.column}, layout.nr(), layout.transpose_b)) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  const auto start = [&](const std::string& name, const std::vector<llvm::Type*>& params) {
    return b_.begin_internal(prefix + name, b_.ir.getVoidTy(), params);
  };
  if (layout.a_in_tiles) {
    tile_ = emit_pack(prefix + "_pack_tile", args_layout, rows_of_a_);
    if (columns_of_b_.plain) ask_ = emit_ask(prefix + "_ask");
  } else {
    rows_ = start("_pack_rows", {p, i, i, i, i, p});
    ArgsReader rows_args(b_, args_layout);
    emit_rows(rows_args);
  }
  panel_ = emit_pack(prefix + "_pack_panel", args_layout, columns_of_b_);
  store_ = start("_store", {p, i, i, i, i, i, p});
  ArgsReader store_args(b_, args_layout);
  emit_store(store_args);
}

MatmulPacker::Operand MatmulPacker::operand(const Expr& value, const std::vector<int>& axes, int64_t pitch,
                                            bool transposed) {
  std::vector<int> moving = axes;
  moving.push_back(layout_.axes.depth);
  return {value, axes, pitch, transposed, plain_access(value, moving)};
}

void MatmulPacker::set_position(LoopFrame& frame, std::optional<ExprEmitter>& emitter, const std::vector<int>& axes,
                                Value* position) {
  frame.set_flat(axes, position);
  if (!emitter) return;
  for (int axis : axes) emitter->set_axis(static_cast<Axis>(axis), frame.value(axis));
  emitter->hoist();
}

Value* MatmulPacker::read(ExprEmitter& value, Value* position, Value* mask) {
  Value* x = to_accumulator(b_, b_.splat(value.emit(position, nullptr, mask), layout_.lanes), layout_.dtype);
  return mask ? b_.ir.CreateSelect(mask, x, b_.constant(layout_.dtype, 0, layout_.lanes)) : x;
}

/// void pack_rows(args, outer, rows, k, depth, dst)
void MatmulPacker::emit_rows(ArgsReader& args) {
  Value *rows = b_.argument(2), *k = b_.argument(3), *depth = b_.argument(4), *dst = b_.argument(5);
  LoopFrame frame(b_, args, step_, layout_.inner());
  frame.decode(b_.argument(1));
  std::optional<ExprEmitter> value(frame.emitter(rows_of_a_.value, layout_.lanes, layout_.axes.depth));
  b_.loop(b_.i64(0), rows, 1, [&](Value* row) {
    set_position(frame, value, rows_of_a_.axes, row);
    Value* to = at(dst, b_.mul(row, b_.i64(layout_.lda)));
    for_each_vector(b_, depth, layout_.lanes, [&](Value* position, Value* mask) {
      b_.store_vector(layout_.dtype, read(*value, b_.add(k, position), mask), at(to, position));
    });
  });
  b_.ret();
}

/// void pack(args, outer, first, k, depth, stage, dst). Positions go in groups of `lanes`. The last group of several
/// ends with the panel; a single one that is wider than the panel writes beyond it, where the stores that follow put
/// what belongs there.
llvm::Function* MatmulPacker::emit_pack(const std::string& name, const ArgsLayout& args_layout,
                                        const Operand& operand) {
  const MatmulLayout& l = layout_;
  llvm::Type *p = b_.pointer_type(), *i64 = b_.i64_type();
  llvm::Function* function = b_.begin_internal(name, b_.ir.getVoidTy(), {p, i64, i64, i64, i64, p, p});
  Value *first = b_.argument(2), *k = b_.argument(3), *depth = b_.argument(4), *dst = b_.argument(6);
  ArgsReader args(b_, args_layout);
  LoopFrame frame(b_, args, step_, l.inner());
  frame.decode(b_.argument(1));
  Value* limit = b_.i64(1);
  for (int axis : operand.axes) limit = b_.mul(limit, frame.extent(axis));
  const int last_axis = operand.axes.back(), depth_axis = l.axes.depth;
  ExprEmitter value = frame.emitter(operand.value, l.lanes, operand.transposed ? depth_axis : last_axis);
  const int64_t groups = (operand.pitch + l.lanes - 1) / l.lanes;
  b_.loop_nonempty(b_.i64(0), b_.i64(groups), 1, {}, [&](Value* group, const Values&) {
    Value* within = groups == 1 ? b_.i64(0) : b_.min(b_.mul(group, b_.i64(l.lanes)), b_.i64(operand.pitch - l.lanes));
    Value *here = b_.add(first, within), *to = at(dst, within);
    const auto any = [&] { return pack_any(frame, operand, value, here, limit, to), Values{}; };
    if (!operand.plain || (operand.transposed && type_of(*operand.plain) != l.dtype)) return any();
    frame.set_flat(operand.axes, here);
    frame.set(depth_axis, k);
    const LoopFrame::Place down = frame.place(*operand.plain, depth_axis);
    const LoopFrame::Place across = frame.place(*operand.plain, last_axis);
    const auto dense = operand.transposed ? down.stride : across.stride;
    Value* whole = b_.ir.CreateAnd(b_.ir.CreateICmpSLE(b_.add(here, b_.i64(l.lanes)), limit),
                                   b_.ir.CreateICmpEQ(dense, b_.i64(1)));
    whole = b_.ir.CreateAnd(whole,
                            b_.ir.CreateICmpEQ(b_.ir.CreateAnd(depth, b_.i64(transpose_step(l.dtype) - 1)), b_.i64(0)));
    if (operand.axes.size() > 1) {  // positions may move from one row of rows to the next in between
      frame.set_flat(operand.axes, b_.add(here, b_.i64(l.lanes - 1)));
      Value* steps = b_.mul(across.stride, b_.i64(l.lanes - 1));
      Value* expected = b_.element_pointer(type_of(*operand.plain), down.pointer, steps);
      whole = b_.ir.CreateAnd(whole, b_.ir.CreateICmpEQ(frame.place(*operand.plain, depth_axis).pointer, expected));
      frame.set_flat(operand.axes, here);
    }
    Value* from = b_.element_pointer(type_of(*operand.plain), down.pointer, b_.mul(k, down.stride));
    b_.branch(
        whole,
        [&] {
          pack_plain(operand, from, operand.transposed ? across.stride : down.stride, depth, to);
          return Values{};
        },
        any);
    return Values{};
  });
  b_.ret();
  return function;
}

/// `lanes` positions of a tensor that lies side by side along depth (transposed), the next position `next` elements on,
/// or along the positions, the next depth `next` elements on.
void MatmulPacker::pack_plain(const Operand& operand, Value* from, Value* next, Value* depth, Value* to) {
  const MatmulLayout& l = layout_;
  const int64_t step = transpose_step(l.dtype);
  const DType type = type_of(*operand.plain);
  if (operand.transposed) {
    // Every fourth row has a pointer; the three that follow it are reached by index registers.
    const Values times = {nullptr, next, b_.mul(next, b_.i64(2)), b_.mul(next, b_.i64(3))};
    b_.loop(b_.i64(0), depth, step, [&](Value* position) {
      Values fourth = {b_.element_pointer(type, from, position)};
      for (int64_t row = 4; row < l.lanes; row += 4)
        fourth.push_back(b_.element_pointer(type, fourth.back(), b_.mul(next, b_.i64(4))));
      const auto row = [&](int64_t i) {
        Value* base = fourth[static_cast<size_t>(i / 4)];
        return i % 4 == 0 ? base : b_.element_pointer(type, base, times[static_cast<size_t>(i % 4)]);
      };
      transpose_to_panel(b_, l.dtype, l.lanes, row, at(to, b_.mul(position, b_.i64(operand.pitch))),
                         b_.i64(operand.pitch));
    });
    return;
  }
  b_.loop(b_.i64(0), depth, step, {from}, [&](Value* position, const Values& carried) {
    Value *here = carried[0], *panel = at(to, b_.mul(position, b_.i64(operand.pitch)));
    for (int64_t i = 0; i < step; ++i) {
      Value* x = to_accumulator(b_, b_.load_vector(type, here, l.lanes), l.dtype);
      b_.store_vector(l.dtype, x, at(panel, b_.i64(i * operand.pitch)));
      here = b_.element_pointer(type, here, next);
    }
    return Values{here};
  });
}

/// The same of any operand, at any depth; positions from `limit` on are zero.
void MatmulPacker::pack_any(LoopFrame& frame, const Operand& operand, ExprEmitter& value, Value* first, Value* limit,
                            Value* to) {
  const MatmulLayout& l = layout_;
  Value *k = b_.argument(3), *depth = b_.argument(4), *stage = b_.argument(5);
  Value* zeros = b_.constant(l.dtype, 0, l.lanes);
  if (!operand.transposed) {
    Value *mask = b_.lane_mask(b_.sub(limit, first), l.lanes), *last = b_.sub(depth, b_.i64(1));
    b_.loop(b_.i64(0), padded(depth), 1, [&](Value* i) {
      value.set_axis(static_cast<Axis>(l.axes.depth), b_.add(k, b_.min(i, last)));
      value.hoist();
      Value* x = b_.ir.CreateSelect(b_.ir.CreateICmpSLT(i, depth), read(value, first, mask), zeros);
      b_.store_vector(l.dtype, x, at(to, b_.mul(i, b_.i64(operand.pitch))));
    });
    return;
  }
  b_.loop_nonempty(b_.i64(0), b_.i64(l.lanes), 1, {}, [&](Value* i, const Values&) {
    Value* here = b_.add(first, i);
    Value* exists = b_.ir.CreateICmpSLT(here, limit);
    frame.set_flat(operand.axes, b_.min(here, b_.sub(limit, b_.i64(1))));
    for (int axis : operand.axes) value.set_axis(static_cast<Axis>(axis), frame.value(axis));
    value.hoist();
    Value* staged = at(stage, b_.mul(i, b_.i64(l.stage_width)));
    for_each_vector(b_, depth, l.lanes, [&](Value* position, Value* mask) {
      Value* x = b_.ir.CreateSelect(exists, read(value, b_.add(k, position), mask), zeros);
      b_.store_vector(l.dtype, x, at(staged, position));
    });
    return Values{};
  });
  b_.loop(b_.i64(0), depth, transpose_step(l.dtype), [&](Value* position) {
    transpose_to_panel(b_, l.dtype, l.lanes, at(stage, position), l.stage_width,
                       at(to, b_.mul(position, b_.i64(operand.pitch))), operand.pitch);
  });
}

MatmulPacker::Pieces MatmulPacker::pieces_of_panel(LoopFrame& frame, Value* column, Value* k, Value* depth) {
  const Operand& b = columns_of_b_;
  if (!b.plain) return {llvm::ConstantPointerNull::get(b_.ir.getPtrTy()), b_.i64(0), b_.i64(0), b_.i64(0)};
  const DType type = type_of(*b.plain);
  frame.set(layout_.axes.column, column);
  frame.set(layout_.axes.depth, k);
  const LoopFrame::Place down = frame.place(*b.plain, layout_.axes.depth);
  const LoopFrame::Place across = frame.place(*b.plain, layout_.axes.column);
  Value *size = b_.i64(size_of(type)), *from = b_.element_pointer(type, down.pointer, b_.mul(k, down.stride));
  Value* width = b_.min(b_.i64(b.pitch), b_.sub(frame.extent(layout_.axes.column), column));
  if (b.transposed) return {from, b_.mul(across.stride, size), width, b_.mul(depth, size)};
  return {from, b_.mul(down.stride, size), depth, b_.mul(width, size)};
}

/// void ask(first, stride, count, bytes)
llvm::Function* MatmulPacker::emit_ask(const std::string& name) {
  llvm::Type *p = b_.pointer_type(), *i64 = b_.i64_type();
  llvm::Function* function = b_.begin_internal(name, b_.ir.getVoidTy(), {p, i64, i64, i64});
  b_.loop(b_.i64(0), b_.argument(2), 1, {b_.argument(0)}, [&](Value*, const Values& piece) {
    b_.loop(b_.i64(0), b_.argument(3), 64,
            [&](Value* byte) { prefetch(b_, b_.byte_pointer(piece[0], byte), false, 2); });
    return Values{b_.byte_pointer(piece[0], b_.argument(1))};
  });
  b_.ret();
  return function;
}

void MatmulPacker::ask(const Pieces& pieces, Value* part, Value* parts) {
  if (!ask_) return;
  Value* share = b_.ir.CreateUDiv(b_.add(pieces.count, b_.sub(parts, b_.i64(1))), parts);
  Value* from = b_.mul(part, share);
  Value* first = b_.byte_pointer(pieces.first, b_.mul(from, pieces.stride));
  b_.ir.CreateCall(ask_, {first, pieces.stride, b_.min(share, b_.sub(pieces.count, from)), pieces.bytes});
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
      epilogue ? std::optional<ExprEmitter>(frame.emitter(step_.epilogue, l.lanes, l.axes.column)) : std::nullopt;
  if (later && !later->streams(static_cast<Axis>(moving))) later.reset();
  const DType out = frame.output_type();
  frame.set_flat(l.axes.rows, row);
  frame.set(l.axes.column, column);
  Value* ahead = b_.mul(frame.output(moving).stride, b_.i64(kAhead));
  b_.loop(b_.i64(0), rows, 1, [&](Value* i) {
    if (later) set_position(frame, later, l.axes.rows, b_.add(b_.add(row, i), b_.i64(kAhead)));
    set_position(frame, epilogue, l.axes.rows, b_.add(row, i));
    const LoopFrame::Place place = frame.output(l.axes.column);
    Value* from = at(c, b_.mul(i, b_.i64(l.ldc)));
    for_each_vector(b_, columns, l.lanes, [&](Value* position, Value* mask) {
      Value* x = b_.load_vector(l.dtype, at(from, position), l.lanes);
      Value* here = b_.add(column, position);
      if (!mask && later) later->prefetch(static_cast<Axis>(moving), here);
      if (epilogue) x = b_.splat(epilogue->emit(here, x, mask), l.lanes);
      llvm::Type* type = b_.vector_type(out, l.lanes);
      if (x->getType() != type && is_float(out)) x = b_.ir.CreateFPCast(x, type);
      Value* to = b_.element_pointer(out, place.pointer, b_.mul(here, place.stride));
      if (!mask) prefetch(b_, b_.element_pointer(out, to, ahead), true, 2);
      b_.store_strided(out, x, to, place.stride, mask);
    });
  });
  b_.ret();
}

void MatmulPacker::pack_rows(Value* outer, Value* rows, Value* k, Value* depth, Value* dst) {
  b_.ir.CreateCall(rows_, {b_.argument(0), outer, rows, k, depth, dst});
}

void MatmulPacker::pack_tile(Value* outer, Value* row, Value* k, Value* depth, Value* stage, Value* dst) {
  b_.ir.CreateCall(tile_, {b_.argument(0), outer, row, k, depth, stage, dst});
}

void MatmulPacker::pack_panel(Value* outer, Value* column, Value* k, Value* depth, Value* stage, Value* dst) {
  b_.ir.CreateCall(panel_, {b_.argument(0), outer, column, k, depth, stage, dst});
}

void MatmulPacker::store(Value* outer, Value* row, Value* rows, Value* column, Value* columns, Value* c) {
  b_.ir.CreateCall(store_, {b_.argument(0), outer, row, rows, column, columns, c});
}

}  // namespace tilewright::cpu
