#include "codegen/cpu/microkernel.h"

#include "ir/result.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
enum Argument : unsigned { kA, kLda, kB, kLdb, kBStep, kC, kLdc, kK, kColumnTiles, kRowTiles, kFactors };
}

RegisterTile tile_for_columns(RegisterTile preferred, int64_t vectors, const CpuTarget& target) {
  if (vectors % preferred.nv == 0) return preferred;
  if (vectors == 1) return {12, 1};
  if (vectors == 2 && target.isa == CpuIsa::avx512) return {12, 2};
  return preferred;
}

TileProduct::TileProduct(LlvmBuilder& builder, DType dtype, int64_t lanes, RegisterTile tile, int64_t k_unroll,
                         const std::string& name, AOrder order)
    : b_(builder), dtype_(dtype), lanes_(lanes), tile_(tile), k_unroll_(k_unroll), order_(order) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  function_ = b_.begin_internal(name, b_.ir.getVoidTy(), {p, i, p, i, i, p, i, i, i, i, p});
  // The tiles of C are the only memory written, and no caller lets C overlap A, B or the factors.
  for (unsigned pointer : {kA, kB, kC, kFactors}) function_->addParamAttr(pointer, llvm::Attribute::NoAlias);
  auto arg = [&](unsigned n) { return b_.argument(n); };
  const int64_t width = tile_.nv * lanes_;
  Value* a_step = order_ == AOrder::rows ? b_.mul(arg(kLda), b_.i64(tile_.mr)) : b_.i64(tile_.mr);
  Value* c_step = b_.mul(arg(kLdc), b_.i64(tile_.mr));
  b_.loop_nonempty(b_.i64(0), arg(kColumnTiles), 1, {arg(kB), arg(kC)}, [&](Value*, const Values& column) {
    b_.loop_nonempty(b_.i64(0), arg(kRowTiles), 1, {arg(kA), column[1], arg(kFactors)}, [&](Value*, const Values& row) {
      emit_tile(row[0], column[0], row[1], row[2]);
      return Values{b_.element_pointer(dtype_, row[0], a_step), b_.element_pointer(dtype_, row[1], c_step),
                    b_.element_pointer(dtype_, row[2], b_.i64(tile_.mr))};
    });
    return Values{b_.element_pointer(dtype_, column[0], arg(kBStep)),
                  b_.element_pointer(dtype_, column[1], b_.i64(width))};
  });
  b_.ret();
}

void TileProduct::emit_tile(Value* a, Value* b, Value* c, Value* factors) {
  const auto vectors = static_cast<size_t>(tile_.nv);
  const bool by_rows = order_ == AOrder::rows;
  std::vector<Value*> a_row, c_row;
  for (int64_t i = 0; i < tile_.mr; ++i) {
    if (by_rows) a_row.push_back(i ? b_.element_pointer(dtype_, a_row.back(), b_.argument(kLda)) : a);
    c_row.push_back(i ? b_.element_pointer(dtype_, c_row.back(), b_.argument(kLdc)) : c);
  }
  std::vector<Value*> c_vectors;
  for (Value* row : c_row)
    for (int64_t j = 0; j < tile_.nv; ++j) c_vectors.push_back(b_.element_pointer(dtype_, row, b_.i64(j * lanes_)));
  Values sums(c_vectors.size(), b_.constant(dtype_, 0, lanes_));
  sums.push_back(b);
  if (!by_rows) sums.push_back(a);
  const size_t sum_count = c_vectors.size();
  sums = b_.loop_nonempty(b_.i64(0), b_.argument(kK), k_unroll_, sums, [&](Value* k, Values next) {
    Value* b_row = next[sum_count];
    Value* a_column = by_rows ? nullptr : next.back();
    for (int64_t u = 0; u < k_unroll_; ++u) {
      std::vector<Value*> b_vector;
      for (int64_t j = 0; j < tile_.nv; ++j)
        b_vector.push_back(b_.load_vector(dtype_, b_.element_pointer(dtype_, b_row, b_.i64(j * lanes_)), lanes_));
      Value* at = b_.add(k, b_.i64(u));
      for (size_t row = 0; row < c_row.size(); ++row) {
        Value* slot = by_rows ? b_.element_pointer(dtype_, a_row[row], at)
                              : b_.element_pointer(dtype_, a_column, b_.i64(static_cast<int64_t>(row)));
        Value* element = b_.splat(b_.load(dtype_, slot), lanes_);
        for (size_t j = 0; j < vectors; ++j)
          next[row * vectors + j] = b_.fma(element, b_vector[j], next[row * vectors + j]);
      }
      b_row = b_.element_pointer(dtype_, b_row, b_.argument(kLdb));
      if (!by_rows) a_column = b_.element_pointer(dtype_, a_column, b_.argument(kLda));
    }
    next[sum_count] = b_row;
    if (!by_rows) next.back() = a_column;
    return next;
  });
  b_.branch(
      b_.ir.CreateIsNull(b_.argument(kFactors)),
      [&] {
        for (size_t i = 0; i < c_vectors.size(); ++i) b_.store_vector(dtype_, sums[i], c_vectors[i]);
        return Values{};
      },
      [&] {
        for (size_t row = 0; row < c_row.size(); ++row) {
          Value* slot = b_.element_pointer(dtype_, factors, b_.i64(static_cast<int64_t>(row)));
          Value* factor = b_.splat(b_.load(dtype_, slot), lanes_);
          for (size_t i = row * vectors; i < (row + 1) * vectors; ++i)
            b_.store_vector(dtype_, b_.fma(factor, b_.load_vector(dtype_, c_vectors[i], lanes_), sums[i]),
                            c_vectors[i]);
        }
        return Values{};
      });
}

void TileProduct::call(const Call& x) {
  b_.ir.CreateCall(function_,
                   {x.a, x.lda, x.b, x.ldb, x.b_step, x.c, x.ldc, x.k, x.column_tiles, x.row_tiles, x.factors});
}

}  // namespace tilewright::cpu
