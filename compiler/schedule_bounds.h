// The bounds that make a schedule legal, per template. A template that is added brings its own check here.
#pragma once

#include "compiler/schedule_space.h"

namespace tilewright {

/// What the bounds need to know of a step.
struct StepShape {
  int64_t element = 4;        ///< bytes of the accumulation type
  int64_t score_columns = 0;  ///< head dims of all products that make scores; backward: the widest operand
  int64_t value_columns = 0;  ///< Dv; backward: the widest operand; 0 for loops
};
StepShape shape_of(const ScheduledStep& step);

/// What a schedule keeps in L2 while it works, in bytes.
int64_t working_set(const CpuSchedule& schedule, const ScheduledStep& step);
/// What its innermost loops keep in L1: a strip of scores, a panel of B; 0 where the template has no such tile.
int64_t inner_tile(const CpuSchedule& schedule, const ScheduledStep& step);

}  // namespace tilewright
