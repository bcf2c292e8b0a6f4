// Which GPU templates take a program: the table, in order of preference.
#include <fmt/format.h>

#include "compiler/cuda_backward_layout.h"
#include "compiler/cuda_generic_layout.h"
#include "compiler/plan_cuda_rules.h"
#include "compiler/workspace_rows.h"
#include "ir/result.h"

namespace tilewright {
namespace {

using Planner = CudaOffer (*)(const TileProgram&, const CudaTarget&);

struct Row {
  CudaTemplate kernel;
  Planner plan;
};
/// The generic one comes last and takes everything; the others read rows of Q and K where they lie.
constexpr Row kTemplates[] = {{CudaTemplate::decode, plan_cuda_decode},
                              {CudaTemplate::sm90_prefill, plan_cuda_sm90_prefill},
                              {CudaTemplate::sm80_prefill, plan_cuda_sm80_prefill},
                              {CudaTemplate::generic, plan_cuda_generic}};

constexpr std::pair<int64_t, int64_t> kGenericBlocks[] = {{64, 32}, {32, 32}, {16, 32}, {16, 16}, {8, 16},
                                                          {8, 8},   {4, 8},   {4, 4},   {2, 2},   {1, 1}};

void add_row_reasons(const WorkspaceRows& rows, CudaSchedule& schedule) {
  for (const WorkspaceTensor& tensor : rows.tensors)
    schedule.reasons.push_back(
        fmt::format("a phase before this one computes %{} once and writes it to the workspace as {}", tensor.name,
                    to_string(tensor.type.dtype)));
}

}  // namespace

Expr always_cuda() {
  Expr expr;
  expr.set_root(expr.constant_int(1, DType::boolean));
  return expr;
}

CudaPlan plan_cuda(const TileProgram& program, const CudaTarget& target, const CudaPlanOptions& options) {
  CudaPlan plan;
  const WorkspaceRows rows = with_stored_rows(program);
  for (const Row& row : kTemplates) {
    const bool generic = row.kernel == CudaTemplate::generic;
    if (options.force_generic && !generic) continue;
    CudaOffer offer = row.plan(generic ? program : rows.program, target);
    if (auto* refusal = std::get_if<CudaPlan::Refusal>(&offer)) {
      plan.refused.push_back(std::move(*refusal));
      continue;
    }
    auto& choice = std::get<CudaPlan::Choice>(offer);
    if (!generic) add_row_reasons(rows, choice.schedule);
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

std::vector<CudaSchedule> cuda_generic_schedules(const TileProgram& program, const CudaTarget& target) {
  std::vector<CudaSchedule> all;
  for (const auto& [block_q, block_kv] : kGenericBlocks)
    for (const int64_t warps : {4, 2, 8}) {
      CudaSchedule schedule;
      schedule.block_q = block_q;
      schedule.block_kv = block_kv;
      schedule.warps = warps;
      if (generic_cuda_layout(program, schedule).bytes <= target.shared_bytes_per_block)
        all.push_back(std::move(schedule));
    }
  return all;
}

/// The largest tiles of which two blocks fit a multiprocessor, else one.
CudaOffer plan_cuda_generic(const TileProgram& program, const CudaTarget& target) {
  CudaSchedule schedule;
  for (const int64_t limit : {target.shared_bytes_per_multiprocessor / 2 - 1024, target.shared_bytes_per_block})
    for (const auto& [block_q, block_kv] : kGenericBlocks) {
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
