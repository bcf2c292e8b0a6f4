// Products outside attention: out[…, m, n] = epilogue(Σ_k value(…, m, k) · value2(…, n, k)), in plain FMA.
//
//   a block of 256 threads = 64 rows × 64 columns of one outer index; 4 × 4 sums per thread in registers
//   A [16][64] and B [16][64] in shared memory, by depth; columns of a thread are 16 apart
//
// Step (made per kernel): rows, columns, depth and outer extents; Index as in loop.cuh.

template <class Step>
TW_DEVICE void loop_contract(const Args& args) {
  typedef typename Step::Acc T;
  constexpr i32 kSide = 64, kDepth = 16, kThreads = 256;
  // One element of padding: threads that write down a column meet different banks.
  constexpr i32 kStride = kSide + 1;
  const u32 a_tile = shared_base(), b_tile = a_tile + u32(kDepth * kStride * sizeof(T));
  const i64 rows = Step::rows(args), columns = Step::columns(args);
  const i32 depth = Step::depth(args);
  // Row blocks fastest: neighbours share B.
  i64 block = block_index();
  const i64 row_blocks = (rows + kSide - 1) / kSide, column_blocks = (columns + kSide - 1) / kSide;
  const i64 row = block % row_blocks * kSide;
  block /= row_blocks;
  const i64 column = block % column_blocks * kSide;
  const typename Step::Index outer = Step::index(args, block / column_blocks);

  const i32 down = thread_index() / 16 * 4, across = thread_index() % 16;
  T sums[4][4] = {};
  TW_NO_UNROLL
  for (i32 k = 0; k < depth; k += kDepth) {
    TW_NO_UNROLL
    for (i32 i = thread_index(); i < kSide * kDepth; i += kThreads) {
      const i32 d = i % kDepth, side = i / kDepth;
      typename Step::Index at = outer;
      Step::set_depth(at, k + d);
      T a = 0, b = 0;
      if (k + d < depth && row + side < rows) {
        Step::set_row(args, at, row + side);
        a = Step::value(args, at);
      }
      if (k + d < depth && column + side < columns) {
        Step::set_column(at, i32(column + side));
        b = Step::value2(args, at);
      }
      shared_set(a_tile + u32((d * kStride + side) * sizeof(T)), a);
      shared_set(b_tile + u32((d * kStride + side) * sizeof(T)), b);
    }
    block_sync();
    TW_NO_UNROLL
    for (i32 d = 0; d < kDepth; ++d) {
      T b[4];
      TW_UNROLL
      for (i32 c = 0; c < 4; ++c) b[c] = shared_get(T(), b_tile + u32((d * kStride + across + 16 * c) * sizeof(T)));
      TW_UNROLL
      for (i32 r = 0; r < 4; ++r) {
        const T a = shared_get(T(), a_tile + u32((d * kStride + down + r) * sizeof(T)));
        TW_UNROLL
        for (i32 c = 0; c < 4; ++c) sums[r][c] = real_fma(a, b[c], sums[r][c]);
      }
    }
    block_sync();
  }
  TW_UNROLL
  for (i32 r = 0; r < 4; ++r) {
    if (row + down + r >= rows) continue;
    typename Step::Index at = outer;
    Step::set_row(args, at, row + down + r);
    TW_UNROLL
    for (i32 c = 0; c < 4; ++c) {
      if (column + across + 16 * c >= columns) continue;
      Step::set_column(at, i32(column + across + 16 * c));
      store_element(Step::output(args, at), Step::epilogue(args, sums[r][c], at));
    }
  }
}
