// When the backward template runs on AMX tiles, and its tile sizes and products.
#include <algorithm>

#include "compiler/plan_rules.h"

namespace tilewright {
namespace {

struct Block {
  int64_t head_dim;  ///< up to this, the widest operand
  int64_t block_q, block_kv, chunk_kv;
};
// Not measured: block_kv so that S and T of a strip of 32 rows fit L1; block_q and block_kv so long that sums are
// loaded and stored once per four to eight products; chunk_kv so large that packing a block of Q and dO, which happens
// once per chunk, is a small part, and small enough for L2.
constexpr Block kBlocks[] = {{64, 128, 128, 768}, {128, 128, 128, 512}, {256, 128, 128, 256}, {512, 64, 64, 128}};

std::string not_bf16(const BackwardSpec& spec, int tensor) {
  const SpecTensor& operand = spec.tensors[static_cast<size_t>(tensor)];
  if (operand.type.dtype == DType::bf16) return {};
  return fmt::format("%{} is {}, and products of tiles take bf16", operand.name, to_string(operand.type.dtype));
}

}  // namespace

std::string refuse_amx_backward(const BackwardSpec& spec, const CpuTarget& target) {
  if (!target.has_tiles()) return "the target has no AMX tiles";
  if (std::string reason = refuse_fast_backward(spec, target); !reason.empty()) return reason;
  if (spec.accumulate != DType::f32) return "tiles add in f32, and this accumulates in f64";
  for (const DotTerm* term : score_products(spec))
    for (int tensor : {term->query.tensor, term->key.tensor})
      if (std::string reason = not_bf16(spec, tensor); !reason.empty()) return reason;
  for (const auto* products : {&spec.rows, &spec.columns})
    for (const BackwardProduct& p : *products) {
      if (std::string reason = not_bf16(spec, p.operand.tensor); !reason.empty()) return reason;
      if (p.rounding != DType::bf16)
        return fmt::format("weights may not be rounded to bf16 where they meet %{}",
                           spec.tensors[static_cast<size_t>(p.operand.tensor)].name);
    }
  return {};
}

CpuSchedule schedule_amx_backward(const BackwardSpec& spec, const CpuTarget& target) {
  const int64_t width = backward_width(spec);
  CpuSchedule s;
  s.kernel = CpuTemplate::amx_backward;
  s.isa = target.isa;
  s.lanes = 16;
  s.mr = s.strip_rows = 32;
  s.nv = 2;
  s.products = s.value_products = 1;
  s.reasons.push_back("one product of bf16 operands; weights are rounded to bf16 as their graph rounds them");
  const Block* block =
      std::find_if(std::begin(kBlocks), std::end(kBlocks) - 1, [&](const Block& t) { return width <= t.head_dim; });
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
