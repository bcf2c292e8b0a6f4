// What this machine can do, from feature bits: CPU names lie in virtual machines.
#pragma once

#include "ir/target.h"

namespace tilewright {

/// The running CPU, capped by environment().max_isa. isa is `baseline` when AVX2, FMA, F16C and BMI are not all there
/// or the operating system does not save their registers. `cores` counts those this process may run on.
CpuTarget detect_cpu();

}  // namespace tilewright
