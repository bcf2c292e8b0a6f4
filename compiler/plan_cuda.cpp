// Which GPU templates take a program: the table, in order of preference.
#include <fmt/format.h>

#include "compiler/plan_cuda_rules.h"
#include "compiler/workspace_rows.h"

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

CudaPlan plan_cuda(const BackwardSpec& spec, const CudaTarget& target, const CudaPlanOptions&) {
  CudaOffer offer = plan_cuda_backward(spec, target);
  if (auto* refusal = std::get_if<CudaPlan::Refusal>(&offer)) return {{}, {std::move(*refusal)}};
  return {{std::move(std::get<CudaPlan::Choice>(offer))}, {}};
}

CudaPlan plan_cuda(const LoopStep&, const CudaTarget&, const CudaPlanOptions&) {
  CudaSchedule schedule;
  schedule.kernel = CudaTemplate::loop;
  return {{{schedule, always_cuda()}}, {}};
}

}  // namespace tilewright
