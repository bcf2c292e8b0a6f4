// Reading tensors into registers: a run of elements with its conversion, and boxes. The same for every instruction set.
#pragma once

#include "runtime/tier/lane_program.h"

namespace tilewright::tier {

/// lanes[i] = element i of `count` packed ones, as the kind of register that dtype has.
void widen(DType dtype, const void* elements, void* lanes, int64_t count);
/// `count` elements, `step` elements apart, packed.
void gather_run(DType dtype, const std::byte* base, int64_t step, int64_t count, std::byte* packed);
/// The same at base + offsets[i] elements.
void gather(DType dtype, const std::byte* base, const int64_t* offsets, int64_t count, std::byte* packed);
/// load_extreme: lane 0 of dst. Arguments are equal lanes.
void load_extreme(const Instr& instr, const LaneContext& context, std::byte* registers);

}  // namespace tilewright::tier
