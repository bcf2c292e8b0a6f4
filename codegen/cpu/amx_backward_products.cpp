#include "codegen/cpu/amx_backward_products.h"

namespace tilewright::cpu {
using llvm::Value;

AmxBackwardProducts::AmxBackwardProducts(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                                         const BackwardLayout& layout)
    : BackwardProducts(builder, layout), amx_(*layout.amx), tiles_(builder), packer_(builder, spec, args, layout) {
  for (size_t n = 0; n < layout.terms.size(); ++n) product(scores_of(layout.terms[n], n));
  for (const auto& p : layout.columns) product(columns_of(p));
  for (const auto& p : layout.rows) product(rows_of(p));
  if (amx_.checked) fma_.emplace(builder, layout);
}

AmxBackwardProducts::Kind AmxBackwardProducts::scores_of(const BackwardLayout::Term& term, size_t number) const {
  return {amx_.products, amx_.queries[term.queries].parts, amx_.score_keys[number].parts, !term.first};
}

AmxBackwardProducts::Kind AmxBackwardProducts::columns_of(const BackwardLayout::Product& p) const {
  return {amx_.value_products, amx_.queries[p.operand].parts, amx_.weights[p.weight].parts, true};
}

AmxBackwardProducts::Kind AmxBackwardProducts::rows_of(const BackwardLayout::Product& p) const {
  return {amx_.value_products, amx_.weights[p.weight].parts, amx_.row_keys[p.operand].parts, true};
}

AmxProduct& AmxBackwardProducts::product(const Kind& kind) {
  auto& slot = products_[kind];
  if (!slot) {
    // In the forward keys are A: there s is the sum of the same products.
    std::vector<SplitTerm> terms;
    for (const SplitTerm& term : split_terms(kind.products))
      if (term.b < kind.a_parts && term.a < kind.b_parts) terms.push_back({term.b, term.a});
    const std::string name = fmt::format("{}_tiles_{}x{}", kind.adds ? "add" : "start", kind.a_parts, kind.b_parts);
    slot = std::make_unique<AmxProduct>(b_, tiles_, std::move(terms), kind.adds, name);
  }
  return *slot;
}

void AmxBackwardProducts::enter() {
  tiles_.enter(place(amx_.file_at));
  tiles_.configure();
  if (fma_) fma_->enter();
}

void AmxBackwardProducts::leave() { tiles_.release(); }

void AmxBackwardProducts::load_chunk(Value* b, Value* h, Value* first, Value* count) {
  packer_.load_chunk(b, h, first, count, b_.argument(3));
  keys_ = {b, h, first};
}

void AmxBackwardProducts::load_queries(Value* b, Value* h, Value* begin, Value* count) {
  packer_.load_queries(b, h, begin, count, b_.argument(3));
  queries_ = {b, h, begin};
  if (amx_.checked)
    wide_ = b_.ir.CreateICmpNE(b_.ir.CreateOr(flag(amx_.chunk_flag_at), flag(amx_.query_flag_at)), b_.i64(0));
}

AmxProduct::Operand AmxBackwardProducts::operand(const Tiles& t, Value* steps, Value* k) {
  Value* offset = b_.add(b_.mul(steps, b_.i64(amx_.kStep / amx_.kGroup * t.next)), b_.mul(k, b_.i64(t.k)));
  return {b_.byte_pointer(place(t.at), offset), b_.i64(t.next), b_.i64(t.k), b_.i64(t.part)};
}

void AmxBackwardProducts::scores(const Tile& tile, const Strip& strip) {
  if (!fma_) return tile_scores(tile, strip);
  b_.branch(
      wide_,
      [&] {
        widen(tile, strip);
        fma_->scores(tile);
        return Values{};
      },
      [&] {
        tile_scores(tile, strip);
        return Values{};
      });
}

void AmxBackwardProducts::widen(const Tile& tile, const Strip& strip) {
  Value* scratch = b_.argument(3);
  packer_.widen_queries(queries_.b, queries_.h, b_.add(queries_.first, strip.row), strip.rows, scratch);
  packer_.widen_keys(keys_.b, keys_.h, b_.add(keys_.first, tile.offset), tile.columns, scratch);
}

void AmxBackwardProducts::tile_scores(const Tile& tile, const Strip& strip) {
  const BackwardLayout& l = layout_;
  Value* first_row = b_.ir.CreateUDiv(strip.row, b_.i64(amx_.kStep));
  Value* first_key = b_.ir.CreateUDiv(tile.offset, b_.i64(amx_.kStep));
  for (size_t n = 0; n < l.terms.size(); ++n) {
    const auto& term = l.terms[n];
    const auto& queries = amx_.queries[term.queries];
    const auto& keys = amx_.score_keys[n];
    product(scores_of(term, n))
        .call({operand(queries.rows, first_row, b_.i64(0)), operand(keys.tiles, first_key, b_.i64(0)),
               scratch(l.tile(static_cast<size_t>(term.product))), b_.i64(l.tile_stride * 4), steps(strip.rows),
               steps(tile.columns), b_.i64(queries.padded / amx_.kStep), place(amx_.file_at), place(amx_.dummy_at)});
  }
}

void AmxBackwardProducts::take_weights(const Tile& tile, const Strip& strip) {
  Value* number = b_.ir.CreateUDiv(strip.row, b_.i64(amx_.kStep));
  const auto store = [&] { return packer_.store_weights(number, tile.columns, b_.argument(3)); };
  if (!fma_) {
    store();
    return;
  }
  b_.branch(
      wide_,
      [&] {
        fma_->outputs(tile, strip);
        return Values{};
      },
      [&] {
        b_.when(b_.ir.CreateICmpNE(store(), b_.i64(0)), [&] {
          widen(tile, strip);
          fma_->outputs(tile, strip);
          packer_.clear_weights(number, b_.argument(3));
        });
        return Values{};
      });
}

void AmxBackwardProducts::outputs(const Tile& tile, Value*) {
  if (!fma_) return tile_outputs(tile);
  b_.when(b_.ir.CreateNot(wide_), [&] { tile_outputs(tile); });
}

void AmxBackwardProducts::tile_outputs(const Tile& tile) {
  const BackwardLayout& l = layout_;
  Value *zero = b_.i64(0), *file = place(amx_.file_at), *dummy = place(amx_.dummy_at);
  for (size_t n = 0; n < l.columns.size(); ++n) {
    const auto& p = l.columns[n];
    const auto& sums = amx_.column_sums[n];
    product(columns_of(p))
        .call({operand(amx_.queries[p.operand].transposed, zero, zero),
               operand(amx_.weights[p.weight].columns, zero, zero),
               b_.byte_pointer(place(sums.at), b_.mul(tile.offset, b_.i64(4))), b_.i64(sums.stride),
               b_.i64(sums.padded / amx_.kStep), steps(tile.columns), steps(tile.rows), file, dummy});
  }
  for (const auto& p : l.rows) {
    const auto& keys = amx_.row_keys[p.operand];
    product(rows_of(p))
        .call({operand(amx_.weights[p.weight].rows, zero, zero),
               operand(keys.tiles, zero, b_.ir.CreateUDiv(tile.offset, b_.i64(amx_.kStep))), scratch(p.at),
               b_.i64(p.stride * 4), steps(tile.rows), b_.i64(keys.padded / amx_.kStep), steps(tile.columns), file,
               dummy});
  }
}

void AmxBackwardProducts::column_sums(size_t product, Value* count,
                                      const std::function<void(const ColumnSums&)>& piece) {
  b_.loop(b_.i64(0), count, amx_.kGroup, [&](Value* first) {
    packer_.turn_columns(product, b_.ir.CreateUDiv(first, b_.i64(amx_.kGroup)), b_.argument(3));
    piece({first, b_.min(b_.sub(count, first), b_.i64(amx_.kGroup)), place(amx_.stage_at), amx_.stage_stride});
  });
}

}  // namespace tilewright::cpu
