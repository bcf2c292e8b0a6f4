// Products of the backward template on AMX tiles. Every product takes the orientation in which what lies between two of
// them needs no transpose. Scores have queries as rows and keys as lanes, as the score pass wants them:
//
//     keys of a chunk, packed once per chunk        S += Q·Kᵀ   T += dO·Vᵀ          C: 16 queries × 16 keys
//       Kᵀ Vᵀ  [key/16] of (pairs of d × 16 keys)     score pass: S, T become P, dS, in place, f32 in L1
//       K      [key/32] of (pairs of keys × 16 d)   dVᵀ += dOᵀ·P  dKᵀ += Qᵀ·dS      C: 16 d × 16 keys
//     queries of a block                              P, dS as B: (pairs of queries × 16 keys): two rows blended
//       Q dO   [q/16] of (16 q × 32 d)              dQ += dS·K                      C: 16 queries × 16 d
//       Qᵀ dOᵀ [q/32] of (16 d × 32 q)                dS as A: (16 queries × 32 keys): two vectors narrowed
//
//           block_kv keys
//           ______________     A strip of rows at a time: S and T, the score pass, weights to bf16 tiles; S and T of a
//   strip  |______________|    strip are in L1, dS is written twice since one tile cannot be both B by pairs of queries
//   of 32  |              |    and A by pairs of keys. Then the three products of the whole tile of scores, whose sums
//          |  block_q     |    of k are long enough (block_q, block_kv) that sums are loaded and stored seldom.
//          |______________|
//
// Column sums stay transposed, [d][keys of the chunk] of f32, and are turned once when the chunk ends. Everything is
// padded to 32 with zeros. Memory in L2: of a chunk K twice and V once as bf16, dK and dV as f32; of a block Q
// and dO twice, P once and dS twice as bf16, dQ as f32.
//
// Rounding: with one product, P and dS are rounded to bf16 before they meet bf16 operands, as the graph of a bf16 model
// rounds them; every sum is f32, in chains of 32 products (AmxTiles::dp_bf16) that are added in ascending order. f32
// and f16 operands, and P and dS beside them, are sums of bf16 parts (split_terms.h), each part a set of tiles of its
// own: a sum of n products is within split_error_bound(products, n) · Σ|a·b| + products · n · 2^-126 of the exact one,
// and s is the bits that the forward on tiles has, as both sum the same products in the same order.
//
// Where a chunk or a query block holds what may not be split, their strips go through FMA on f32 (amx_backward_fma.h),
// scores and outputs; where a strip's weights may not be, its outputs do, and zeros take their place in the tiles.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include "codegen/cpu/amx_backward_fma.h"
#include "codegen/cpu/amx_backward_pack.h"
#include "codegen/cpu/amx_product.h"
#include "codegen/cpu/backward_products.h"

namespace tilewright::cpu {

class AmxBackwardProducts final : public BackwardProducts {
 public:
  /// Emits the internal functions it needs; call with no function under construction.
  AmxBackwardProducts(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                      const BackwardLayout& layout);

  void enter() override;
  void leave() override;
  void load_chunk(llvm::Value* b, llvm::Value* h, llvm::Value* first, llvm::Value* count) override;
  void load_queries(llvm::Value* b, llvm::Value* h, llvm::Value* begin, llvm::Value* count) override;
  void scores(const Tile& tile, const Strip& strip) override;
  void take_weights(const Tile& tile, const Strip& strip) override;
  void outputs(const Tile& tile, llvm::Value* more) override;
  void column_sums(size_t product, llvm::Value* count, const std::function<void(const ColumnSums&)>& piece) override;

 private:
  static constexpr int64_t kGroup = AmxBackwardLayout::kGroup, kStep = AmxBackwardLayout::kStep;
  using Tiles = AmxBackwardLayout::Tiles;
  struct Kind {
    int64_t products;  ///< of f32 operands
    int64_t a_parts, b_parts;
    bool adds;
    friend auto operator<=>(const Kind&, const Kind&) = default;
  };
  AmxProduct& product(const Kind& kind);
  Kind scores_of(const BackwardLayout::Term& term, size_t number) const;
  Kind columns_of(const BackwardLayout::Product& p) const;
  Kind rows_of(const BackwardLayout::Product& p) const;
  void widen(const Tile& tile, const Strip& strip);
  void tile_scores(const Tile& tile, const Strip& strip);
  void tile_outputs(const Tile& tile);
  /// Tiles from 32 · `steps` rows (columns of B), or 32 · `k` of the summed dimension, on.
  AmxProduct::Operand operand(const Tiles& tiles, llvm::Value* steps, llvm::Value* k);
  llvm::Value* place(int64_t at) { return b_.byte_pointer(b_.argument(3), b_.i64(at)); }
  llvm::Value* flag(int64_t at) { return b_.load(DType::i64, place(at)); }
  llvm::Value* steps(llvm::Value* count) { return b_.ceil_div(count, kStep); }

  const AmxBackwardLayout& amx_;
  AmxTiles tiles_;
  AmxBackwardPacker packer_;
  std::map<Kind, std::unique_ptr<AmxProduct>> products_;
  std::optional<AmxBackwardFma> fma_;  ///< where operands are split

  /// (b, h) and the first row of what was loaded last.
  struct Rows {
    llvm::Value *b = nullptr, *h = nullptr, *first = nullptr;
  } keys_, queries_;
  llvm::Value* wide_ = nullptr;  ///< i1: something loaded may not be split
};

}  // namespace tilewright::cpu
