#include "compiler/cuda_schedule_space.h"

#include <algorithm>
#include <cmath>

#include "compiler/plan_cuda_decode.h"
#include "compiler/plan_cuda_generic.h"
#include "compiler/plan_sm80_prefill.h"
#include "compiler/plan_sm90_prefill.h"
#include "compiler/workspace_rows.h"

namespace tilewright {
namespace {

struct Choices {
  int64_t CudaSchedule::* member;
  std::vector<int64_t> values;
};

/// What is tried, before `validate`.
std::vector<Choices> choices_of(CudaTemplate kernel) {
  using S = CudaSchedule;
  switch (kernel) {
    case CudaTemplate::sm90_prefill:
      return {{&S::block_q, {64, 128, 192}},
              {&S::warps, {8, 12, 16}},
              {&S::block_kv, {32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256}},
              {&S::stages, {2, 3, 4}}};
    case CudaTemplate::sm80_prefill:
      return {{&S::block_q, {32, 64, 128, 256}},
              {&S::warps, {2, 4, 8}},
              {&S::block_kv, {16, 32, 48, 64, 96, 128}},
              {&S::stages, {2, 3}}};
    case CudaTemplate::decode:
      return {{&S::warps, {2, 4, 8}},
              {&S::block_kv, {16, 32, 64}},
              {&S::stages, {2, 3, 4}},
              {&S::split_kv, {128, 256, 512, 1024}}};
    case CudaTemplate::generic:
    case CudaTemplate::generic_backward:
      return {{&S::block_q, {4, 8, 16, 32, 64}}, {&S::block_kv, {8, 16, 32}}, {&S::warps, {2, 4, 8}}};
    case CudaTemplate::loop: break;
  }
  return {};
}

/// Integers that the template does not read: as they are in any schedule of it.
std::vector<int64_t CudaSchedule::*> unread(CudaTemplate kernel) {
  using S = CudaSchedule;
  switch (kernel) {
    case CudaTemplate::decode: return {};
    case CudaTemplate::sm80_prefill: return {&S::split_kv, &S::pack_gqa};
    case CudaTemplate::sm90_prefill: return {&S::split_kv, &S::pack_gqa, &S::products};
    case CudaTemplate::generic:
    case CudaTemplate::generic_backward: return {&S::stages, &S::split_kv, &S::pack_gqa, &S::products};
    case CudaTemplate::loop: break;
  }
  return {&S::block_q, &S::block_kv, &S::warps, &S::stages, &S::split_kv, &S::pack_gqa, &S::products};
}

Result<Done> check_unread(const CudaSchedule& schedule) {
  const CudaSchedule standard;
  for (const auto member : unread(schedule.kernel))
    for (const CudaScheduleField& field : cuda_schedule_fields())
      if (field.member == member && schedule.*member != standard.*member)
        return invalid("{} {} is not {}: {} has no choice there", field.name, schedule.*member, standard.*member,
                       to_string(schedule.kernel));
  return Done{};
}

/// How far apart two schedules are: steps of a factor of two, over all integers.
double distance(const CudaSchedule& a, const CudaSchedule& b) {
  double sum = 0;
  for (const CudaScheduleField& field : cuda_schedule_fields())
    sum += std::fabs(std::log2(static_cast<double>(std::max<int64_t>(a.*field.member, 1))) -
                     std::log2(static_cast<double>(std::max<int64_t>(b.*field.member, 1))));
  return sum;
}

}  // namespace

Result<Done> validate(const CudaSchedule& schedule, const ScheduledStep& step, const CudaTarget& target) {
  if (auto ok = check_unread(schedule); !ok) return ok;
  if (const auto* backward = std::get_if<const BackwardSpec*>(&step))
    return validate_cuda_backward(**backward, schedule, target);
  if (std::holds_alternative<const LoopStep*>(step)) return Done{};
  const TileProgram& program = *std::get<const TileProgram*>(step);
  if (schedule.kernel == CudaTemplate::generic) return validate_cuda_generic(program, schedule, target);
  const TileProgram stored = with_stored_rows(program).program;  // as the templates get it
  if (schedule.kernel == CudaTemplate::sm90_prefill) return validate_sm90_prefill(stored, schedule, target);
  if (schedule.kernel == CudaTemplate::sm80_prefill) return validate_sm80_prefill(stored, schedule, target);
  TW_CHECK(schedule.kernel == CudaTemplate::decode);
  return validate_cuda_decode(stored, schedule, target);
}

std::vector<CudaSchedule> legal_cuda_schedules(const CudaSchedule& rules, const ScheduledStep& step,
                                               const CudaTarget& target) {
  std::vector<CudaSchedule> all = {rules};
  all[0].reasons.clear();
  for (const Choices& axis : choices_of(rules.kernel)) {
    const size_t before = all.size();
    for (size_t i = 0; i < before; ++i)
      for (const int64_t value : axis.values) {
        CudaSchedule other = all[i];
        other.*axis.member = value;
        if (value != all[i].*axis.member) all.push_back(std::move(other));
      }
  }
  std::erase_if(all, [&](const CudaSchedule& s) { return !same_choice(s, rules) && !validate(s, step, target); });
  std::stable_sort(all.begin(), all.end(), [&](const CudaSchedule& a, const CudaSchedule& b) {
    return distance(a, rules) < distance(b, rules);
  });
  all[0].reasons = rules.reasons;
  return all;
}

}  // namespace tilewright
