// What the ahead-of-time tier executes per instruction set: lane programs and ops on tiles, in Highway.
#pragma once

#include <cstdint>
#include <vector>

#include "ir/target.h"
#include "ir/tile_program.h"
#include "runtime/tier/lane_program.h"

namespace tilewright::tier {

/// Rows of tiles are whole multiples of this many elements.
constexpr int64_t kTileUnit = 16;

template <class T>
struct TileOps {
  /// c[m, n] (+)= Σ_k a[m, k] · b[k, n] in order of k; `columns` a multiple of kTileUnit. `add`: to what c holds, at
  /// the end. Rows are lda, ldb, ldc elements apart.
  void (*multiply)(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t lda, const T* b, int64_t ldb, T* c,
                   int64_t ldc, bool add);
  /// c[m, n] (+)= Σ_k a[m, k] · b[n, k], lanes along k: for so few rows that b is not worth transposing.
  void (*multiply_nt)(int64_t rows, int64_t columns, int64_t depth, const T* a, int64_t lda, const T* b, int64_t ldb,
                      T* c, int64_t ldc, bool add);
  /// dst[i] = op(a[i], b[i]) for the elementwise TileOps, `count` a multiple of kTileUnit; an operand that is `one`
  /// serves all i. dst may be a or b.
  void (*combine)(TileOp op, T* dst, const T* a, bool a_one, const T* b, bool b_one, int64_t count, T literal);
  /// row_sum or row_max (which ignores NaN).
  T (*fold)(TileOp op, const T* a, int64_t count);
};

struct IsaOps {
  /// Runs `code` on `lanes` lanes, kEqualLanes or kLanes.
  void (*execute)(const std::vector<Instr>& code, const LaneContext& context, std::byte* registers, int64_t lanes);
  TileOps<float> f32;
  TileOps<double> f64;

  template <class T>
  const TileOps<T>& tiles() const {
    if constexpr (sizeof(T) == 4)
      return f32;
    else
      return f64;
  }
};

/// Of the level, AVX2 at least; this machine must have it.
const IsaOps& isa_ops(CpuIsa isa);

// One per instruction set, put together by isa_ops.
using Execute = decltype(IsaOps::execute);
Execute execute_of(CpuIsa isa);
template <class T>
TileOps<T> tile_ops_of(CpuIsa isa);

}  // namespace tilewright::tier
