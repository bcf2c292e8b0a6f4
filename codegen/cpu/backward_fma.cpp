#include "codegen/cpu/backward_fma.h"

#include <algorithm>

namespace tilewright::cpu {
using llvm::Value;

FmaBackwardProducts::FmaBackwardProducts(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                                         const BackwardLayout& layout)
    : BackwardProducts(builder, layout), packer_(builder, spec, args, layout) {
  product(layout.score_tile, AOrder::rows);
  for (const auto& p : layout.rows) product(p.shape, AOrder::rows);
  for (const auto& p : layout.columns) product(p.shape, AOrder::columns);
}

TileProduct& FmaBackwardProducts::product(RegisterTile shape, AOrder order) {
  auto& slot = products_[{shape.mr, shape.nv, order}];
  if (!slot) {
    const std::string name = fmt::format("product_{}x{}{}", shape.mr, shape.nv, order == AOrder::columns ? "_t" : "");
    slot = std::make_unique<TileProduct>(b_, layout_.dtype, layout_.lanes, shape, layout_.k_unroll, name, order);
  }
  return *slot;
}

void FmaBackwardProducts::enter() {
  b_.loop(b_.i64(0), b_.i64(std::max(layout_.block_q, layout_.block_kv + layout_.spare)), 1,
          [&](Value* i) { b_.store(layout_.dtype, b_.constant(layout_.dtype, 1), at(scratch(layout_.ones_at), i)); });
}

void FmaBackwardProducts::load_chunk(Value* b, Value* h, Value* first, Value* count) {
  packer_.load_chunk(b, h, first, count, b_.argument(3));
  for (const auto& p : layout_.columns)
    b_.loop(b_.i64(0), b_.i64((layout_.chunk_kv + layout_.spare) * p.stride), layout_.lanes, [&](Value* i) {
      b_.store_vector(layout_.dtype, b_.constant(layout_.dtype, 0, layout_.lanes), at(scratch(p.at), i));
    });
}

void FmaBackwardProducts::load_queries(Value* b, Value* h, Value* begin, Value* count) {
  packer_.load_queries(b, h, begin, count, b_.argument(3));
}

void FmaBackwardProducts::scores(const Tile& tile, const Strip& strip) {
  const BackwardLayout& l = layout_;
  for (const auto& term : l.terms) {
    const auto& queries = l.q_rows[term.queries];
    for (int64_t d = 0; d < term.padded_dim; d += term.piece) {
      const int64_t depth = std::min(term.piece, term.padded_dim - d);
      product(l.score_tile, AOrder::rows)
          .call({at(scratch(queries.at, strip.row, queries.stride), d), b_.i64(queries.stride),
                 at(scratch(term.panels_at, tile.offset, term.padded_dim), d * l.panel), b_.i64(l.panel),
                 b_.i64(l.panel * term.padded_dim), scratch(l.tile(static_cast<size_t>(term.product))),
                 b_.i64(l.tile_stride), b_.i64(depth), tiles_of(tile.columns, l.panel),
                 tiles_of(strip.rows, l.score_tile.mr), term.first && d == 0 ? null() : scratch(l.ones_at)});
    }
  }
}

void FmaBackwardProducts::outputs(const Tile& tile, Value* more) {
  const BackwardLayout& l = layout_;
  Value *ones = scratch(l.ones_at), *tile_stride = b_.i64(l.tile_stride);
  Value* factors = b_.ir.CreateSelect(more, ones, null());
  const auto padded = [&](Value* count) { return b_.mul(tiles_of(count, l.k_unroll), b_.i64(l.k_unroll)); };
  for (const auto& p : l.columns)
    product(p.shape, AOrder::columns)
        .call({scratch(l.tile(p.weight)), tile_stride, scratch(l.q_rows[p.operand].at),
               b_.i64(l.q_rows[p.operand].stride), b_.i64(p.shape.nv * l.lanes), scratch(p.at, tile.offset, p.stride),
               b_.i64(p.stride), padded(tile.rows), b_.i64(p.stride / (p.shape.nv * l.lanes)),
               tiles_of(tile.columns, p.shape.mr), ones});
  for (const auto& p : l.rows) {
    const auto& keys = l.kv_rows[p.operand];
    product(p.shape, AOrder::rows)
        .call({scratch(l.tile(p.weight)), tile_stride, scratch(keys.at, tile.offset, keys.stride), b_.i64(keys.stride),
               b_.i64(p.shape.nv * l.lanes), scratch(p.at), b_.i64(p.stride), padded(tile.columns),
               b_.i64(p.stride / (p.shape.nv * l.lanes)), tiles_of(tile.rows, p.shape.mr), factors});
  }
}

void FmaBackwardProducts::column_sums(size_t product, Value* count,
                                      const std::function<void(const ColumnSums&)>& piece) {
  const auto& p = layout_.columns[product];
  piece({b_.i64(0), count, scratch(p.at), p.stride});
}

}  // namespace tilewright::cpu
