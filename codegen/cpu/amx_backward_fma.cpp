#include "codegen/cpu/amx_backward_fma.h"

#include <algorithm>

namespace tilewright::cpu {
using llvm::Value;

namespace {
constexpr int64_t kLanes = AmxBackwardLayout::kGroup, kRows = AmxBackwardLayout::kStep;
}  // namespace

AmxBackwardFma::AmxBackwardFma(LlvmBuilder& builder, const BackwardLayout& layout)
    : BackwardScratch(builder, layout),
      amx_(*layout.amx),
      by_rows_(builder, DType::f32, kLanes, kTile, 1, "fma_rows"),
      by_columns_(builder, DType::f32, kLanes, kTile, 1, "fma_columns", AOrder::columns) {}

void AmxBackwardFma::enter() {
  int64_t most = kRows;  // rows of C
  for (const auto& sums : amx_.column_sums) most = std::max(most, sums.padded);
  b_.loop(b_.i64(0), b_.i64(most), kLanes, [&](Value* at) {
    b_.store_vector(DType::f32, b_.constant(DType::f32, 1, kLanes),
                    b_.element_pointer(DType::f32, place(amx_.ones_at), at));
  });
}

void AmxBackwardFma::scores(const BackwardProducts::Tile& tile) {
  const BackwardLayout& l = layout_;
  Value *lanes = b_.i64(kLanes), *stride = b_.i64(l.block_kv);
  for (size_t n = 0; n < l.terms.size(); ++n) {
    const auto& term = l.terms[n];
    const int64_t padded = amx_.score_keys[n].padded, piece = l.terms[n].piece;
    Value *queries = place(amx_.wide_queries_at[term.queries]), *panels = place(amx_.wide_panels_at[n]);
    for (int64_t d = 0; d < padded; d += piece)
      by_rows_.call({at(queries, d), b_.i64(padded), at(panels, d * l.block_kv), stride, lanes,
                     scratch(l.tile(static_cast<size_t>(term.product))), b_.i64(l.tile_stride),
                     b_.i64(std::min(piece, padded - d)), b_.ceil_div(tile.columns, kLanes), b_.i64(kRows / kTile.mr),
                     term.first && d == 0 ? null() : place(amx_.ones_at)});
  }
}

void AmxBackwardFma::outputs(const BackwardProducts::Tile& tile, const BackwardProducts::Strip& strip) {
  const BackwardLayout& l = layout_;
  Value *lanes = b_.i64(kLanes), *ones = place(amx_.ones_at), *tile_stride = b_.i64(l.tile_stride);
  for (size_t n = 0; n < l.columns.size(); ++n) {
    const auto& p = l.columns[n];
    const auto& sums = amx_.column_sums[n];
    by_columns_.call({place(amx_.wide_queries_at[p.operand]), b_.i64(sums.padded), scratch(l.tile(p.weight)),
                      tile_stride, lanes, at(place(sums.at), tile.offset), b_.i64(sums.stride / 4), b_.i64(kRows),
                      b_.ceil_div(tile.columns, kLanes), b_.i64(sums.padded / kTile.mr), ones});
  }
  for (const auto& p : l.rows) {
    const int64_t padded = amx_.row_keys[p.operand].padded;
    by_rows_.call({scratch(l.tile(p.weight)), tile_stride, place(amx_.wide_keys_at[p.operand]), b_.i64(padded), lanes,
                   scratch(p.at, strip.row, p.stride), b_.i64(p.stride), tile.columns, b_.i64(padded / kLanes),
                   b_.i64(kRows / kTile.mr), ones});
  }
}

}  // namespace tilewright::cpu
