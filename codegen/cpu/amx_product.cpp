#include "codegen/cpu/amx_product.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
enum ProductArgument : unsigned {
  kLeft,
  kLeftNext,
  kLeftK,
  kLeftPart,
  kRight,
  kRightNext,
  kRightK,
  kRightPart,
  kSums,
  kSumsStride,
  kRowPairs,
  kColumnPairs,
  kKSteps,
  kFile,
  kDummy
};
}  // namespace

AmxProduct::AmxProduct(LlvmBuilder& builder, AmxTiles& tiles, std::vector<SplitTerm> terms, bool adds,
                       const std::string& name)
    : b_(builder), tiles_(tiles), terms_(std::move(terms)), adds_(adds) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  function_ = b_.begin_internal(name, b_.ir.getVoidTy(), {p, i, i, i, p, i, i, i, p, i, i, i, i, p, p});
  tiles_.enter(argument(kFile));
  Value* line = b_.i64(64);
  // Where the sums in tiles 0 to 3 are still to be stored.
  Values pending = b_.loop_nonempty(
      b_.i64(0), argument(kColumnPairs), 1, {argument(kRight), argument(kSums), argument(kDummy), line},
      [&](Value*, const Values& column) {
        const Values rows = b_.loop_nonempty(
            b_.i64(0), argument(kRowPairs), 1, {argument(kLeft), column[1], column[2], column[3]},
            [&](Value*, const Values& row) {
              const Values left = block(row[0], column[0], row[1], {row[2], row[3]});
              return Values{b_.byte_pointer(row[0], b_.mul(argument(kLeftNext), b_.i64(2))),
                            b_.byte_pointer(row[1], b_.mul(argument(kSumsStride), b_.i64(32))), left[0], left[1]};
            });
        return Values{b_.byte_pointer(column[0], b_.mul(argument(kRightNext), b_.i64(2))),
                      b_.byte_pointer(column[1], b_.i64(128)), rows[2], rows[3]};
      });
  for (int tile = 0; tile < 4; ++tile) tiles_.store(tile, place(pending[2], pending[3], tile), pending[3]);
  b_.ret();
}

/// Of a tile of sums in C or in what stands for it.
Value* AmxProduct::place(Value* base, Value* stride, int tile) {
  if (tile / 2 == 1) base = b_.byte_pointer(base, b_.mul(stride, b_.i64(16)));
  return b_.byte_pointer(base, b_.i64(tile % 2 * 64));
}

/// One 2×2; returns where its sums are to be stored.
Values AmxProduct::block(Value* a, Value* b, Value* c, const Values& pending) {
  step(a, b, c, &pending);
  b_.loop(b_.i64(1), argument(kKSteps), 1, {a, b}, [&](Value*, const Values& before) {
    const Values at = {b_.byte_pointer(before[0], argument(kLeftK)), b_.byte_pointer(before[1], argument(kRightK))};
    step(at[0], at[1], nullptr, nullptr);
    return at;
  });
  return {c, argument(kSumsStride)};
}

/// One 32 of k; the first one has `pending` stored and starts the sums.
void AmxProduct::step(Value* a, Value* b, Value* c, const Values* pending) {
  Value* line = b_.i64(64);
  const auto start = [&](int tile) {
    if (!pending) return;
    tiles_.store(tile, place((*pending)[0], (*pending)[1], tile), (*pending)[1]);
    if (adds_)
      tiles_.load(tile, place(c, argument(kSumsStride), tile), argument(kSumsStride));
    else
      tiles_.zero(tile);
  };
  for (size_t t = 0; t < terms_.size(); ++t) {
    const bool load_a = t == 0 || terms_[t].a != terms_[t - 1].a, load_b = t == 0 || terms_[t].b != terms_[t - 1].b;
    const auto load = [&](int tile, Value* base, ProductArgument part, int which, ProductArgument next, bool second) {
      if (which) base = b_.byte_pointer(base, b_.mul(argument(part), b_.i64(which)));
      if (second) base = b_.byte_pointer(base, argument(next));
      tiles_.load(tile, base, line);
    };
    const auto sum = [&](int tile) {
      if (t == 0) start(tile);
      tiles_.dp_bf16(tile, 4 + tile / 2, 6 + tile % 2);
    };
    if (load_a) load(4, a, kLeftPart, terms_[t].a, kLeftNext, false);
    if (load_b) load(6, b, kRightPart, terms_[t].b, kRightNext, false);
    sum(0);
    if (load_b) load(7, b, kRightPart, terms_[t].b, kRightNext, true);
    sum(1);
    if (load_a) load(5, a, kLeftPart, terms_[t].a, kLeftNext, true);
    sum(2);
    sum(3);
  }
}

void AmxProduct::call(const Call& x) {
  b_.ir.CreateCall(function_, {x.a.tiles, x.a.next, x.a.k, x.a.part, x.b.tiles, x.b.next, x.b.k, x.b.part, x.c,
                               x.c_stride, x.row_pairs, x.column_pairs, x.k_steps, x.file, x.dummy});
}

}  // namespace tilewright::cpu
