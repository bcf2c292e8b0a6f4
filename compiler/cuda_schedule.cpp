#include "compiler/cuda_schedule.h"

#include <fmt/format.h>

#include <algorithm>

namespace tilewright {

std::string_view to_string(CudaTemplate name) {
  switch (name) {
    case CudaTemplate::generic: return "generic";
    case CudaTemplate::generic_backward: return "generic_backward";
    case CudaTemplate::loop: return "loop";
    case CudaTemplate::sm80_prefill: return "sm80_prefill";
    case CudaTemplate::sm90_prefill: return "sm90_prefill";
    case CudaTemplate::decode: return "decode";
  }
  return "";
}

std::span<const CudaScheduleField> cuda_schedule_fields() {
  static constexpr CudaScheduleField kFields[] = {
      {"block_q", &CudaSchedule::block_q},   {"block_kv", &CudaSchedule::block_kv},
      {"warps", &CudaSchedule::warps},       {"stages", &CudaSchedule::stages},
      {"split_kv", &CudaSchedule::split_kv}, {"pack_gqa", &CudaSchedule::pack_gqa},
      {"products", &CudaSchedule::products}};
  return kFields;
}

bool same_choice(const CudaSchedule& a, const CudaSchedule& b) {
  return a.kernel == b.kernel && std::ranges::all_of(cuda_schedule_fields(), [&](const CudaScheduleField& field) {
           return a.*field.member == b.*field.member;
         });
}

std::string print(const CudaSchedule& schedule) {
  std::string text = fmt::format("{}:", to_string(schedule.kernel));
  const char* separator = " ";
  for (const CudaScheduleField& field : cuda_schedule_fields()) {
    text += fmt::format("{}{} {}", separator, field.name, schedule.*field.member);
    separator = ", ";
  }
  return text;
}

}  // namespace tilewright
