#include "codegen/cpu/target_features.h"

namespace tilewright {

std::string target_cpu_name(const CpuTarget& target) { return target.has_avx512() ? "skylake-avx512" : "haswell"; }

std::string target_features(const CpuTarget& target) {
  std::string text = "+avx2,+fma,+f16c,+bmi,+bmi2";
  if (target.has_avx512()) {
    text += ",+avx512f,+avx512bw,+avx512dq,+avx512vl,-avx10.1-256,-avx10.1-512,-prefer-256-bit";
    text += target.avx512_bf16 ? ",+avx512bf16" : ",-avx512bf16";
    text += target.avx512_fp16 ? ",+avx512fp16" : ",-avx512fp16";
    if (target.isa == CpuIsa::amx) text += ",+amx-tile,+amx-bf16";
  }
  return text;
}

}  // namespace tilewright
