#include "codegen/cpu/amx_backward_products.h"

namespace tilewright::cpu {
using llvm::Value;

AmxBackwardProducts::AmxBackwardProducts(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                                         const BackwardLayout& layout)
    : BackwardProducts(builder, layout), amx_(*layout.amx), tiles_(builder), packer_(builder, spec, args, layout) {
  for (size_t n = 0; n < layout.terms.size(); ++n)
    product(amx_.queries[layout.terms[n].queries].parts, amx_.score_keys[n].parts, !layout.terms[n].first);
  for (const auto& p : layout.columns) product(amx_.queries[p.operand].parts, amx_.weights[p.weight].parts, true);
  for (const auto& p : layout.rows) product(amx_.weights[p.weight].parts, amx_.row_keys[p.operand].parts, true);
}

AmxProduct& AmxBackwardProducts::product(int64_t a_parts, int64_t b_parts, bool adds) {
  auto& slot = products_[{a_parts, b_parts, adds}];
  if (!slot) {
    std::vector<SplitTerm> terms;
    for (const SplitTerm& term : split_terms(std::max(a_parts, b_parts) == 1 ? 1 : 6))
      if (term.a < a_parts && term.b < b_parts) terms.push_back(term);
    const std::string name = fmt::format("{}_tiles_{}x{}", adds ? "add" : "start", a_parts, b_parts);
    slot = std::make_unique<AmxProduct>(b_, tiles_, std::move(terms), adds, name);
  }
  return *slot;
}

void AmxBackwardProducts::enter() {
  tiles_.enter(place(amx_.file_at));
  tiles_.configure();
}

void AmxBackwardProducts::leave() { tiles_.release(); }

void AmxBackwardProducts::load_chunk(Value* b, Value* h, Value* first, Value* count) {
  packer_.load_chunk(b, h, first, count, b_.argument(3));
}

void AmxBackwardProducts::load_queries(Value* b, Value* h, Value* begin, Value* count) {
  packer_.load_queries(b, h, begin, count, b_.argument(3));
}

AmxProduct::Operand AmxBackwardProducts::operand(const Tiles& t, Value* steps, Value* k) {
  Value* offset = b_.add(b_.mul(steps, b_.i64(AmxBackwardLayout::kStep / AmxBackwardLayout::kGroup * t.next)),
                         b_.mul(k, b_.i64(t.k)));
  return {b_.byte_pointer(place(t.at), offset), b_.i64(t.next), b_.i64(t.k), b_.i64(t.part)};
}

void AmxBackwardProducts::scores(const Tile& tile, const Strip& strip) {
  const BackwardLayout& l = layout_;
  Value* first_row = b_.ir.CreateUDiv(strip.row, b_.i64(AmxBackwardLayout::kStep));
  Value* first_key = b_.ir.CreateUDiv(tile.offset, b_.i64(AmxBackwardLayout::kStep));
  for (size_t n = 0; n < l.terms.size(); ++n) {
    const auto& term = l.terms[n];
    const auto& queries = amx_.queries[term.queries];
    const auto& keys = amx_.score_keys[n];
    product(queries.parts, keys.parts, !term.first)
        .call({operand(queries.rows, first_row, b_.i64(0)), operand(keys.tiles, first_key, b_.i64(0)),
               scratch(l.tile(static_cast<size_t>(term.product))), b_.i64(l.tile_stride * 4), steps(strip.rows),
               steps(tile.columns), b_.i64(queries.padded / AmxBackwardLayout::kStep), place(amx_.file_at),
               place(amx_.dummy_at)});
  }
}

void AmxBackwardProducts::take_weights(const Tile& tile, const Strip& strip) {
  packer_.store_weights(b_.ir.CreateUDiv(strip.row, b_.i64(AmxBackwardLayout::kStep)), tile.columns, b_.argument(3));
}

void AmxBackwardProducts::outputs(const Tile& tile, Value*) {
  const BackwardLayout& l = layout_;
  Value *zero = b_.i64(0), *file = place(amx_.file_at), *dummy = place(amx_.dummy_at);
  for (size_t n = 0; n < l.columns.size(); ++n) {
    const auto& p = l.columns[n];
    const auto& queries = amx_.queries[p.operand];
    const auto& weights = amx_.weights[p.weight];
    const auto& sums = amx_.column_sums[n];
    product(queries.parts, weights.parts, true)
        .call({operand(queries.transposed, zero, zero), operand(weights.columns, zero, zero),
               b_.byte_pointer(place(sums.at), b_.mul(tile.offset, b_.i64(4))), b_.i64(sums.stride),
               b_.i64(sums.padded / AmxBackwardLayout::kStep), steps(tile.columns), steps(tile.rows), file, dummy});
  }
  for (const auto& p : l.rows) {
    const auto& keys = amx_.row_keys[p.operand];
    const auto& weights = amx_.weights[p.weight];
    product(weights.parts, keys.parts, true)
        .call({operand(weights.rows, zero, zero),
               operand(keys.tiles, zero, b_.ir.CreateUDiv(tile.offset, b_.i64(AmxBackwardLayout::kStep))),
               scratch(p.at), b_.i64(p.stride * 4), steps(tile.rows), b_.i64(keys.padded / AmxBackwardLayout::kStep),
               steps(tile.columns), file, dummy});
  }
}

void AmxBackwardProducts::column_sums(size_t product, Value* count,
                                      const std::function<void(const ColumnSums&)>& piece) {
  b_.loop(b_.i64(0), count, AmxBackwardLayout::kGroup, [&](Value* first) {
    packer_.turn_columns(product, b_.ir.CreateUDiv(first, b_.i64(AmxBackwardLayout::kGroup)), b_.argument(3));
    piece({first, b_.min(b_.sub(count, first), b_.i64(AmxBackwardLayout::kGroup)), place(amx_.stage_at),
           amx_.stage_stride});
  });
}

}  // namespace tilewright::cpu
