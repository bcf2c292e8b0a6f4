// The generic template: a TileProgram op by op over tiles in shared memory. Obvious rather than fast.
//
//   one thread block = block_q query rows of one (b, h); steps of block_kv keys
//
//           Q [block_q, Σ head_dim]   K [block_kv, Σ head_dim]   V [block_kv, value_dim]     converted to Acc once, zeros
//   s, p …    [block_q, block_kv]     acc … [block_q, value_dim]   m, l … [block_q]           where keys are hidden
//
// Every op reads whole tiles and ends in a barrier, so that any order of ops is right. Rows are padded by one element:
// threads that walk down a column meet different banks. The two products hold 4 × 4 sums per thread in registers.

/// Row-major in shared memory; one column is a value per row and broadcasts along rows.
template <class T, i32 rows, i32 columns, i32 threads>
struct Tile {
  typedef T Element;
  static constexpr i32 kRows = rows, kColumns = columns, kThreads = threads;
  static constexpr i32 kStride = columns == 1 ? 1 : columns + 1;
  u32 address;
};

template <class Tile>
TW_DEVICE u32 tile_address(Tile tile, i32 row, i32 column) {
  return tile.address + u32(row * Tile::kStride + (Tile::kColumns == 1 ? 0 : column)) * u32(sizeof(typename Tile::Element));
}
template <class Tile>
TW_DEVICE typename Tile::Element tile_get(Tile tile, i32 row, i32 column) {
  return shared_get(typename Tile::Element(), tile_address(tile, row, column));
}
template <class Tile>
TW_DEVICE void tile_set(Tile tile, i32 row, i32 column, typename Tile::Element value) {
  shared_set(tile_address(tile, row, column), value);
}

/// The query rows of one thread block: blocks fastest, then h, then b.
struct QueryRows {
  i32 b, h, q_begin, q_end;
};
template <class Variant, i32 block_q>
TW_DEVICE QueryRows query_rows(const Args& args) {
  const i64 blocks = (Variant::q_len(args) + block_q - 1) / block_q, heads = Variant::heads(args);
  const i64 item = block_index(), row = item / blocks;
  const i32 q_begin = i32(item % blocks) * block_q;
  return {i32(row / heads), i32(row % heads), q_begin, int_min(q_begin + block_q, Variant::q_len(args))};
}

// Elementwise ops: dst = op(a, b); a column operand is broadcast.

struct MaxOp {
  template <class T>
  TW_DEVICE T apply(T a, T b) {
    return max_number(a, b);
  }
};
struct FiniteOrZeroOp {
  template <class T>
  TW_DEVICE T apply(T a, T) {
    return a == T(neg_inf()) ? T(0) : a;
  }
};
struct Exp2SubOp {
  template <class T>
  TW_DEVICE T apply(T a, T b) {
    return real_exp2(a - b);
  }
};
struct MulOp {
  template <class T>
  TW_DEVICE T apply(T a, T b) {
    return a * b;
  }
};
struct AddOp {
  template <class T>
  TW_DEVICE T apply(T a, T b) {
    return a + b;
  }
};
struct DivOrZeroOp {
  template <class T>
  TW_DEVICE T apply(T a, T b) {
    return b == 0 ? T(0) : a / b;
  }
};
/// A maximum in base 2 and a sum: the logsumexp in natural units.
struct Log2AddOp {
  template <class T>
  TW_DEVICE T apply(T max, T sum) {
    return sum == 0 ? T(neg_inf()) : real_fma(max, T(0.6931471805599453), real_log(sum));
  }
};

template <class Op, class D, class A, class B>
TW_DEVICE void tile_apply(D dst, A a, B b) {
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < D::kRows * D::kColumns; i += D::kThreads) {
    const i32 row = i / D::kColumns, column = i % D::kColumns;
    tile_set(dst, row, column, Op::apply(tile_get(a, row, column), tile_get(b, row, column)));
  }
  block_sync();
}
template <class D, class A, class B>
TW_DEVICE void tile_max(D dst, A a, B b) {
  tile_apply<MaxOp>(dst, a, b);
}
template <class D, class A>
TW_DEVICE void tile_finite_or_zero(D dst, A a) {
  tile_apply<FiniteOrZeroOp>(dst, a, a);
}
template <class D, class A, class B>
TW_DEVICE void tile_exp2_sub(D dst, A a, B b) {
  tile_apply<Exp2SubOp>(dst, a, b);
}
template <class D, class A, class B>
TW_DEVICE void tile_mul(D dst, A a, B b) {
  tile_apply<MulOp>(dst, a, b);
}
template <class D, class A, class B>
TW_DEVICE void tile_add(D dst, A a, B b) {
  tile_apply<AddOp>(dst, a, b);
}
template <class D, class A, class B>
TW_DEVICE void tile_div_or_zero(D dst, A a, B b) {
  tile_apply<DivOrZeroOp>(dst, a, b);
}
template <class D, class A, class B>
TW_DEVICE void tile_log2_add(D dst, A max, B sum) {
  tile_apply<Log2AddOp>(dst, max, sum);
}
template <class D>
TW_DEVICE void tile_fill(D dst, typename D::Element value) {
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < D::kRows * D::kColumns; i += D::kThreads)
    tile_set(dst, i / D::kColumns, i % D::kColumns, value);
  block_sync();
}

// Reductions along rows: one thread a row.

template <class D, class A>
TW_DEVICE void tile_row_max(D dst, A a) {
  TW_NO_UNROLL
  for (i32 row = thread_index(); row < A::kRows; row += A::kThreads) {
    typename A::Element best = neg_inf();
    TW_NO_UNROLL
    for (i32 column = 0; column < A::kColumns; ++column) best = max_number(best, tile_get(a, row, column));
    tile_set(dst, row, 0, best);
  }
  block_sync();
}
template <class D, class A>
TW_DEVICE void tile_row_sum(D dst, A a) {
  TW_NO_UNROLL
  for (i32 row = thread_index(); row < A::kRows; row += A::kThreads) {
    typename A::Element sum = 0;
    TW_NO_UNROLL
    for (i32 column = 0; column < A::kColumns; ++column) sum += tile_get(a, row, column);
    tile_set(dst, row, 0, sum);
  }
  block_sync();
}

// Memory to tiles. A warp takes a row at a time.

/// Rows past the block's end become zeros.
template <class Variant, class T>
TW_DEVICE void load_queries(const Args& args, const QueryRows& rows, T queries) {
  TW_NO_UNROLL
  for (i32 row = warp_index(); row < T::kRows; row += T::kThreads / 32) {
    const i32 q = rows.q_begin + row;
    i32 column = 0;
    for (i32 term = 0; term < Variant::kDotTerms; ++term) {
      typename Variant::RowSums sums = {0, 0};
      if (q < rows.q_end) sums = Variant::query_sums(args, term, rows.b, rows.h, q);
      TW_NO_UNROLL
      for (i32 d = lane_index(); d < Variant::head_dim(term); d += 32)
        tile_set(queries, row, column + d,
                 q < rows.q_end ? Variant::query_element(args, term, rows.b, rows.h, q, d, sums) : 0);
      column += Variant::head_dim(term);
    }
  }
  block_sync();
}

/// Keys kv_begin … kv_end - 1; rows past them and rows that keep_kv hides become zeros, and their memory is not touched.
template <class Variant, class K, class V>
TW_DEVICE void load_keys_and_values(const Args& args, const QueryRows& rows, i32 kv_begin, i32 kv_end, K keys, V values) {
  TW_NO_UNROLL
  for (i32 row = warp_index(); row < K::kRows; row += K::kThreads / 32) {
    const i32 kv = kv_begin + row;
    const bool visible = kv < kv_end && (!Variant::kHasKeepKv || Variant::keep_kv(args, rows.b, rows.h, kv));
    i32 column = 0;
    for (i32 term = 0; term < Variant::kDotTerms; ++term) {
      typename Variant::RowSums sums = {0, 0};
      if (visible) sums = Variant::key_sums(args, term, rows.b, rows.h, kv);
      TW_NO_UNROLL
      for (i32 d = lane_index(); d < Variant::head_dim(term); d += 32)
        tile_set(keys, row, column + d, visible ? Variant::key_element(args, term, rows.b, rows.h, kv, d, sums) : 0);
      column += Variant::head_dim(term);
    }
    TW_NO_UNROLL
    for (i32 d = lane_index(); d < Variant::kValueDim; d += 32)
      tile_set(values, row, d, visible ? Variant::value_element(args, rows.b, rows.h, kv, d) : 0);
  }
  block_sync();
}

// Products: 4 rows × 4 columns per thread and turn; the columns of a thread are a turn apart.

template <i32 size>
struct MicroTile {
  static constexpr i32 kSize = size < 4 ? size : 4;
};

/// dst[q, kv] = Σ_d Q[q, d] · K[kv, d], added to what is there where `adds`.
template <bool adds = false, class D, class Q, class K>
TW_DEVICE void tile_dot(D dst, Q queries, K keys) {
  typedef typename D::Element T;
  constexpr i32 kDown = MicroTile<D::kRows>::kSize, kAcross = MicroTile<D::kColumns>::kSize;
  constexpr i32 kTurn = D::kColumns / kAcross;
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < D::kRows / kDown * kTurn; i += D::kThreads) {
    const i32 row = i / kTurn * kDown, column = i % kTurn;
    T sums[kDown][kAcross] = {};
    TW_NO_UNROLL
    for (i32 d = 0; d < Q::kColumns; ++d) {
      T key[kAcross];
      TW_UNROLL
      for (i32 c = 0; c < kAcross; ++c) key[c] = tile_get(keys, column + c * kTurn, d);
      TW_UNROLL
      for (i32 r = 0; r < kDown; ++r) {
        const T query = tile_get(queries, row + r, d);
        TW_UNROLL
        for (i32 c = 0; c < kAcross; ++c) sums[r][c] = real_fma(query, key[c], sums[r][c]);
      }
    }
    TW_UNROLL
    for (i32 r = 0; r < kDown; ++r) {
      TW_UNROLL
      for (i32 c = 0; c < kAcross; ++c) {
        if constexpr (adds) sums[r][c] += tile_get(dst, row + r, column + c * kTurn);
        tile_set(dst, row + r, column + c * kTurn, sums[r][c]);
      }
    }
  }
  block_sync();
}

/// dst[q, d] = a[q, d] + Σ_kv P[q, kv] · V[kv, d]; `transposed`: P[kv, q].
template <bool transposed = false, class D, class A, class P, class V>
TW_DEVICE void tile_dot_value(D dst, A a, P weights, V values) {
  typedef typename D::Element T;
  constexpr i32 kDown = MicroTile<D::kRows>::kSize, kAcross = MicroTile<D::kColumns>::kSize;
  constexpr i32 kTurn = (D::kColumns + kAcross - 1) / kAcross;
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < D::kRows / kDown * kTurn; i += D::kThreads) {
    const i32 row = i / kTurn * kDown, column = i % kTurn;
    T sums[kDown][kAcross];
    // Past the last column nothing is read or written; it stands in for their values.
    i32 at[kAcross];
    TW_UNROLL
    for (i32 c = 0; c < kAcross; ++c) at[c] = int_min(column + c * kTurn, D::kColumns - 1);
    TW_UNROLL
    for (i32 r = 0; r < kDown; ++r) {
      TW_UNROLL
      for (i32 c = 0; c < kAcross; ++c) sums[r][c] = column + c * kTurn < D::kColumns ? tile_get(a, row + r, at[c]) : T(0);
    }
    TW_NO_UNROLL
    for (i32 kv = 0; kv < V::kRows; ++kv) {
      T value[kAcross];
      TW_UNROLL
      for (i32 c = 0; c < kAcross; ++c) value[c] = tile_get(values, kv, at[c]);
      TW_UNROLL
      for (i32 r = 0; r < kDown; ++r) {
        const T weight = transposed ? tile_get(weights, kv, row + r) : tile_get(weights, row + r, kv);
        TW_UNROLL
        for (i32 c = 0; c < kAcross; ++c) sums[r][c] = real_fma(weight, value[c], sums[r][c]);
      }
    }
    TW_UNROLL
    for (i32 r = 0; r < kDown; ++r) {
      TW_UNROLL
      for (i32 c = 0; c < kAcross; ++c)
        if (column + c * kTurn < D::kColumns) tile_set(dst, row + r, at[c], sums[r][c]);
    }
  }
  block_sync();
}

// What the spec says of each score. Places past the block's rows and keys get what the normaliser ignores, whatever the
// expressions would make of them.

template <class Variant, class D, class A>
TW_DEVICE void tile_map_score(const Args& args, const QueryRows& rows, i32 kv_begin, i32 kv_end, D dst, A a) {
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < D::kRows * D::kColumns; i += D::kThreads) {
    const i32 row = i / D::kColumns, column = i % D::kColumns;
    const i32 q = rows.q_begin + row, kv = kv_begin + column;
    typename D::Element score = Variant::kSoftmax ? neg_inf() : 0.0f;
    if (q < rows.q_end && kv < kv_end) score = Variant::score(args, tile_get(a, row, column), rows.b, rows.h, q, kv);
    tile_set(dst, row, column, score);
  }
  block_sync();
}
template <class Variant, class D, class A>
TW_DEVICE void tile_mask(const Args& args, const QueryRows& rows, i32 kv_begin, i32 kv_end, D dst, A a,
                         typename D::Element hidden) {
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < D::kRows * D::kColumns; i += D::kThreads) {
    const i32 row = i / D::kColumns, column = i % D::kColumns;
    const i32 q = rows.q_begin + row, kv = kv_begin + column;
    const bool keep = q < rows.q_end && kv < kv_end && Variant::keep(args, rows.b, rows.h, q, kv);
    tile_set(dst, row, column, keep ? tile_get(a, row, column) : hidden);
  }
  block_sync();
}
template <class Variant, class D, class A>
TW_DEVICE void tile_map_weight(const Args& args, const QueryRows& rows, i32 kv_begin, i32 kv_end, D dst, A a) {
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < D::kRows * D::kColumns; i += D::kThreads) {
    const i32 row = i / D::kColumns, column = i % D::kColumns;
    const i32 q = rows.q_begin + row, kv = kv_begin + column;
    typename D::Element weight = 0;
    if (q < rows.q_end && kv < kv_end)
      weight = tile_get(a, row, column) * Variant::weight_factor(args, rows.b, rows.h, q, kv);
    tile_set(dst, row, column, weight);
  }
  block_sync();
}
/// In base-2 units.
template <class Variant, class D>
TW_DEVICE void tile_load_sink(const Args& args, const QueryRows& rows, D dst) {
  typedef typename D::Element T;
  TW_NO_UNROLL
  for (i32 row = thread_index(); row < D::kRows; row += D::kThreads) {
    const i32 q = rows.q_begin + row;
    tile_set(dst, row, 0,
             q < rows.q_end ? T(Variant::sink(args, rows.b, rows.h, q)) * T(1.4426950408889634) : T(neg_inf()));
  }
  block_sync();
}

// Tiles to memory.

template <class Variant, class A>
TW_DEVICE void store_output(const Args& args, const QueryRows& rows, A a) {
  const i64 stride = Variant::output_stride(args);
  TW_NO_UNROLL
  for (i32 i = thread_index(); i < A::kRows * A::kColumns; i += A::kThreads) {
    const i32 row = i / A::kColumns, column = i % A::kColumns, q = rows.q_begin + row;
    if (q < rows.q_end)
      store_element(Variant::output(args, rows.b, rows.h, q) + column * stride, tile_get(a, row, column));
  }
}
template <class Variant, class A>
TW_DEVICE void store_lse(const Args& args, const QueryRows& rows, A a) {
  TW_NO_UNROLL
  for (i32 row = thread_index(); row < A::kRows; row += A::kThreads) {
    const i32 q = rows.q_begin + row;
    if (q < rows.q_end) store_element(Variant::logsumexp(args, rows.b, rows.h, q), tile_get(a, row, 0));
  }
}
