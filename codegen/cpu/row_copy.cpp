#include "codegen/cpu/row_copy.h"

#include <numeric>

namespace tilewright::cpu {
using llvm::Value;

/// void copy(dst, src, stride, count, padded, scale): one row of `count` elements, zeros up to `padded`.
void RowCopy::declare(DType from) {
  if (functions_.contains(from)) return;
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  const DType to = to_;
  llvm::Function* function =
      b_.begin_internal("copy_" + std::string(to_string(from)), b_.ir.getVoidTy(), {p, p, i, i, i, b_.value_type(to)});
  Value *dst = b_.argument(0), *src = b_.argument(1), *stride = b_.argument(2), *count = b_.argument(3);
  const int64_t lanes = lanes_;
  auto convert = [&](Value* raw) {
    if (raw->getType()->getScalarType() == b_.value_type(to)) return raw;
    return b_.ir.CreateFPCast(raw, b_.vector_type(to, LlvmBuilder::lanes_of(raw)));
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
  functions_[from] = function;
}

void RowCopy::call(DType from, Value* dst, Value* src, Value* stride, Value* count, int64_t padded, double scale) {
  call(from, dst, src, stride, count, padded, b_.constant(to_, scale));
}

void RowCopy::call(DType from, Value* dst, Value* src, Value* stride, Value* count, int64_t padded, Value* scale) {
  b_.ir.CreateCall(functions_.at(from), {dst, src, stride, count, b_.i64(padded), scale});
}

/// Vector j collects the pieces of rows j, j + e, j + 2e, … so that a transpose within 16-byte pieces leaves the rows
/// in order.
void transpose_to_panel(LlvmBuilder& b, DType dtype, int64_t lanes, const std::function<Value*(int64_t row)>& rows,
                        Value* columns, Value* panel) {
  const int64_t e = 16 / size_of(dtype);
  auto iota = [](int64_t count) {
    std::vector<int> mask(static_cast<size_t>(count));
    std::iota(mask.begin(), mask.end(), 0);
    return mask;
  };
  Values vectors;
  for (int64_t j = 0; j < e; ++j) {
    Values pieces;
    for (int64_t row = j; row < lanes; row += e) pieces.push_back(b.load_vector(dtype, rows(row), e));
    for (int64_t width = e; width < lanes; width *= 2)
      for (size_t i = 0; i < pieces.size(); ++i) {
        pieces[i] = b.ir.CreateShuffleVector(pieces[i], pieces[i + 1], iota(2 * width));
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
        for (const auto& mask : {low, high}) next.push_back(b.ir.CreateShuffleVector(vectors[i], vectors[i + 1], mask));
    } else {
      for (size_t i : {0, 1})
        for (const auto& mask : {low, high}) next.push_back(b.ir.CreateShuffleVector(vectors[i], vectors[i + 2], mask));
    }
    vectors = next;
  }
  for (int64_t i = 0; i < e; ++i)
    b.store_vector(dtype, vectors[static_cast<size_t>(i)], b.element_pointer(dtype, columns, b.mul(b.i64(i), panel)));
}

void transpose_to_panel(LlvmBuilder& b, DType dtype, int64_t lanes, Value* rows, int64_t row_stride, Value* columns,
                        int64_t panel) {
  const auto row = [&](int64_t i) { return b.element_pointer(dtype, rows, b.i64(i * row_stride)); };
  transpose_to_panel(b, dtype, lanes, row, columns, b.i64(panel));
}

}  // namespace tilewright::cpu
