// What this machine can do, from feature bits: CPU names lie in virtual machines.
#pragma once

#include "ir/result.h"
#include "ir/target.h"

namespace tilewright {

/// The running CPU, capped by environment().max_isa. isa is `baseline` when AVX2, FMA, F16C and BMI are not all there
/// or the operating system does not save their registers. `cores` counts those this process may run on.
CpuTarget detect_cpu();

/// The running CPU at a level that was asked for. Errors: the level is over environment().max_isa; the first feature
/// that the machine lacks for it, by name.
Result<CpuTarget> target_at(CpuIsa level);

}  // namespace tilewright
