// The fault campaign of the sm_90a prefill: every fault is shown by some legal execution, the clean kernels by none.
#include <map>

#include "tests/emulator/fault_campaign.h"
#include "tests/emulator/sm90_case.h"

namespace tilewright::testing::sm90_faults {
namespace {

constexpr std::string_view kTiles = "sm90_tiles.cuh", kPipeline = "sm90_pipeline.cuh", kSoftmax = "sm90_softmax.cuh",
                           kFinish = "sm90_finish.cuh", kPrefill = "sm90_prefill.cuh";
// Cases: causal, two boxes of columns; hidden keys; several items per thread block; no turns, so that less is ordered;
// scores that load a bias each.
constexpr std::string_view kCausal = "causal", kPadding = "padding", kPersistent = "persistent", kWide = "wide",
                           kBias = "bias";

constexpr Fault kFaults[] = {
    // Descriptors and fragments.
    {"groups of eight rows 512 bytes apart", kTiles, "u64>(1024 >> 4)", "u64>(512 >> 4)", kCausal},
    {"descriptors without the swizzle", kTiles, "static_cast<u64>(1) << 62", "static_cast<u64>(0) << 62", kCausal},
    {"boxes of V as far apart as those of Q", kTiles, "* 2048, Layout::kKvBox)", "* 2048, Layout::kQueryBox)", kCausal},
    {"boxes of K as far apart as those of Q", kTiles, "keys + box * Layout::kKvBox", "keys + box * Layout::kQueryBox",
     kCausal},
    {"boxes of Q as far apart as those of K", kTiles, "query + box * Layout::kQueryBox", "query + box * Layout::kKvBox",
     kCausal},
    {"steps of V by eight keys", kTiles, "static_cast<u32>(step) * 2048", "static_cast<u32>(step) * 1024", kPersistent},
    {"steps of 16 keys 1024 bytes apart", kTiles, "b + 128 * i", "b + 64 * i", kCausal},
    {"steps of 16 columns 16 bytes apart", kTiles, "a + 2 * i, b + 2 * i", "a + 2 * i, b + i", kCausal},
    {"scores start from the last ones", kTiles, "step > 0, kSteps", "true, kSteps", kCausal},
    {"the halves of a pair change places", kTiles, "return pack_bf16(low, high)", "return pack_bf16(high, low)",
     kCausal},
    {"registers written without wgmma_fence", kTiles, "  wgmma_fence();\n", "", kCausal},
    {"a warpgroup reads the queries of another", kPrefill, "query = base + group * Layout::kWarpgroupRows",
     "query = base + (group ^ 1) * Layout::kWarpgroupRows", kCausal},
    // Bytes and boxes.
    {"half the bytes of K expected", kPrefill, "mbarrier_expect(barrier, Layout::kKeyBytes)",
     "mbarrier_expect(barrier, Layout::kKeyBytes / 2)", kCausal},
    {"V from eight rows further", kPrefill,
     "block.block() * Layout::kBlockKv, box * Layout::kBoxColumns);\n    }\n    values",
     "block.block() * Layout::kBlockKv + 8, box * Layout::kBoxColumns);\n    }\n    values", kCausal},
    {"every box of K from the first columns", kPrefill,
     "block.block() * Layout::kBlockKv, box * Layout::kBoxColumns);\n    }\n    keys",
     "block.block() * Layout::kBlockKv, 0);\n    }\n    keys", kCausal},
    {"one box of K is not loaded", kPrefill,
     "for (int box = 0; box < Layout::kHeadBoxes; ++box)\n        Variant::load_key",
     "for (int box = 0; box < 1; ++box)\n        Variant::load_key", kCausal},
    {"the tile of the other stage", kPrefill,
     "Layout::kValues + values.stage * Layout::kValueBytes;\n      mbarrier_wait",
     "Layout::kValues + (values.stage ^ 1) * Layout::kValueBytes;\n      mbarrier_wait", kCausal},
    // Phases and barriers.
    {"phases never change", kPipeline, "phase ^= 1;", "phase ^= 0;", kCausal},
    {"one arrival frees a stage of K", kPipeline, "mbarrier_init(barriers.key_empty(stage), kConsumerWarps)",
     "mbarrier_init(barriers.key_empty(stage), 1)", kCausal},
    {"two rings share barriers", kPipeline, "base + 8 * (2 + 2 * kStages + stage)", "base + 8 * (2 + kStages + stage)",
     kCausal},
    {"the wrong parity of V", kPrefill, "mbarrier_wait(barriers.value_full(values.stage), values.phase)",
     "mbarrier_wait(barriers.value_full(values.stage), values.phase ^ 1)", kCausal},
    {"the wrong parity of Q's ring", kPrefill, "mbarrier_wait(barriers.query_empty(), query_phase ^ 1)",
     "mbarrier_wait(barriers.query_empty(), query_phase)", kPersistent},
    // Missing waits: R15, races of shared memory.
    {"R15: scores of K that has not arrived", kPrefill,
     "mbarrier_wait(barriers.key_full(keys.stage), keys.phase);\n      block =", "block =", kCausal},
    {"R15: products with V that has not arrived", kPrefill,
     "mbarrier_wait(barriers.value_full(values.stage), values.phase);", "", kCausal},
    {"R15: scores of Q that has not arrived", kPrefill, "mbarrier_wait(barriers.query_full(), query_phase);", "",
     kCausal},
    {"R15: K is overwritten while it is read", kPrefill,
     "mbarrier_wait(barriers.key_empty(keys.stage), keys.phase ^ 1);\n      "
     "sm90_describe(barriers.key_block(keys.stage), block, item);\n      mbarrier_expect",
     "sm90_describe(barriers.key_block(keys.stage), block, item);\n      mbarrier_expect", kCausal},
    {"R15: V is overwritten while it is read", kPrefill,
     "mbarrier_wait(barriers.value_empty(values.stage), values.phase ^ 1);\n      if constexpr", "if constexpr",
     kCausal},
    {"R15: Q is overwritten while it is read", kPrefill, "mbarrier_wait(barriers.query_empty(), query_phase ^ 1);", "",
     kPersistent},
    {"R15: a warp releases what its lanes still read", kPrefill, "    warp_sync();  // what", "    // what", kWide},
    {"scores are read before they are complete", kPrefill, "wgmma_wait<1>();", "wgmma_wait<2>();", kCausal},
    {"sums are scaled before they are complete", kPrefill,
     "wgmma_wait<0>();\n      register_fence(o);\n      if (pending)", "register_fence(o);\n      if (pending)",
     kCausal},
    // Early releases.
    {"K is released before its scores are complete", kPrefill,
     "wgmma_wait<1>();\n      register_fence(s);\n      release(barriers.key_empty(keys.stage));",
     "release(barriers.key_empty(keys.stage));\n      wgmma_wait<1>();\n      register_fence(s);", kCausal},
    {"V is released before its product is complete", kPrefill, "turns.pass();\n      pending = true;",
     "turns.pass();\n      release(barriers.value_empty(values.stage));\n      values.advance();", kCausal},
    {"Q is released before O is stored", kPrefill,
     "    sm90_finish<Variant, Layout>(args, item, rows, o, q_len, output_map, base);\n    "
     "release(barriers.query_empty());",
     "    release(barriers.query_empty());\n    sm90_finish<Variant, Layout>(args, item, rows, o, q_len, output_map, "
     "base);",
     kPersistent},
    // Turns and registers.
    {"a turn is passed to oneself", kPrefill, "named_arrive(1 + (group + 1) % Layout::kConsumers, 256)",
     "named_arrive(1 + group, 256)", kCausal},
    {"a turn of 128 threads", kPrefill, "named_sync(1 + group, 256)", "named_sync(1 + group, 128)", kCausal},
    {"more registers than there are", kPrefill, "registers_increase<Layout::kConsumerRegisters>",
     "registers_increase<248>", kCausal},
    // Softmax.
    {"columns of the wrong sum", kSoftmax, "const i32 kv = first + i / 4 * 8 + (i & 1);",
     "const i32 kv = first + i / 4 * 8 + (i & 2);", kCausal},
    {"the next scores do not come first", kSoftmax, "      sm90_turn<kPart>(s);\n", "", kBias},
    {"maxima over two lanes", kSoftmax, "return max_f32(v, shuffle_xor_f32(v, 2))", "return v", kCausal},
    {"row sums over two lanes", kSoftmax, "return v + shuffle_xor_f32(v, 2)", "return v", kCausal},
    {"both rows scaled by the first one's factor", kPrefill, "o[i] *= alpha[(i & 2) / 2]", "o[i] *= alpha[0]", kCausal},
    {"masked blocks taken for whole ones", kPipeline, "(full ? kFull : 0)", "kFull", kCausal},
    // Tails: R16, a typo in a bounds check.
    {"R16: one key too many", kSoftmax, "bool keep = kv < kv_len;", "bool keep = kv <= kv_len;", kPersistent},
    {"R16: the last block of keys is left out", kPrefill, "(end + Layout::kBlockKv - 1) / Layout::kBlockKv",
     "(end) / Layout::kBlockKv", kPersistent},
    {"R16: the last block of queries is left out", kPipeline, "(Variant::q_len(args) + Layout::kBlockQ - 1)",
     "Variant::q_len(args)", kCausal},
    {"heads of another batch", kPipeline, "static_cast<i32>(head % heads)", "static_cast<i32>(head / heads)", kCausal},
    // Hidden keys.
    {"rows that are hidden are not cleared", kPrefill, "hidden = hidden || !Variant::keep_kv(args, item.b, item.h, kv)",
     "hidden = hidden", kPadding},
    {"cleared rows without a proxy fence", kPrefill, "      fence_proxy_async();\n", "", kPadding},
    {"R15: V is passed on while its rows are cleared", kPrefill, "    warp_sync();  // rows", "    // rows", kPadding},
    {"half of a row is cleared", kTiles, "row * 128 + chunk * 16", "row * 128 + chunk / 2 * 16", kPadding},
    {"the clearing warp does not wait for V", kPrefill,
     "mbarrier_wait(barriers.value_loaded(values.stage), values.phase);", "", kPadding},
    {"a cleared tile is not passed on", kPrefill, "if (lane == 0) mbarrier_arrive(barriers.value_full(values.stage));",
     "", kPadding},
    // The end of an item.
    {"O is stored without the swizzle", kFinish, "((row & 7) << 4) + ", "", kCausal},
    {"O is stored without a proxy fence", kFinish, "    fence_proxy_async();\n", "", kCausal},
    {"O is stored before all warps have written it", kFinish, "    named_sync(4 + group, 128);\n    if (thread == 0) {",
     "    if (thread == 0) {", kCausal},
    {"the slab is reused while O is stored from it", kFinish, "      tma_store_wait_read<0>();\n", "", kPersistent},
    {"O of the first warpgroup twice", kFinish, "item.q_begin + static_cast<i32>(group) * Layout::kWarpgroupRows",
     "item.q_begin", kCausal},
};

FaultCase make(std::string_view name) {
  CaseOptions options = narrow({.heads = 2, .sq = 140, .sk = 150, .dqk = 96, .dv = 72, .lse = true});
  CudaTarget target = kSm90;
  if (name == kCausal) options.mask = Mask::causal;
  if (name == kPadding) {
    options.mask = Mask::padding;
    options.batch = 2;
  }
  if (name == kWide) options.dqk = 136;
  if (name == kBias) options.score = Score::bias;
  if (name == kPersistent) {
    options.heads = 3;
    target.multiprocessors = 2;
  }
  return {subject(make_rounding_case(options), sm90_schedule(name == kPersistent ? 80 : 32), target),
          sm90_executions(2)};
}

class Sm90Faults : public ::testing::TestWithParam<std::string_view> {};

TEST_P(Sm90Faults, AreAllCaught) {
  FaultCase clean = make(GetParam());
  if (!HasFailure()) expect_all_caught(clean, kFaults, GetParam());
}

INSTANTIATE_TEST_SUITE_P(Cases, Sm90Faults, ::testing::Values(kCausal, kPadding, kPersistent, kWide, kBias),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace tilewright::testing::sm90_faults
