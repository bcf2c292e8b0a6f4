// Which GPU templates take a program: the table, in order of preference.
#include <fmt/format.h>

#include "compiler/cuda_backward_layout.h"
#include "compiler/cuda_generic_layout.h"
#include "compiler/plan_cuda_rules.h"
#include "ir/result.h"

namespace tilewright {
namespace {

using Planner = CudaOffer (*)(const TileProgram&, const CudaTarget&);

struct Row {
  CudaTemplate kernel;
  Planner plan;
};
/// The generic one comes last and takes everything.
constexpr Row kTemplates[] = {{CudaTemplate::decode, plan_cuda_decode},
                              {CudaTemplate::sm90_prefill, plan_cuda_sm90_prefill},
                              {CudaTemplate::sm80_prefill, plan_cuda_sm80_prefill},
                              {CudaTemplate::generic, plan_cuda_generic}};

}  // namespace

Expr always_cuda() {
  Expr expr;
  expr.set_root(expr.constant_int(1, DType::boolean));
  return expr;
}

CudaPlan plan_cuda(const TileProgram& program, const CudaTarget& target, const CudaPlanOptions& options) {
  CudaPlan plan;
  for (const Row& row : kTemplates) {
    if (options.force_generic && row.kernel != CudaTemplate::generic) continue;
    CudaOffer offer = row.plan(program, target);
    if (auto* refusal = std::get_if<CudaPlan::Refusal>(&offer)) {
      plan.refused.push_back(std::move(*refusal));
      continue;
    }
    auto& choice = std::get<CudaPlan::Choice>(offer);
    const bool last = choice.use_when.is_constant_true() && !choice.needs_tensor_maps;
    plan.choices.push_back(std::move(choice));
    if (last) break;
  }
  return plan;
}

/// The largest tiles of which two blocks fit a multiprocessor, else one.
CudaPlan plan_cuda(const BackwardSpec& spec, const CudaTarget& target, const CudaPlanOptions&) {
  constexpr std::pair<int64_t, int64_t> kBlocks[] = {{32, 32}, {32, 16}, {16, 16}, {8, 16}, {8, 8},
                                                     {4, 8},   {4, 4},   {2, 2},   {1, 1}};
  CudaSchedule schedule;
  schedule.kernel = CudaTemplate::generic_backward;
  for (const int64_t limit : {target.shared_bytes_per_multiprocessor / 2 - 1024, target.shared_bytes_per_block})
    for (const auto& [block_q, block_kv] : kBlocks) {
      schedule.block_q = block_q;
      schedule.block_kv = block_kv;
      const int64_t bytes = backward_shared_bytes(spec, schedule);
      if (bytes > limit || (limit < target.shared_bytes_per_block && block_q < 16)) continue;
      schedule.reasons.push_back(
          fmt::format("{} query rows and {} keys a step: the largest tiles that fit {} bytes of shared memory, with {}",
                      block_q, block_kv, limit, bytes));
      return {{{schedule, always_cuda()}}, {}};
    }
  return {{},
          {{CudaTemplate::generic_backward,
            fmt::format("one row and one key take {} bytes of shared memory, and a block has {}",
                        backward_shared_bytes(spec, schedule), target.shared_bytes_per_block)}}};
}

CudaPlan plan_cuda(const LoopStep&, const CudaTarget&, const CudaPlanOptions&) {
  CudaSchedule schedule;
  schedule.kernel = CudaTemplate::loop;
  return {{{schedule, always_cuda()}}, {}};
}

/// The largest tiles of which two blocks fit a multiprocessor, else one.
CudaOffer plan_cuda_generic(const TileProgram& program, const CudaTarget& target) {
  constexpr std::pair<int64_t, int64_t> kBlocks[] = {{64, 32}, {32, 32}, {16, 32}, {16, 16}, {8, 16},
                                                     {8, 8},   {4, 8},   {4, 4},   {2, 2},   {1, 1}};
  CudaSchedule schedule;
  schedule.kernel = CudaTemplate::generic;
  for (const int64_t limit : {target.shared_bytes_per_multiprocessor / 2 - 1024, target.shared_bytes_per_block})
    for (const auto& [block_q, block_kv] : kBlocks) {
      schedule.block_q = block_q;
      schedule.block_kv = block_kv;
      const int64_t bytes = generic_cuda_layout(program, schedule).bytes;
      if (bytes > limit || (limit < target.shared_bytes_per_block && block_q < 16)) continue;
      schedule.reasons.push_back(
          fmt::format("{} query rows and {} keys a step: the largest tiles that fit {} bytes of shared memory, with {}",
                      block_q, block_kv, limit, bytes));
      return CudaPlan::Choice{schedule, always_cuda()};
    }
  return CudaPlan::Refusal{CudaTemplate::generic,
                           fmt::format("one row of head dim {} and value dim {} does not fit {} bytes of shared memory",
                                       generic_cuda_layout(program, schedule).head_dim, program.spec.value_dim,
                                       target.shared_bytes_per_block)};
}

}  // namespace tilewright
