#include "compiler/schedule.h"

#include <fmt/format.h>

namespace tilewright {

std::string_view to_string(CpuTemplate name) {
  switch (name) {
    case CpuTemplate::prefill: return "prefill";
    case CpuTemplate::decode: return "decode";
    case CpuTemplate::backward: return "backward";
    case CpuTemplate::generic: break;
  }
  return "generic";
}

std::string print(const CpuSchedule& s) {
  std::string text = fmt::format(
      "{} {}: block_q {}, block_kv {}, strip_rows {}, micro-kernel {}x{} vectors of {}, k_unroll {}",
      to_string(s.kernel), to_string(s.isa), s.block_q, s.block_kv, s.strip_rows, s.mr, s.nv, s.lanes, s.k_unroll);
  if (s.chunk_kv > 0) text += fmt::format(", chunk_kv {}", s.chunk_kv);
  if (s.split_kv > 0) text += fmt::format(", split_kv {}", s.split_kv);
  return text;
}

}  // namespace tilewright
