#include "codegen/cpu/backward_scores.h"

#include "ir/result.h"

namespace tilewright::cpu {
using llvm::Value;

Value* reaches_first(LlvmBuilder& b, const BackwardSpec& spec, const BackwardLayout::Captured& sum, Value* batch,
                     Value* head) {
  auto& ir = b.ir;
  auto is_zero = [&](Value* x) { return ir.CreateICmpEQ(x, b.i64(0)); };
  Value* first = sum.b_axis < 0 ? is_zero(batch) : ir.getTrue();
  if (sum.h_axis < 0) return ir.CreateAnd(first, is_zero(head));
  return sum.by_group ? ir.CreateAnd(first, is_zero(ir.CreateURem(head, b.i64(spec.head_group)))) : first;
}

ScorePass::ScorePass(LlvmBuilder& builder, const BackwardSpec& spec, const BackwardLayout& layout,
                     const ArgsLayout& args_layout)
    : b_(builder), spec_(spec), layout_(layout), args_layout_(args_layout), roots_(layout.weights) {
  const auto depends = dependencies(spec.weights);
  bool scattered = false;
  for (size_t i = 0; i < spec.captured.size(); ++i) {
    const CapturedSum& from = spec.captured[i];
    Sum sum;
    sum.number = i;
    sum.type = spec.tensors[static_cast<size_t>(from.tensor)].type.dtype;
    if (!layout.captured[i].direct) sum.type = layout.dtype;
    sum.first_root = roots_.size();
    roots_.push_back(from.weight);
    for (size_t axis = 0; axis < from.index.size(); ++axis) {
      const bool varies = depends[static_cast<size_t>(raw(from.index[axis]))] & (bit(Axis::kv) | kDependsOnScore);
      if (varies) sum.varying.push_back(axis);
      if (varies && !layout.captured[i].owned) roots_.push_back(from.index[axis]);
      if (!varies) row_roots_.push_back(from.index[axis]);
    }
    scattered |= !sum.varying.empty();
    sums_.push_back(std::move(sum));
  }
  if (scattered) emit_scatter();

  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  function_ = b_.begin_internal("score_pass", b_.ir.getVoidTy(), {p, i, i, i, i, i, i, b_.ir.getInt1Ty(), p, i});
  auto arg = [&](unsigned n) { return b_.argument(n); };
  const ScoreBlock block{arg(1), arg(2), arg(3), arg(4), arg(5), arg(6), arg(7), arg(8), arg(9)};
  ArgsReader args(b_, args_layout);
  weights_.emplace(b_, args, spec.tensors, spec.weights, roots_, layout.score_lanes, Axis::kv);
  if (!spec.keep.is_constant_true()) keep_.emplace(b_, args, spec.tensors, spec.keep, layout.score_lanes, Axis::kv);
  if (weights_->streams(Axis::q))
    ahead_.emplace(b_, args, spec.tensors, spec.weights, roots_, layout.score_lanes, Axis::kv);
  if (!row_roots_.empty()) row_indices_.emplace(b_, args, spec.tensors, spec.weights, row_roots_, 1, Axis::kv);
  start_sums(args, block);
  weights_->promise_aligned();  // blocks start at panels
  for (auto* emitter : {&weights_, &ahead_, &keep_, &row_indices_}) {
    if (!*emitter) continue;
    (*emitter)->set_axis(Axis::b, block.b);
    (*emitter)->set_axis(Axis::h, block.h);
    (*emitter)->hoist();
  }
  b_.loop_nonempty(b_.i64(0), block.rows, 1, {}, [&](Value* number, const Values&) {
    row(block, number);
    return Values{};
  });
  b_.ret();
}

/// void scatter(table, <lanes x i64> offsets, <lanes x real> weights, count, store): table[offsets[i]] += weights[i],
/// or = 0 + weights[i], one after another, for i < count.
void ScorePass::emit_scatter() {
  const DType type = layout_.dtype;
  const int64_t lanes = layout_.score_lanes;
  llvm::Type* offsets = llvm::FixedVectorType::get(b_.i64_type(), static_cast<unsigned>(lanes));
  scatter_ =
      b_.begin_internal("scatter_add", b_.ir.getVoidTy(),
                        {b_.pointer_type(), offsets, b_.vector_type(type, lanes), b_.i64_type(), b_.ir.getInt1Ty()});
  Value* places = b_.stack(b_.i64_type(), lanes);
  Value* values = b_.stack(b_.value_type(type), lanes);
  b_.ir.CreateAlignedStore(b_.argument(1), places, llvm::Align(64));
  b_.ir.CreateAlignedStore(b_.argument(2), values, llvm::Align(64));
  b_.loop(b_.i64(0), b_.argument(3), 1, [&](Value* i) {
    Value* slot =
        b_.element_pointer(type, b_.argument(0), b_.load(DType::i64, b_.element_pointer(DType::i64, places, i)));
    Value* before = b_.ir.CreateSelect(b_.argument(4), b_.constant(type, 0), b_.load(type, slot));
    b_.store(type, b_.ir.CreateFAdd(before, b_.load(type, b_.element_pointer(type, values, i))), slot);
  });
  b_.ret();
}

void ScorePass::start_sums(ArgsReader& args, const ScoreBlock& block) {
  for (Sum& sum : sums_) {
    const int tensor = spec_.captured[sum.number].tensor;
    sum.first = b_.ir.getFalse();
    const int64_t rank = spec_.tensors[static_cast<size_t>(tensor)].type.rank();
    Value* size = b_.i64(1);
    sum.step.assign(static_cast<size_t>(rank), nullptr);
    sum.limit.assign(static_cast<size_t>(rank), nullptr);
    for (int axis = static_cast<int>(rank) - 1; axis >= 0; --axis) {
      const auto at = static_cast<size_t>(axis);
      sum.limit[at] = b_.sub(args.shape(tensor, axis), b_.i64(1));
      sum.step[at] = layout_.captured[sum.number].direct ? args.stride(tensor, axis) : size;
      size = b_.mul(size, args.shape(tensor, axis));
    }
    if (layout_.captured[sum.number].direct) {
      sum.base = args.tensor(tensor);
      if (const auto& own = layout_.captured[sum.number]; own.stored)
        sum.first = reaches_first(b_, spec_, own, block.b, block.h);
      continue;
    }
    ExprEmitter at(b_, args, spec_.tensors, layout_.table_at[sum.number], 1, Axis::kv);
    sum.base = b_.byte_pointer(args.workspace(), at.emit());
    if (!owned(sum)) sum.base = b_.element_pointer(sum.type, sum.base, b_.mul(block.list, size));
  }
}

void ScorePass::start_row(const ScoreBlock& block, Value* q) {
  // The tile of the next query block comes two or three tiles later.
  for (auto* emitter : {&weights_, &ahead_, &keep_, &row_indices_}) {
    if (!*emitter) continue;
    (*emitter)->set_axis(Axis::q, emitter == &ahead_ ? b_.add(q, b_.i64(layout_.block_q)) : q);
    (*emitter)->hoist();
  }
  if (sums_.empty()) return;
  const Values indices = row_indices_ ? row_indices_->emit_roots(nullptr, {}, nullptr) : Values{};
  size_t next = 0;
  for (Sum& sum : sums_) {
    Value* offset = b_.i64(0);
    for (size_t axis = 0; axis < sum.step.size(); ++axis) {
      if (std::find(sum.varying.begin(), sum.varying.end(), axis) != sum.varying.end()) continue;
      Value* index = b_.ir.CreateSExtOrTrunc(indices[next++], b_.i64_type());
      index = b_.max(b_.min(index, sum.limit[axis]), b_.i64(0));
      offset = b_.add(offset, b_.mul(index, sum.step[axis]));
    }
    sum.row = b_.element_pointer(sum.type, sum.base, offset);
    if (owned(sum)) {
      // The columns of a block start at a multiple of the lanes.
      Value* step = sum.step[static_cast<size_t>(layout_.captured[sum.number].kv_axis)];
      Value* first = b_.element_pointer(sum.type, sum.row, b_.mul(block.kv, step));
      Value* past =
          b_.ir.CreateAnd(b_.ir.CreatePtrToInt(first, b_.i64_type()), b_.i64(layout_.lanes * size_of(sum.type) - 1));
      Value* aligned = b_.ir.CreateICmpEQ(b_.ir.CreateOr(past, b_.sub(step, b_.i64(1))), b_.i64(0));
      sum.stream = b_.ir.CreateAnd(sum.first, aligned);
    }
  }
}

void ScorePass::row(const ScoreBlock& block, Value* number) {
  const DType type = layout_.dtype;
  const int64_t lanes = layout_.score_lanes;
  start_row(block, b_.add(block.q, number));
  Value* tile_row = b_.element_pointer(type, block.tiles, b_.mul(number, b_.i64(layout_.tile_stride)));
  Values none;
  for (const Sum& sum : sums_)
    if (per_row(sum)) none.push_back(b_.constant(type, 0, lanes));
  auto pass = [&](bool whole) {
    return b_.loop_nonempty(b_.i64(0), block.columns, lanes, none, [&](Value* column, const Values& carried) {
      return visit(block, tile_row, column, carried, whole);
    });
  };
  const Values totals = b_.branch(block.whole, [&] { return pass(true); }, [&] { return pass(false); });
  Value* from = b_.mul(b_.ceil_div(block.columns, lanes), b_.i64(lanes));
  Value* to = b_.mul(b_.ceil_div(block.columns, layout_.rounded), b_.i64(layout_.rounded));
  b_.loop(from, to, lanes, [&](Value* column) {
    for (size_t tile = 0; tile < layout_.weights.size(); ++tile)
      b_.store_vector(type, b_.constant(type, 0, lanes),
                      b_.element_pointer(type, tile_row, b_.add(column, b_.i64(layout_.tile(tile) - layout_.tile(0)))));
  });
  size_t next = 0;
  for (const Sum& sum : sums_) {
    if (!per_row(sum)) continue;
    Value* total = b_.reduce_add(totals[next++]);
    b_.store(sum.type, b_.ir.CreateFAdd(b_.load(sum.type, sum.row), total), sum.row);
  }
}

/// One vector of scores: all roots at once, tiles stored, captured sums advanced.
Values ScorePass::visit(const ScoreBlock& block, Value* tile_row, Value* column, const Values& carried, bool whole) {
  const DType type = layout_.dtype;
  const int64_t lanes = layout_.score_lanes;
  auto slot = [&](size_t tile) {
    return b_.element_pointer(type, tile_row, b_.add(column, b_.i64(layout_.tile(tile) - layout_.tile(0))));
  };
  ScoreLanes scores{b_.load_vector(type, slot(0), lanes), nullptr};
  if (spec_.output_gradient) scores[1] = b_.load_vector(type, slot(1), lanes);
  Value* left = b_.min(b_.sub(block.columns, column), b_.i64(lanes));
  Value* inside = whole ? nullptr : b_.lane_mask(left, lanes);
  Value* kv = b_.add(block.kv, column);
  if (ahead_) ahead_->prefetch(Axis::q, kv);
  Values found = weights_->emit_roots(kv, scores, inside);
  Value* kept = inside;
  if (!whole && keep_) kept = b_.ir.CreateAnd(inside, keep_->emit(kv, nullptr, inside));
  auto shown = [&](Value* weight) {
    return kept ? b_.ir.CreateSelect(kept, weight, b_.constant(type, 0, lanes)) : weight;
  };
  for (size_t tile = 0; tile < layout_.weights.size(); ++tile) b_.store_vector(type, shown(found[tile]), slot(tile));
  Values next = carried;
  size_t row_sum = 0;
  for (Sum& sum : sums_) {
    Value* weight = shown(found[sum.first_root]);
    if (owned(sum))
      add_owned(sum, kv, weight, inside, left);
    else if (per_row(sum))
      next[row_sum] = b_.ir.CreateFAdd(carried[row_sum], weight), ++row_sum;
    else
      add_scattered(sum,
                    {found.begin() + static_cast<int64_t>(sum.first_root) + 1,
                     found.begin() + static_cast<int64_t>(sum.first_root + 1 + sum.varying.size())},
                    weight);
  }
  return next;
}

/// Elements of the lanes' own keys, of which `count` exist.
void ScorePass::add_owned(Sum& sum, Value* kv, Value* weight, Value* inside, Value* count) {
  const int64_t lanes = layout_.score_lanes;
  Value* step = sum.step[static_cast<size_t>(layout_.captured[sum.number].kv_axis)];
  Value* slot = b_.element_pointer(sum.type, sum.row, b_.mul(kv, step));
  auto store = [&](Value* value) {
    b_.store_vector(sum.type, value, slot, inside);
    return Values{};
  };
  auto store_or_add = [&] {
    return b_.branch(
        sum.first, [&] { return store(weight); },
        [&] { return store(b_.ir.CreateFAdd(b_.load_vector(sum.type, slot, lanes, inside), weight)); });
  };
  auto scatter = [&] {
    Value* offsets = b_.ir.CreateMul(b_.splat(step, lanes), b_.iota(b_.i64_type(), lanes));
    b_.ir.CreateCall(scatter_, {slot, offsets, weight, count, sum.first});
    return Values{};
  };
  auto store_in_cache = [&] { return b_.branch(b_.ir.CreateICmpEQ(step, b_.i64(1)), store_or_add, scatter); };
  auto store_past_it = [&] {
    stream(weight, slot);
    return Values{};
  };
  b_.branch(inside ? b_.ir.getFalse() : sum.stream, store_past_it, store_in_cache);
}

/// Past the caches: nothing here reads it again, and memory need not be read to be written.
void ScorePass::stream(Value* vector, Value* slot) {
  const auto bytes = static_cast<uint64_t>(layout_.lanes * layout_.element);
  auto* store = b_.ir.CreateAlignedStore(vector, slot, llvm::Align(bytes));
  store->setMetadata(llvm::LLVMContext::MD_nontemporal,
                     llvm::MDNode::get(b_.context(), {llvm::ConstantAsMetadata::get(b_.ir.getInt32(1))}));
}

/// Hidden lanes add 0 to wherever their clamped index leads.
void ScorePass::add_scattered(Sum& sum, const Values& indices, Value* weight) {
  const int64_t lanes = layout_.score_lanes;
  llvm::Type* wide = llvm::FixedVectorType::get(b_.i64_type(), static_cast<unsigned>(lanes));
  Value* offsets = llvm::Constant::getNullValue(wide);
  for (size_t i = 0; i < indices.size(); ++i) {
    const size_t axis = sum.varying[i];
    Value* index = b_.ir.CreateSExtOrTrunc(indices[i], wide);
    index = b_.max(b_.min(index, b_.splat(sum.limit[axis], lanes)), llvm::Constant::getNullValue(wide));
    offsets = b_.ir.CreateAdd(offsets, b_.ir.CreateMul(index, b_.splat(sum.step[axis], lanes)));
  }
  b_.ir.CreateCall(scatter_, {sum.row, offsets, weight, b_.i64(lanes), b_.ir.getFalse()});
}

void ScorePass::call(const ScoreBlock& s) {
  b_.ir.CreateCall(function_, {b_.argument(0), s.b, s.h, s.q, s.rows, s.kv, s.columns, s.whole, s.tiles, s.list});
}

}  // namespace tilewright::cpu
