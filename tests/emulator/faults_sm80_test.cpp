// The fault campaign of the mma.sync templates: every fault is shown by some legal execution, the clean kernels by
// none.
#include "compiler/plan_cuda_decode.h"
#include "tests/emulator/fault_campaign.h"

namespace tilewright::testing::sm80_faults {
namespace {

constexpr std::string_view kRecurrence = "recurrence.cuh", kTiles = "tensor_tiles.cuh", kMma = "mma_attention.cuh",
                           kPrefill = "sm80_prefill.cuh", kDecode = "decode.cuh", kRows = "computed_rows.cuh";
// Cases: causal with rows that attend nothing; five keys, no mask; f32 in two parts, one value too
// large for that; decode with several splits, no mask; decode with two
// tiles of packed rows, causal.
constexpr std::string_view kCausal = "causal", kShort = "short", kParts = "parts", kSplits = "splits",
                           kPacked = "packed", kComputed = "computed";

constexpr Fault kFaults[] = {
    // Layouts and fragments.
    {"chunks are added where they are XORed", kTiles, "(address ^ static_cast<u32>((chunks & kMask) << 4))",
     "(address + static_cast<u32>((chunks & kMask) << 4))", kCausal},
    {"groups of chunks half as far", kTiles, "((chunks & ~kMask) << 4)", "((chunks & ~kMask) << 3)", kCausal},
    {"rows of memory half as far apart", kTiles, "from += kStep * rows.row_stride",
     "from += kStep / 2 * rows.row_stride", kCausal},
    {"rows of a tile half as far apart", kTiles, "kStep * kChunks * 16)", "kStep * kChunks * 8)", kCausal},
    {"chunks of a row one too close", kTiles, "from + j * 8", "from + (j > 0 ? j - 1 : 0) * 8", kCausal},
    {"the halves of a pair change places", kTiles, "return pack_bf16(lo, hi)", "return pack_bf16(hi, lo)", kCausal},
    {"registers 1 and 2 of A change places", kMma, "offset(lane & 15, lane >> 4)",
     "offset((lane & 7) + (lane >> 4) * 8, lane >> 3 & 1)", kCausal},
    {"registers 1 and 2 of B change places", kMma, "offset((lane & 7) + (lane >> 4) * 8, lane >> 3 & 1)",
     "offset(lane & 15, lane >> 4)", kCausal},
    {"V is not transposed", kMma, "ldmatrix_x4_trans(b,", "ldmatrix_x4(b,", kCausal},
    {"registers 1 and 2 of V change places", kMma, "offset((lane & 7) + (lane >> 3 & 1) * 8, lane >> 4)",
     "offset((lane & 7) + (lane >> 4) * 8, lane >> 3 & 1)", kCausal},
    {"keys of a tile half as far apart", kMma, "j * kKeyPartBytes + n * 16", "j * kKeyPartBytes + n * 8", kCausal},
    {"weights of the wrong keys", kMma, "p[m][2 * k + i / 2]", "p[m][2 * k + i % 2]", kCausal},
    // The recurrence.
    {"the maximum of two lanes of four", kMma, "block_max = max_f32(block_max, shuffle_xor_f32(block_max, 2));", "",
     kCausal},
    {"the sum of two lanes of four", kMma, "return x + shuffle_xor_f32(x, 2);", "return x;", kCausal},
    {"sums are not rescaled", kMma, "if (!warp_any(changes)) return;", "if (warp_any(changes) || true) return;",
     kCausal},
    {"rows are rescaled by their neighbours", kMma, "*= alpha[m][i % 4 / 2]", "*= alpha[m][i % 2]", kCausal},
    {"l is not rescaled", kRecurrence, "row.l *= alpha;", "", kCausal},
    {"an infinite reference", kRecurrence, "reference = finite_or_zero(m);", "reference = m;", kCausal},
    {"an empty row is divided by zero", kRecurrence, "return row.l == 0.0f ? 0.0f : fma_f32(r,", "return fma_f32(r,",
     kCausal},
    // Bounds and masks. R16: a typo in a bounds check.
    {"R16: one key too many", kMma, "bool keep = kv <= last;", "bool keep = kv <= last + 1;", kShort},
    {"every block is full", kMma, "if (!full) {", "if (false) {", kCausal},
    {"keep of the other row", kMma, "Variant::keep(args, b, at[i % 4 / 2].h, at[i % 4 / 2].q,",
     "Variant::keep(args, b, at[i % 4 / 2].h, at[0].q,", kCausal},
    {"rows four apart", kPrefill, "m * 16 + half * 8 + g;\n        places", "m * 16 + half * 4 + g;\n        places",
     kCausal},
    {"V where K is", kPrefill, "b_fragment_transposed<kValueChunks>(stage + kKeyBytes * kParts, lane)",
     "b_fragment_transposed<kValueChunks>(stage, lane)", kCausal},
    // Copies and barriers. R15: races of shared memory.
    {"R15: the tile may not have arrived", kPrefill, "cp_async_wait<kStages - 2>();", "cp_async_wait<kStages - 1>();",
     kCausal},
    {"R15: no barrier after the wait", kPrefill, "cp_async_wait<kStages - 2>();\n        block_sync();",
     "cp_async_wait<kStages - 2>();", kCausal},
    {"R15: O over tiles that others read", kPrefill,
     "cp_async_wait<0>();\n    block_sync();\n    if constexpr (kMayBeUnfit)",
     "cp_async_wait<0>();\n    if constexpr (kMayBeUnfit)", kCausal},
    {"rows of O are read before they are written", kPrefill, "    warp_sync();\n    Output* output",
     "    Output* output", kCausal},
    {"the ring starts one stage apart", kPrefill, "u32 stage = ring, next_stage = ring;",
     "u32 stage = ring, next_stage = ring + kStageBytes;", kCausal},
    {"copies are not committed", kPrefill, "      cp_async_commit();\n", "", kCausal},
    {"the ring is not filled first", kPrefill, "i32 step = 1 - kStages;", "i32 step = 2 - kStages;", kCausal},
    {"numbers of any size are taken apart", kTiles, "return magnitude == 0 ||", "return true || magnitude == 0 ||",
     kParts},
    // Decode.
    {"R15: the warp's tile may not have arrived", kDecode, "cp_async_wait<kStages - 2>();",
     "cp_async_wait<kStages - 1>();", kSplits},
    {"R15: other lanes' copies", kDecode, "cp_async_wait<kStages - 2>();\n        warp_sync();",
     "cp_async_wait<kStages - 2>();", kSplits},
    {"Q before it is written", kDecode, "        block_sync();\n        Fragments::hold(query);",
     "        Fragments::hold(query);", kSplits},
    {"O over tiles that other warps read", kDecode, "    block_sync();\n    join_warps", "    join_warps", kSplits},
    {"states before they are written", kDecode, "    block_sync();\n    if (thread < kDecodeRows",
     "    if (thread < kDecodeRows", kSplits},
    {"shares before they are written", kDecode,
     "    block_sync();\n    TW_NO_UNROLL\n    for (int index = thread; index < "
     "kDecodeRows * kValueDim",
     "    TW_NO_UNROLL\n    for (int index = thread; index < kDecodeRows * kValueDim", kSplits},
    {"splits that run to the end", kDecode, "p.kv_end = static_cast<i32>(end < p.kv_len ? end : p.kv_len);",
     "p.kv_end = p.kv_len;", kSplits},
    {"warps that begin at the same tile", kDecode, "p.kv_begin + warp * kBlockKv", "p.kv_begin", kSplits},
    {"warps that load one another's tiles", kDecode, "ahead = next_tile(args, p, ahead + kStride);",
     "ahead = next_tile(args, p, ahead + kBlockKv);", kSplits},
    {"the last tile is full", kDecode, "bool all = kv + kBlockKv <= p.kv_end;", "bool all = true;", kSplits},
    {"one state for all splits", kDecode, "(row * splits + split) * 2", "(row * splits) * 2", kSplits},
    {"the sum of four splits", kDecode, "mask = 16; mask > 0; mask /= 2) joined.l",
     "mask = 2; mask > 0; mask /= 2) joined.l", kSplits},
    {"the first rows' queries in every tile", kDecode,
     "const RowPlace at = place_of_row(p, p.row_begin + row);\n      const Query*",
     "const RowPlace at = place_of_row(p, row);\n      const Query*", kPacked},
    {"keys of the first query alone", kDecode, "p.q_hi = (row_end - 1) / kGroup;", "p.q_hi = p.q_lo;", kPacked},
    // Rows that are computed before.
    {"keys of the group's number", kRows, "take_index(row, kv_heads) * Variant::kHeadGroup",
     "take_index(row, kv_heads)", kComputed},
    {"keys are numbered on from the queries", kRows, "    row -= queries;\n", "", kComputed},
    {"half of the columns", kRows, "d < Variant::kHeadDim; d += 32)\n        store_element",
     "d < Variant::kHeadDim / 2; d += 32)\n        store_element", kComputed},
    {"every second column", kRows, "i32 d = lane_index(); d < Variant::kHeadDim; d += 32)\n      store_element",
     "i32 d = 2 * lane_index(); d < Variant::kHeadDim; d += 64)\n      store_element", kComputed},
    {"sums of the first query", kRows, "Variant::query_sums(args, 0, b, h, q)", "Variant::query_sums(args, 0, b, h, 0)",
     kComputed},
    {"keys that are hidden from the group's first head are not written", kRows, "visible = visible | Variant::keep_kv",
     "visible = visible & Variant::keep_kv", kComputed},
    {"R16: one row too many", kRows, "if (row >= batch * kv_heads * kv_len) return;",
     "if (row > batch * kv_heads * kv_len) return;", kComputed},
};

FaultCase make(std::string_view name) {
  CudaSchedule s;
  s.warps = 2;
  s.stages = 2;
  CaseOptions options;
  if (name == kCausal || name == kShort || name == kParts) {
    // 12 chunks a row, of which the last is not of the operand; rows before the first key.
    options = narrow({.heads = 1, .sq = 70, .sk = 55, .dqk = 88, .dv = 88, .mask = Mask::causal, .lse = true});
    s.kernel = CudaTemplate::sm80_prefill;
    s.block_q = 32;
    s.block_kv = 32;
    if (name == kParts) options = {.heads = 1, .sq = 40, .sk = 40, .dqk = 40, .dv = 40};
    if (name == kShort) options = narrow({.heads = 1, .sq = 9, .sk = 5, .dqk = 40, .dv = 40, .lse = true});
  } else {
    s.kernel = CudaTemplate::decode;
    s.block_q = kCudaDecodeRows;
    s.pack_gqa = 1;
    s.block_kv = 16;
    s.split_kv = 64;
    options = narrow({.heads = 3, .group = 3, .sq = 2, .sk = 305, .dqk = 40, .dv = 40, .lse = true});
    if (name == kComputed) {
      options = narrow({.heads = 6,
                        .group = 3,
                        .sq = 3,
                        .sk = 76,
                        .dqk = 40,
                        .dv = 40,
                        .mask = Mask::padding,
                        .query_rows = Rows::norm_rope,
                        .key_rows = Rows::norm_rope});
      return {subject(make_rounding_case(options), s, *parse_cuda_target("sm_80")), legal_executions()};
    }
    if (name == kPacked)
      options = narrow({.heads = 6, .group = 6, .sq = 5, .sk = 16, .dqk = 40, .dv = 40, .mask = Mask::causal});
  }
  std::mt19937_64 random(7);
  AttentionCase test = make_case(options, random);
  test.spec.weights = options.dtype;
  if (name == kParts) {
    test.spec.precision = PrecisionPolicy::f32_x3;
    s.products = 3;
    test.tensors[static_cast<size_t>(test.spec.value.tensor)].set(0, 1e30);
  }
  return {subject(std::move(test), s, *parse_cuda_target("sm_80")), legal_executions()};
}

class Sm80Faults : public ::testing::TestWithParam<std::string_view> {};

TEST_P(Sm80Faults, AreAllCaught) {
  FaultCase clean = make(GetParam());
  if (!HasFailure()) expect_all_caught(clean, kFaults, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Cases, Sm80Faults, ::testing::Values(kCausal, kShort, kParts, kSplits, kPacked, kComputed),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace tilewright::testing::sm80_faults
