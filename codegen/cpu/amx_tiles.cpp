#include "codegen/cpu/amx_tiles.h"

#include <llvm/IR/IntrinsicsX86.h>

#include "ir/result.h"

namespace tilewright::cpu {
using llvm::Type;
using llvm::Value;

namespace {

// The 64 bytes that LDTILECFG reads; the emulated body keeps them behind its tiles.
constexpr int64_t kConfigurationBytes = 64, kPaletteAt = 0, kRowBytesAt = 16, kRowsAt = 48;
constexpr int64_t kConfigurationAt = AmxTiles::kTiles * AmxTiles::kTileBytes;

}  // namespace

AmxTiles::AmxTiles(LlvmBuilder& builder) : b_(builder) {
  TW_CHECK(b_.target().has_tiles());
  if (!emulated()) return;
  emit_load();
  emit_store();
  emit_product();
}

int64_t AmxTiles::file_bytes(const CpuTarget& target) {
  return target.isa == CpuIsa::amx_emulated ? kConfigurationAt + kConfigurationBytes : 0;
}

Value* AmxTiles::tile_number(int tile) {
  TW_CHECK(tile >= 0 && tile < kTiles);
  if (emulated()) return b_.i64(tile);
  return b_.ir.getInt8(static_cast<uint8_t>(tile));
}

void AmxTiles::configure(const std::array<TileShape, kTiles>& shapes) {
  std::array<uint8_t, kConfigurationBytes> bytes{};
  bytes[kPaletteAt] = 1;
  for (size_t i = 0; i < shapes.size(); ++i) {
    TW_CHECK(shapes[i].rows > 0 && shapes[i].rows <= kTileRows && shapes[i].row_bytes > 0 &&
             shapes[i].row_bytes <= kRowBytes && shapes[i].row_bytes % 4 == 0);
    bytes[kRowBytesAt + 2 * i] = static_cast<uint8_t>(shapes[i].row_bytes);
    bytes[kRowsAt + i] = static_cast<uint8_t>(shapes[i].rows);
  }
  llvm::Constant* words = llvm::ConstantDataArray::get(b_.context(), bytes);
  auto* constant = new llvm::GlobalVariable(b_.module(), words->getType(), true, llvm::GlobalValue::PrivateLinkage,
                                            words, "tile_configuration");
  constant->setAlignment(llvm::Align(64));
  if (!emulated()) {
    b_.ir.CreateIntrinsic(llvm::Intrinsic::x86_ldtilecfg, {}, {constant});
    return;
  }
  Value* configuration = b_.load_vector(DType::i64, constant, kConfigurationBytes / 8);
  b_.store_vector(DType::i64, configuration, b_.byte_pointer(file_, b_.i64(kConfigurationAt)));
  for (int tile = 0; tile < kTiles; ++tile) zero(tile);
}

void AmxTiles::release() {
  if (!emulated()) b_.ir.CreateIntrinsic(llvm::Intrinsic::x86_tilerelease, {}, {});
}

void AmxTiles::zero(int tile) {
  if (!emulated()) {
    b_.ir.CreateIntrinsic(llvm::Intrinsic::x86_tilezero, {}, {tile_number(tile)});
    return;
  }
  Value* at = tile_pointer(b_.i64(tile));
  for (int64_t row = 0; row < kTileRows; ++row)
    b_.store_vector(DType::f32, b_.constant(DType::f32, 0, 16), b_.byte_pointer(at, b_.i64(row * kRowBytes)));
}

void AmxTiles::load(int tile, Value* pointer, Value* stride) {
  if (emulated())
    b_.ir.CreateCall(load_, {file_, tile_number(tile), pointer, stride});
  else
    b_.ir.CreateIntrinsic(llvm::Intrinsic::x86_tileloadd64, {}, {tile_number(tile), pointer, stride});
}

void AmxTiles::store(int tile, Value* pointer, Value* stride) {
  if (emulated())
    b_.ir.CreateCall(store_, {file_, tile_number(tile), pointer, stride});
  else
    b_.ir.CreateIntrinsic(llvm::Intrinsic::x86_tilestored64, {}, {tile_number(tile), pointer, stride});
}

void AmxTiles::dp_bf16(int c, int a, int b) {
  if (emulated())
    b_.ir.CreateCall(product_, {file_, tile_number(c), tile_number(a), tile_number(b)});
  else
    b_.ir.CreateIntrinsic(llvm::Intrinsic::x86_tdpbf16ps, {}, {tile_number(c), tile_number(a), tile_number(b)});
}

Value* AmxTiles::tile_pointer(Value* tile) { return b_.byte_pointer(file_, b_.mul(tile, b_.i64(kTileBytes))); }

Value* AmxTiles::rows(Value* tile) {
  Value* at = b_.byte_pointer(file_, b_.add(tile, b_.i64(kConfigurationAt + kRowsAt)));
  return b_.ir.CreateZExt(b_.load(DType::i8, at), b_.i64_type());
}

Value* AmxTiles::row_bytes(Value* tile) {
  Value* at = b_.byte_pointer(file_, b_.add(b_.mul(tile, b_.i64(2)), b_.i64(kConfigurationAt + kRowBytesAt)));
  return b_.ir.CreateZExt(b_.load(DType::i8, at), b_.i64_type());
}

/// Of 4-byte elements in a row.
Value* AmxTiles::column_mask(Value* count) { return b_.lane_mask(b_.ir.CreateLShr(count, b_.i64(2)), kRowBytes / 4); }

/// void tile_load(file, tile, pointer, stride)
void AmxTiles::emit_load() {
  Type *i = b_.i64_type(), *p = b_.pointer_type();
  load_ = b_.begin_internal("tile_load", b_.ir.getVoidTy(), {p, i, p, i});
  file_ = b_.argument(0);
  Value *tile = b_.argument(1), *pointer = b_.argument(2), *stride = b_.argument(3);
  Value *to = tile_pointer(tile), *mask = column_mask(row_bytes(tile)), *count = rows(tile);
  const auto row = [&](Value* base, Value* index, Value* step) { return b_.byte_pointer(base, b_.mul(index, step)); };
  b_.loop(b_.i64(0), count, 1, [&](Value* m) {
    Value* vector = b_.load_vector(DType::i32, row(pointer, m, stride), 16, mask);
    b_.store_vector(DType::i32, vector, row(to, m, b_.i64(kRowBytes)));
  });
  b_.loop(count, b_.i64(kTileRows), 1, [&](Value* m) {
    b_.store_vector(DType::i32, b_.constant(DType::i32, 0, 16), row(to, m, b_.i64(kRowBytes)));
  });
  b_.ret();
}

/// void tile_store(file, tile, pointer, stride)
void AmxTiles::emit_store() {
  Type *i = b_.i64_type(), *p = b_.pointer_type();
  store_ = b_.begin_internal("tile_store", b_.ir.getVoidTy(), {p, i, p, i});
  file_ = b_.argument(0);
  Value *tile = b_.argument(1), *pointer = b_.argument(2), *stride = b_.argument(3);
  Value *from = tile_pointer(tile), *mask = column_mask(row_bytes(tile));
  b_.loop(b_.i64(0), rows(tile), 1, [&](Value* m) {
    Value* vector = b_.load_vector(DType::i32, b_.byte_pointer(from, b_.mul(m, b_.i64(kRowBytes))), 16);
    b_.store_vector(DType::i32, vector, b_.byte_pointer(pointer, b_.mul(m, stride)), mask);
  });
  b_.ret();
}

/// void tile_product(file, c, a, b). Padding of A's and B's tiles is zero, and its products with what C's shape allows
/// are never read: only C's own rows and columns are written.
void AmxTiles::emit_product() {
  Type *i = b_.i64_type(), *p = b_.pointer_type();
  product_ = b_.begin_internal("tile_product", b_.ir.getVoidTy(), {p, i, i, i});
  file_ = b_.argument(0);
  Value *c = b_.argument(1), *a = b_.argument(2), *b = b_.argument(3);
  Value *c_at = tile_pointer(c), *a_at = tile_pointer(a), *b_at = tile_pointer(b);
  Value *pairs = b_.ir.CreateLShr(row_bytes(a), b_.i64(2)), *mask = column_mask(row_bytes(c));
  const auto words = [&](uint32_t value) { return b_.splat(b_.ir.getInt32(value), 16); };
  Type* reals = b_.vector_type(DType::f32, 16);
  const auto even = [&](Value* pair) { return b_.ir.CreateBitCast(b_.ir.CreateShl(pair, words(16)), reals); };
  const auto odd = [&](Value* pair) { return b_.ir.CreateBitCast(b_.ir.CreateAnd(pair, words(0xffff0000)), reals); };
  b_.loop(b_.i64(0), rows(c), 1, [&](Value* m) {
    Value* row = b_.mul(m, b_.i64(kRowBytes));
    Value* zero = b_.constant(DType::f32, 0, 16);
    const Values sums = b_.loop_nonempty(b_.i64(0), pairs, 1, {zero, zero}, [&](Value* k, const Values& carried) {
      Value* left = b_.load(DType::i32, b_.element_pointer(DType::i32, b_.byte_pointer(a_at, row), k));
      Value* right = b_.load_vector(DType::i32, b_.byte_pointer(b_at, b_.mul(k, b_.i64(kRowBytes))), 16);
      left = b_.splat(left, 16);
      return Values{b_.fma(even(left), even(right), carried[0]), b_.fma(odd(left), odd(right), carried[1])};
    });
    Value* to = b_.byte_pointer(c_at, row);
    Value* sum = b_.ir.CreateFAdd(b_.load_vector(DType::f32, to, 16), b_.ir.CreateFAdd(sums[0], sums[1]));
    b_.store_vector(DType::f32, sum, to, mask);
  });
  b_.ret();
}

}  // namespace tilewright::cpu
