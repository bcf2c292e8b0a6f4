// Tiles of 16-bit elements in shared memory: where their chunks lie, and how rows of Q, K and V get there.
//
// A tile is rows of 16-byte chunks. ldmatrix reads one chunk of each of eight rows at a time, which must lie in eight
// different groups of four banks: the chunk index is XORed with bits of the row, as many as keep it within the row.
//
//   8n chunks a row    c ^ (row & 7)            one row spans all banks
//   8n + 4             c ^ (row >> 1 & 3)       two rows do
//   4n + 2             c ^ (row >> 2 & 1)       four rows do
//
// The number of chunks is even (columns are padded to 16) and tiles begin at multiples of 128 bytes.

template <int kChunks>
struct SharedTile {
  static constexpr int kBits = kChunks % 8 == 0 ? 3 : kChunks % 4 == 0 ? 2 : 1;
  static constexpr int kMask = (1 << kBits) - 1;
  static constexpr int kRowBytes = kChunks * 16;

  TW_DEVICE u32 offset(int row, int chunk) {
    return static_cast<u32>(row * kRowBytes + ((chunk ^ (row >> (3 - kBits) & kMask)) << 4));
  }
  /// The address `chunks` (a constant) further in the row of `address`: even from a chunk below 2, any number from chunk 0.
  TW_DEVICE u32 advance(u32 address, int chunks) {
    return (address ^ static_cast<u32>((chunks & kMask) << 4)) + static_cast<u32>((chunks & ~kMask) << 4);
  }
};

TW_DEVICE constexpr int padded_columns(int columns) { return (columns + 15) / 16 * 16; }

/// What a tile holds of an operand: f32 is taken apart into bf16 parts, one tile each.
template <class T>
struct TileElement {
  typedef T Type;
  static constexpr bool kSplit = false;
};
template <>
struct TileElement<float> {
  typedef BF16 Type;
  static constexpr bool kSplit = true;
};

TW_DEVICE u32 pack_pair(BF16, float lo, float hi) { return pack_bf16(lo, hi); }
TW_DEVICE u32 pack_pair(F16, float lo, float hi) { return pack_f16(lo, hi); }
TW_DEVICE float unpack_low(BF16, u32 pair) { return bf16_to_f32(static_cast<u16>(pair)); }
TW_DEVICE float unpack_low(F16, u32 pair) { return f16_to_f32(static_cast<u16>(pair)); }
TW_DEVICE float unpack_high(BF16, u32 pair) { return bf16_to_f32(static_cast<u16>(pair >> 16)); }
TW_DEVICE float unpack_high(F16, u32 pair) { return f16_to_f32(static_cast<u16>(pair >> 16)); }
TW_DEVICE void mma(BF16, float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_m16n8k16_bf16(c, a, b0, b1); }
TW_DEVICE void mma(F16, float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) { mma_m16n8k16_f16(c, a, b0, b1); }

/// Two floats as `kParts` pairs, each the nearest of what the ones before it left.
template <class Element, int kParts>
TW_DEVICE void split_pair(float lo, float hi, u32 (&parts)[kParts]) {
  TW_UNROLL
  for (int p = 0; p < kParts; ++p) {
    parts[p] = pack_pair(Element{}, lo, hi);
    lo -= unpack_low(Element{}, parts[p]);
    hi -= unpack_high(Element{}, parts[p]);
  }
}

/// Whether rows at `base` and multiples of `row_stride` elements from it can be moved 16 bytes at a time.
template <class T>
TW_DEVICE bool moves_by_vectors(const T* base, i64 row_stride, i64 stride) {
  return stride == 1 && row_stride % (16 / static_cast<i64>(sizeof(T))) == 0 && (reinterpret_cast<u64>(base) & 15) == 0;
}

/// Rows of an operand in memory: element (row, d) is data[row·row_stride + d·stride].
template <class T>
struct Rows {
  const T* data;
  i64 row_stride, stride;
  bool vectors;  ///< they move 16 bytes at a time
};
template <class T>
TW_DEVICE Rows<T> make_rows(const T* data, i64 row_stride, i64 stride) {
  return Rows<T>{data, row_stride, stride, moves_by_vectors(data, row_stride, stride)};
}

/// Fills a tile of kRows × kColumns by kThreads threads from rows `begin` on. Rows that is_valid(row of the tile) denies
/// are not read but zeros, as are columns from kColumns on. By cp.async where rows are vectors, else complete on return.
///
/// A power of two of threads shares a row, so that a thread walks down one pointer, a fixed number of rows at a time,
/// and asks once for all its chunks of a row.
template <int kRows, int kColumns, int kThreads, class T, class IsValid>
TW_DEVICE void load_tile(u32 tile, i32 thread, const Rows<T>& rows, i32 begin, const IsValid& is_valid) {
  constexpr int kChunks = padded_columns(kColumns) / 8;
  if (kColumns % 8 == 0 && rows.vectors) {
    constexpr int kSharers = 1 << SharedTile<kChunks>::kBits, kStep = kThreads / kSharers;
    const i32 chunk = thread % kSharers;
    i32 row = thread / kSharers;
    const T* from = rows.data + (begin + row) * rows.row_stride + chunk * 8;
    u32 to = tile + SharedTile<kChunks>::offset(row, chunk);  // steps of 8 rows leave the XOR as it is
    TW_UNROLL
    for (int i = 0; i < (kRows + kStep - 1) / kStep; ++i) {
      if (kRows % kStep != 0 && row >= kRows) break;
      const bool valid = is_valid(row);
      TW_UNROLL
      for (int j = 0; j < kChunks; j += kSharers)
        cp_async_16(to + static_cast<u32>(j * 16), from + j * 8,
                    valid && (kColumns % 16 == 0 || chunk + j < kColumns / 8));
      row += kStep;
      to = kStep % 8 == 0 ? to + static_cast<u32>(kStep * kChunks * 16) : tile + SharedTile<kChunks>::offset(row, chunk);
      from += kStep * rows.row_stride;
    }
  } else {
    TW_NO_UNROLL
    for (int index = thread; index < kRows * kChunks * 8; index += kThreads) {
      const int row = index / (kChunks * 8), column = index % (kChunks * 8);
      u16 bits = 0;
      if (is_valid(row) && column < kColumns)
        bits = rows.data[(begin + row) * rows.row_stride + column * rows.stride].bits;
      st_shared_u16(tile + SharedTile<kChunks>::offset(row, column / 8) + static_cast<u32>(column % 8 * 2), bits);
    }
  }
}

/// Zero, or a magnitude in [2^-103, 2^58): parts are normal, and sums of their products do not overflow where those of
/// the whole operands do not. Infinities and NaN are outside.
TW_DEVICE bool may_be_split(float x) {
  const u32 magnitude = f32_bits(x) & 0x7fffffffu;
  return magnitude == 0 || (magnitude >= (127u - 103) << 23 && magnitude < (127u + 58) << 23);
}

/// load_tile of f32: fills kParts tiles, kPartBytes apart, with the bf16 parts of the elements. Complete on return.
/// `unfit` becomes true where an element may not be split.
template <int kRows, int kColumns, int kThreads, int kParts, int kPartBytes, class IsValid>
TW_DEVICE void load_split_tile(u32 tile, i32 thread, const Rows<float>& rows, i32 begin, const IsValid& is_valid,
                               bool& unfit) {
  constexpr int kPairs = padded_columns(kColumns) / 2;
  TW_NO_UNROLL
  for (int index = thread; index < kRows * kPairs; index += kThreads) {
    const int row = index / kPairs, column = index % kPairs * 2;
    const float* from = rows.data + (begin + row) * rows.row_stride + column * rows.stride;
    const bool valid = is_valid(row);
    const float lo = valid && column < kColumns ? from[0] : 0.0f;
    const float hi = valid && column + 1 < kColumns ? from[rows.stride] : 0.0f;
    unfit = unfit | !may_be_split(lo) | !may_be_split(hi);
    u32 parts[kParts];
    split_pair<BF16, kParts>(lo, hi, parts);
    TW_UNROLL
    for (int p = 0; p < kParts; ++p)
      st_shared_u32(tile + static_cast<u32>(p * kPartBytes) + SharedTile<kPairs / 4>::offset(row, column / 8) +
                        static_cast<u32>(column % 8 * 2),
                    parts[p]);
  }
}
