// What a precision policy means for one step: whether it has products of f32 operands at all, and in words how they are
// computed.
#pragma once

#include "compiler/program.h"
#include "compiler/schedule.h"

namespace tilewright {

/// Does any product of the spec read f32 operands? Those are what a policy is about: stored or computed rows that are
/// not declared narrower, and weights likewise.
bool multiplies_f32(const AttentionSpec& spec);
bool multiplies_f32(const BackwardSpec& spec);

/// One sentence for manifests and people: "f32 products by FMA, more accurate than precision f32_x3 asks: the target
/// has no AMX". Empty for a step without products.
std::string describe_products(const AttentionSpec& spec, const CpuSchedule& schedule);
std::string describe_products(const BackwardSpec& spec, const CpuSchedule& schedule);
std::string describe_products(const LoopStep& step, const CpuSchedule& schedule);

}  // namespace tilewright
