// What the mma.sync templates (sm80_prefill, decode) can multiply, and the memory that a tile of it takes.
#pragma once

#include <string>

#include "compiler/cuda_schedule.h"

namespace tilewright {

/// In how many 16-bit parts the operands of the two products are multiplied; device/tensor_tiles.cuh says how. Q and K
/// have as many.
struct Sm80Parts {
  int64_t query = 1, weight = 1, value = 1;
};
/// `products` of a schedule: 1, or of f32 operands 3 (two parts) or 6 (three parts).
Sm80Parts sm80_parts(const AttentionSpec& spec, int64_t products);
/// Products of f32 operands that the precision policy asks for; 1 where there are none.
int64_t sm80_products(const AttentionSpec& spec);

/// One sentence why mma.sync cannot take the program, empty when it can.
std::string refuse_sm80_operands(const TileProgram& program);

/// Head dims in shared memory.
int64_t sm80_columns(int64_t dim);
/// Bytes of one row of Q, and of one key with its value.
int64_t sm80_query_row_bytes(const AttentionSpec& spec, const Sm80Parts& parts);
int64_t sm80_key_bytes(const AttentionSpec& spec, const Sm80Parts& parts);

}  // namespace tilewright
