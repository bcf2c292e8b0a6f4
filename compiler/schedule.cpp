#include "compiler/schedule.h"

#include <fmt/format.h>

#include <algorithm>

namespace tilewright {

std::string_view to_string(CpuTemplate name) {
  switch (name) {
    case CpuTemplate::prefill: return "prefill";
    case CpuTemplate::decode: return "decode";
    case CpuTemplate::backward: return "backward";
    case CpuTemplate::loop: return "loop";
    case CpuTemplate::matmul: return "matmul";
    case CpuTemplate::matvec: return "matvec";
    case CpuTemplate::amx_prefill: return "amx_prefill";
    case CpuTemplate::amx_backward: return "amx_backward";
    case CpuTemplate::amx_decode: return "amx_decode";
    case CpuTemplate::ahead_of_time: return "ahead_of_time";
    case CpuTemplate::generic: break;
  }
  return "generic";
}

std::span<const ScheduleField> schedule_fields() {
  static constexpr ScheduleField kFields[] = {
      {"lanes", &CpuSchedule::lanes},
      {"block_q", &CpuSchedule::block_q},
      {"block_kv", &CpuSchedule::block_kv},
      {"strip_rows", &CpuSchedule::strip_rows},
      {"mr", &CpuSchedule::mr},
      {"nv", &CpuSchedule::nv},
      {"k_unroll", &CpuSchedule::k_unroll},
      {"block_m", &CpuSchedule::block_m},
      {"block_n", &CpuSchedule::block_n},
      {"block_k", &CpuSchedule::block_k},
      {"split_kv", &CpuSchedule::split_kv},
      {"chunk_kv", &CpuSchedule::chunk_kv},
      {"share_packed", &CpuSchedule::share_packed},
      {"products", &CpuSchedule::products},
      {"value_products", &CpuSchedule::value_products},
      {"rescale_log2", &CpuSchedule::rescale_log2},
  };
  return kFields;
}

bool same_choice(const CpuSchedule& a, const CpuSchedule& b) {
  return a.kernel == b.kernel && a.isa == b.isa &&
         std::ranges::all_of(schedule_fields(), [&](const ScheduleField& f) { return a.*f.member == b.*f.member; });
}

std::string print(const CpuSchedule& s) {
  if (s.kernel == CpuTemplate::loop) return fmt::format("loop {}", to_string(s.isa));
  if (s.kernel == CpuTemplate::ahead_of_time) {
    const std::string tile = fmt::format("micro-kernel {}x{} vectors of {}", s.mr, s.nv, s.lanes);
    if (s.block_m > 0)
      return fmt::format("ahead_of_time {}: block_m {}, block_n {}, block_k {}, {}", to_string(s.isa), s.block_m,
                         s.block_n, s.block_k, tile);
    return fmt::format("ahead_of_time {}: block_q {}, block_kv {}, {}", to_string(s.isa), s.block_q, s.block_kv, tile);
  }
  if (s.kernel == CpuTemplate::matmul || s.kernel == CpuTemplate::matvec) {
    std::string text = fmt::format("{} {}: block_m {}, block_n {}, block_k {}", to_string(s.kernel), to_string(s.isa),
                                   s.block_m, s.block_n, s.block_k);
    if (s.kernel == CpuTemplate::matmul)
      text += fmt::format(", micro-kernel {}x{} vectors of {}, k_unroll {}", s.mr, s.nv, s.lanes, s.k_unroll);
    return text;
  }
  if (s.kernel == CpuTemplate::amx_prefill)
    return fmt::format(
        "amx_prefill {}: block_q {}, block_kv {}, tiles 2x2 of 16x16, products {}/{}, rescale above 2^{}",
        to_string(s.isa), s.block_q, s.block_kv, s.products, s.value_products, s.rescale_log2);
  if (s.kernel == CpuTemplate::amx_decode)
    return fmt::format("amx_decode {}: block_q {}, block_kv {}, tiles of 16 keys x 32 columns, split_kv {}",
                       to_string(s.isa), s.block_q, s.block_kv, s.split_kv);
  if (s.kernel == CpuTemplate::amx_backward)
    return fmt::format("amx_backward {}: block_q {}, block_kv {}, chunk_kv {}, tiles 2x2 of 16x16, products {}/{}",
                       to_string(s.isa), s.block_q, s.block_kv, s.chunk_kv, s.products, s.value_products);
  std::string text = fmt::format(
      "{} {}: block_q {}, block_kv {}, strip_rows {}, micro-kernel {}x{} vectors of {}, k_unroll {}",
      to_string(s.kernel), to_string(s.isa), s.block_q, s.block_kv, s.strip_rows, s.mr, s.nv, s.lanes, s.k_unroll);
  if (s.chunk_kv > 0) text += fmt::format(", chunk_kv {}", s.chunk_kv);
  if (s.split_kv > 0) text += fmt::format(", split_kv {}", s.split_kv);
  if (s.share_packed == 0) text += ", K and V packed by each work item";
  return text;
}

}  // namespace tilewright
