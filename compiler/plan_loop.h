// Which template a loop step runs with, and its block sizes.
#pragma once

#include "compiler/program.h"
#include "compiler/schedule.h"

namespace tilewright {

/// Contractions: matvec for few rows, matmul for more, both when the number of rows is only known at run time.
/// Everything else is a plain loop.
CpuPlan plan_loop(const LoopStep& step, const CpuTarget& target);

}  // namespace tilewright
