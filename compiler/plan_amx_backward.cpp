// When the backward template runs on AMX tiles, and its tile sizes and products.
#include <algorithm>
#include <iterator>
#include <span>

#include "compiler/plan_rules.h"

namespace tilewright {
namespace {

struct AmxBlock {
  int64_t head_dim;  ///< up to this, the widest operand
  int64_t block_q, block_kv, chunk_kv;
};
// Not measured: block_kv so that S and T of a strip of 32 rows fit L1; block_q and block_kv so long that sums are
// loaded and stored once per four to eight products; chunk_kv so large that packing a block of Q and dO, which happens
// once per chunk, is a small part, and small enough for L2.
constexpr AmxBlock kAmxBlocks[] = {{64, 128, 128, 768}, {128, 128, 128, 512}, {256, 128, 128, 256}, {512, 64, 64, 128}};
// Split operands: three to six products per 32 of the summed dimension, so that shorter blocks have as many between a
// load and a store of their sums, and two or three times the bytes, of which the chunk should have most.
constexpr AmxBlock kSplitBlocks[] = {{64, 64, 64, 768}, {128, 64, 64, 512}, {256, 64, 64, 256}, {512, 32, 32, 64}};

struct Products {
  int64_t scores = 1, outputs = 1;
  bool by_fma = false;  ///< what precision f32_fma asks for
};

Products products_of(const BackwardSpec& spec) {
  Products all;
  const auto join = [&](int64_t& slot, int64_t products) {
    slot = std::max(slot, products);
    all.by_fma |= products == 0;
  };
  for (const DotTerm* term : score_products(spec))
    join(all.scores, bf16_products(operand_dtype(spec, term->query), operand_dtype(spec, term->key), spec.precision));
  for (const auto* products : {&spec.rows, &spec.columns})
    for (const BackwardProduct& p : *products)
      join(all.outputs, bf16_weight_products(p.rounding, operand_dtype(spec, p.operand), spec.precision));
  return all;
}

}  // namespace

std::string refuse_amx_backward(const BackwardSpec& spec, const CpuTarget& target) {
  if (!target.has_tiles()) return "the target has no AMX tiles";
  if (std::string reason = refuse_fast_backward(spec, target); !reason.empty()) return reason;
  if (spec.accumulate != DType::f32) return "tiles add in f32, and this accumulates in f64";
  if (products_of(spec).by_fma) return "precision f32_fma asks for FMA of f32";
  return {};
}

std::string amx_backward_is_slower(const BackwardSpec& spec, const CpuTarget&) {
  const Products products = products_of(spec);
  int64_t width = 0, padded = 0;  // summed over the products of a score
  const auto add = [&](int64_t columns) {
    width += columns;
    padded += round_up(std::max<int64_t>(columns, 1), 32);
  };
  for (const DotTerm* term : score_products(spec)) add(term->head_dim);
  for (const auto* list : {&spec.rows, &spec.columns})
    for (const BackwardProduct& p : *list) add(p.width);
  if (products.outputs == 6 && 5 * width < 3 * padded)
    return fmt::format("six products of {} columns padded to {} are slower than FMA", width, padded);
  return {};
}

CpuSchedule schedule_amx_backward(const BackwardSpec& spec, const CpuTarget& target) {
  const int64_t width = backward_width(spec);
  const Products products = products_of(spec);
  CpuSchedule s;
  s.kernel = CpuTemplate::amx_backward;
  s.isa = target.isa;
  s.lanes = 16;
  s.mr = s.strip_rows = 32;
  s.nv = 2;
  s.products = products.scores;
  s.value_products = products.outputs;
  const bool split = std::max(s.products, s.value_products) > 1;
  const std::span<const AmxBlock> blocks = split ? std::span(kSplitBlocks) : std::span(kAmxBlocks);
  const auto block =
      std::find_if(blocks.begin(), std::prev(blocks.end()), [&](const AmxBlock& t) { return width <= t.head_dim; });
  s.block_q = block->block_q;
  s.block_kv = block->block_kv;
  s.chunk_kv = block->chunk_kv;
  const auto working_set = [&] { return backward_working_set(s, spec); };
  while (s.chunk_kv > s.block_kv && working_set() > target.l2_bytes * 3 / 4) s.chunk_kv -= s.block_kv;
  if (spec.q_len.is_constant()) s.block_q = std::clamp<int64_t>(round_up(spec.q_len.constant(), 32), 32, s.block_q);
  s.reasons.push_back(
      fmt::format("a chunk of {} keys with its K, V, dK and dV, blocks of {} rows and tiles of {}x{} scores take {} KB "
                  "of the {} KB L2",
                  s.chunk_kv, s.block_q, s.block_q, s.block_kv, working_set() >> 10, target.l2_bytes >> 10));
  if (target.isa == CpuIsa::amx_emulated) s.reasons.push_back("tiles are emulated, because that was asked for");
  return s;
}

}  // namespace tilewright
