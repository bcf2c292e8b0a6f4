#include "ir/precision.h"

namespace tilewright {

std::string_view to_string(PrecisionPolicy policy) {
  switch (policy) {
    case PrecisionPolicy::f32_fma: return "f32_fma";
    case PrecisionPolicy::f32_x3: return "f32_x3";
    case PrecisionPolicy::bf16: return "bf16";
    case PrecisionPolicy::f32: break;
  }
  return "f32";
}

Result<PrecisionPolicy> parse_precision_policy(std::string_view text) {
  for (const PrecisionPolicy policy : kPrecisionPolicies)
    if (to_string(policy) == text) return policy;
  return invalid("there is no precision policy '{}'; f32, f32_fma, f32_x3 and bf16 are", text.substr(0, 60));
}

}  // namespace tilewright
