#include "codegen/cpu/microkernel.h"

#include "ir/result.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
enum MicrokernelArgument : unsigned { kA, kLda, kB, kLdb, kBStep, kC, kLdc, kK, kColumnTiles, kRowTiles, kFactors };
}

int64_t chain_length(int64_t padded_dim, int64_t unit, int64_t chain) {
  const int64_t pieces = (padded_dim + chain - 1) / chain, piece = (padded_dim + pieces - 1) / pieces;
  return (piece + unit - 1) / unit * unit;
}

RegisterTile tile_for_columns(RegisterTile preferred, int64_t vectors, const CpuTarget& target) {
  if (vectors % preferred.nv == 0) return preferred;
  if (vectors == 1) return {12, 1};
  if (vectors == 2 && target.has_avx512()) return {12, 2};
  return preferred;
}

TileProduct::TileProduct(LlvmBuilder& builder, DType dtype, int64_t lanes, RegisterTile tile, int64_t k_unroll,
                         const std::string& name, AOrder order, FixedStrides fixed)
    : b_(builder), dtype_(dtype), lanes_(lanes), tile_(tile), k_unroll_(k_unroll), order_(order), fixed_(fixed) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  function_ = b_.begin_internal(name, b_.ir.getVoidTy(), {p, i, p, i, i, p, i, i, i, i, p});
  // The tiles of C are the only memory written, and no caller lets C overlap A, B or the factors.
  for (unsigned pointer : {kA, kB, kC, kFactors}) function_->addParamAttr(pointer, llvm::Attribute::NoAlias);
  auto arg = [&](unsigned n) { return b_.argument(n); };
  auto stride = [&](int64_t known, unsigned n) { return known ? b_.i64(known) : arg(n); };
  const int64_t width = tile_.nv * lanes_;
  Value* a_step = order_ == AOrder::rows ? b_.mul(stride(fixed_.a, kLda), b_.i64(tile_.mr)) : b_.i64(tile_.mr);
  Value* c_step = b_.mul(stride(fixed_.c, kLdc), b_.i64(tile_.mr));
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
  auto row_of = [&](Value* base, std::vector<Value*>& before, int64_t known, MicrokernelArgument run_time,
                    int64_t row) {
    if (row == 0) return base;
    if (known) return b_.element_pointer(dtype_, base, b_.i64(row * known));
    return b_.element_pointer(dtype_, before.back(), b_.argument(run_time));
  };
  std::vector<Value*> a_row;
  for (int64_t i = 0; by_rows && !fixed_.a && i < tile_.mr; ++i) a_row.push_back(row_of(a, a_row, 0, kLda, i));
  const auto rows = static_cast<size_t>(tile_.mr), sum_count = rows * vectors;
  Values sums(sum_count, b_.constant(dtype_, 0, lanes_));
  sums.push_back(b);
  // The products broadcast A themselves: two loads per row in place of one, but none that takes an issue slot of its
  // own (see the header). They go through two pointers, since the code generator reads one address only once.
  const bool twice = !by_rows && tile_.nv == 2 && b_.target().has_avx512();
  if (twice) sums.push_back(b_.element_pointer(dtype_, a, b_.i64(64)));
  if (!by_rows) sums.push_back(a);
  sums = b_.loop_nonempty(b_.i64(0), b_.argument(kK), k_unroll_, sums, [&](Value* k, Values next) {
    Value* b_row = next[sum_count];
    Value* a_column = by_rows ? nullptr : next.back();
    Value* again = twice ? next[sum_count + 1] : nullptr;
    for (int64_t u = 0; u < k_unroll_; ++u) {
      std::vector<Value*> b_vector;
      for (int64_t j = 0; j < tile_.nv; ++j)
        b_vector.push_back(b_.load_vector(dtype_, b_.element_pointer(dtype_, b_row, b_.i64(j * lanes_)), lanes_));
      Value* at = b_.add(k, b_.i64(u));
      Value* fixed_column = by_rows && fixed_.a ? b_.element_pointer(dtype_, a, at) : nullptr;
      for (size_t row = 0; row < rows; ++row) {
        const auto i = static_cast<int64_t>(row);
        Value* slot = !by_rows       ? b_.element_pointer(dtype_, a_column, b_.i64(i))
                      : fixed_column ? b_.element_pointer(dtype_, fixed_column, b_.i64(i * fixed_.a))
                                     : b_.element_pointer(dtype_, a_row[row], at);
        Value* element = b_.splat(b_.load(dtype_, slot), lanes_);
        if (twice) {
          Value* other = b_.splat(b_.load(dtype_, b_.element_pointer(dtype_, again, b_.i64(i - 64))), lanes_);
          next[row * vectors] = b_.fma(element, b_vector[0], next[row * vectors]);
          next[row * vectors + 1] = b_.fma(other, b_vector[1], next[row * vectors + 1]);
          continue;
        }
        for (size_t j = 0; j < vectors; ++j)
          next[row * vectors + j] = b_.fma(element, b_vector[j], next[row * vectors + j]);
      }
      b_row = b_.element_pointer(dtype_, b_row, fixed_.b ? b_.i64(fixed_.b) : b_.argument(kLdb));
      if (twice) again = b_.element_pointer(dtype_, again, fixed_.a ? b_.i64(fixed_.a) : b_.argument(kLda));
      if (!by_rows) a_column = b_.element_pointer(dtype_, a_column, fixed_.a ? b_.i64(fixed_.a) : b_.argument(kLda));
    }
    next[sum_count] = b_row;
    if (twice) next[sum_count + 1] = again;
    if (!by_rows) next.back() = a_column;
    return next;
  });
  // Addresses of C are made where they are used, so that none of them is live while the sums fill the registers.
  const auto each_row = [&](const std::function<void(size_t row, Value* c_row)>& store) {
    std::vector<Value*> c_row;
    for (size_t row = 0; row < rows; ++row) {
      c_row.push_back(row_of(c, c_row, fixed_.c, kLdc, static_cast<int64_t>(row)));
      store(row, c_row.back());
    }
    return Values{};
  };
  const auto slot = [&](Value* c_row, size_t j) {
    return b_.element_pointer(dtype_, c_row, b_.i64(static_cast<int64_t>(j) * lanes_));
  };
  b_.branch(
      b_.ir.CreateIsNull(b_.argument(kFactors)),
      [&] {
        return each_row([&](size_t row, Value* c_row) {
          for (size_t j = 0; j < vectors; ++j) b_.store_vector(dtype_, sums[row * vectors + j], slot(c_row, j));
        });
      },
      [&] {
        return each_row([&](size_t row, Value* c_row) {
          Value* factor = b_.element_pointer(dtype_, factors, b_.i64(static_cast<int64_t>(row)));
          factor = b_.splat(b_.load(dtype_, factor), lanes_);
          for (size_t j = 0; j < vectors; ++j) {
            Value* before = b_.load_vector(dtype_, slot(c_row, j), lanes_);
            b_.store_vector(dtype_, b_.fma(factor, before, sums[row * vectors + j]), slot(c_row, j));
          }
        });
      });
}

void TileProduct::call(const Call& x) {
  b_.ir.CreateCall(function_,
                   {x.a, x.lda, x.b, x.ldb, x.b_step, x.c, x.ldc, x.k, x.column_tiles, x.row_tiles, x.factors});
}

}  // namespace tilewright::cpu
