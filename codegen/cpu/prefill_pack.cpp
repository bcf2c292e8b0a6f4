#include "codegen/cpu/prefill_pack.h"

#include <numeric>
#include <optional>

#include "codegen/cpu/expr_emitter.h"

namespace tilewright::cpu {
using llvm::Value;

PrefillPacker::PrefillPacker(LlvmBuilder& builder, const AttentionSpec& spec, const ArgsLayout& args,
                             const PrefillLayout& layout)
    : b_(builder), spec_(spec), args_(args), layout_(layout) {
  auto type_of = [&](const Access& access) { return spec.tensors[static_cast<size_t>(access.tensor)].type.dtype; };
  query_type_ = type_of(spec.dots[0].query);
  key_type_ = type_of(spec.dots[0].key);
  value_type_ = type_of(spec.value);
  for (DType type : {query_type_, key_type_, value_type_})
    if (!copies_.contains(type)) copies_[type] = copy_row(type);
  emit_pack_block();
}

/// void copy(dst, src, stride, count, padded, scale): one row of `count` elements, zeros up to `padded`.
llvm::Function* PrefillPacker::copy_row(DType from) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  const DType to = layout_.dtype;
  llvm::Function* function =
      b_.begin_internal("copy_" + std::string(to_string(from)), b_.ir.getVoidTy(), {p, p, i, i, i, b_.value_type(to)});
  Value *dst = b_.argument(0), *src = b_.argument(1), *stride = b_.argument(2), *count = b_.argument(3);
  const int64_t lanes = layout_.lanes;
  auto convert = [&](Value* raw) {
    if (raw->getType()->getScalarType() == b_.value_type(to)) return raw;
    return b_.ir.CreateFPExt(raw, b_.vector_type(to, LlvmBuilder::lanes_of(raw)));
  };
  Value* dense =
      b_.ir.CreateSelect(b_.ir.CreateICmpEQ(stride, b_.i64(1)), b_.ir.CreateAnd(count, b_.i64(-lanes)), b_.i64(0));
  Value* factors = b_.splat(b_.argument(5), lanes);
  b_.loop(b_.i64(0), dense, lanes, [&](Value* at) {
    Value* wide = convert(b_.load_vector(from, b_.element_pointer(from, src, at), lanes));
    b_.store_vector(to, b_.ir.CreateFMul(wide, factors), b_.element_pointer(to, dst, at));
  });
  b_.loop(dense, count, 1, [&](Value* at) {
    Value* wide = convert(b_.load(from, b_.element_pointer(from, src, b_.mul(at, stride))));
    b_.store(to, b_.ir.CreateFMul(wide, b_.argument(5)), b_.element_pointer(to, dst, at));
  });
  b_.loop(count, b_.argument(4), 1,
          [&](Value* at) { b_.store(to, b_.constant(to, 0), b_.element_pointer(to, dst, at)); });
  b_.ret();
  return function;
}

void PrefillPacker::call_copy(DType from, Value* dst, Value* src, Value* stride, Value* count, int64_t padded,
                              double scale) {
  b_.ir.CreateCall(copies_.at(from), {dst, src, stride, count, b_.i64(padded), b_.constant(layout_.dtype, scale)});
}

/// Columns d … d + e - 1 of the staged rows to e panel rows, e being the elements of 16 bytes: vector j collects those
/// of rows j, j + e, j + 2e, … so that a transpose within 16-byte pieces leaves the keys in order.
void PrefillPacker::transpose(Value* stage, Value* columns) {
  const int64_t lanes = layout_.lanes, e = 16 / layout_.element;
  auto iota = [](int64_t count) {
    std::vector<int> mask(static_cast<size_t>(count));
    std::iota(mask.begin(), mask.end(), 0);
    return mask;
  };
  Values vectors;
  for (int64_t j = 0; j < e; ++j) {
    Values pieces;
    for (int64_t row = j; row < lanes; row += e)
      pieces.push_back(b_.load_vector(layout_.dtype,
                                      b_.element_pointer(layout_.dtype, stage, b_.i64(row * layout_.stage_width)), e));
    for (int64_t width = e; width < lanes; width *= 2)
      for (size_t i = 0; i < pieces.size(); ++i) {
        pieces[i] = b_.ir.CreateShuffleVector(pieces[i], pieces[i + 1], iota(2 * width));
        pieces.erase(pieces.begin() + static_cast<int64_t>(i) + 1);
      }
    vectors.push_back(pieces[0]);
  }
  for (int64_t distance = e / 2; distance >= 1; distance /= 2) {
    // Unpack units of e / (2·distance) elements of vectors i and i + distance: (e.g.) a0 b0 a1 b1, then a0 b0 c0 d0.
    const int64_t unit = e / (2 * distance);
    std::vector<int> low, high;
    for (int64_t c = 0; c < lanes; ++c) {
      const int64_t piece = c / e * e, within = c % e, pair = within / (2 * unit), part = within % (2 * unit);
      const int64_t source = piece + pair * unit + part % unit + (part >= unit ? lanes : 0);
      low.push_back(static_cast<int>(source));
      high.push_back(static_cast<int>(source + e / 2));
    }
    Values next;
    if (unit == 1) {
      for (size_t i = 0; i < vectors.size(); i += 2)
        for (const auto& mask : {low, high})
          next.push_back(b_.ir.CreateShuffleVector(vectors[i], vectors[i + 1], mask));
    } else {
      for (size_t i : {0, 1})
        for (const auto& mask : {low, high})
          next.push_back(b_.ir.CreateShuffleVector(vectors[i], vectors[i + 2], mask));
    }
    vectors = next;
  }
  for (int64_t i = 0; i < e; ++i)
    b_.store_vector(layout_.dtype, vectors[static_cast<size_t>(i)],
                    b_.element_pointer(layout_.dtype, columns, b_.i64(i * layout_.panel)));
}

void PrefillPacker::pack_queries(const RowAccess& query, Value* begin, Value* count, double scale, Value* dst) {
  const DType to = layout_.dtype;
  b_.loop(b_.i64(0), count, 1, [&](Value* row) {
    Value* src = b_.element_pointer(query_type_, query.base, b_.mul(b_.add(begin, row), query.stride_seq));
    call_copy(query_type_, b_.element_pointer(to, dst, b_.mul(row, b_.i64(layout_.padded_head_dim))), src,
              query.stride_dim, b_.i64(layout_.head_dim), layout_.padded_head_dim, scale);
  });
}

/// void pack(args, key base, seq, dim, value base, seq, dim, first, count, b, kv head, stage, dst)
void PrefillPacker::emit_pack_block() {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  pack_ = b_.begin_internal("pack_block", b_.ir.getVoidTy(), {p, p, i, i, p, i, i, i, i, i, i, p, p});
  b_.mark_cold();
  auto arg = [&](unsigned n) { return b_.argument(n); };
  const RowAccess key{arg(1), arg(2), arg(3)}, value{arg(4), arg(5), arg(6)};
  Value *first = arg(7), *count = arg(8), *stage = arg(11), *dst = arg(12);
  const DType to = layout_.dtype;
  const int64_t lanes = layout_.lanes, panel = layout_.panel;
  Value* values = b_.element_pointer(to, dst, b_.i64(layout_.packed_keys()));
  Value* padded = b_.mul(b_.ceil_div(count, panel), b_.i64(panel));
  std::optional<ArgsReader> reader;
  std::optional<ExprEmitter> visible;
  if (!spec_.keep_kv.is_constant_true()) {
    reader.emplace(b_, args_);
    visible.emplace(b_, *reader, spec_.tensors, spec_.keep_kv, 1, Axis::kv);
    visible->set_axis(Axis::b, arg(9));
    visible->set_axis(Axis::h, arg(10));
    visible->hoist();
  }
  b_.loop_nonempty(b_.i64(0), padded, lanes, {}, [&](Value* group, const Values&) {
    b_.loop_nonempty(b_.i64(0), b_.i64(lanes), 1, {}, [&](Value* lane, const Values&) {
      Value* at = b_.add(group, lane);
      Value* shown = b_.ir.CreateICmpSLT(at, count);
      Value* position = b_.add(first, at);
      if (visible) {
        visible->set_axis(Axis::kv, b_.min(position, b_.sub(b_.add(first, count), b_.i64(1))));
        shown = b_.ir.CreateAnd(shown, visible->emit());
      }
      auto take = [&](int64_t dim) { return b_.ir.CreateSelect(shown, b_.i64(dim), b_.i64(0)); };
      call_copy(key_type_, b_.element_pointer(to, stage, b_.mul(lane, b_.i64(layout_.stage_width))),
                b_.element_pointer(key_type_, key.base, b_.mul(position, key.stride_seq)), key.stride_dim,
                take(layout_.head_dim), layout_.stage_width, 1);
      call_copy(value_type_, b_.element_pointer(to, values, b_.mul(at, b_.i64(layout_.padded_value_dim))),
                b_.element_pointer(value_type_, value.base, b_.mul(position, value.stride_seq)), value.stride_dim,
                take(layout_.value_dim), layout_.padded_value_dim, 1);
      return Values{};
    });
    // Column `group` of the block is column group % panel of panel group / panel.
    Value* in_panel = b_.ir.CreateURem(group, b_.i64(panel));
    Value* columns =
        b_.element_pointer(to, dst, b_.add(b_.mul(b_.sub(group, in_panel), b_.i64(layout_.padded_head_dim)), in_panel));
    b_.loop_nonempty(
        b_.i64(0), b_.i64(layout_.padded_head_dim), 16 / layout_.element, {}, [&](Value* d, const Values&) {
          transpose(b_.element_pointer(to, stage, d), b_.element_pointer(to, columns, b_.mul(d, b_.i64(panel))));
          return Values{};
        });
    return Values{};
  });
  b_.ret();
}

void PrefillPacker::pack_block(const RowAccess& key, const RowAccess& value, Value* first, Value* count, Value* b,
                               Value* h, Value* stage, Value* dst) {
  b_.ir.CreateCall(pack_, {b_.argument(0), key.base, key.stride_seq, key.stride_dim, value.base, value.stride_seq,
                           value.stride_dim, first, count, b, h, stage, dst});
}

}  // namespace tilewright::cpu
