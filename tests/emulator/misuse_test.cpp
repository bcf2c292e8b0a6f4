// Every check of the emulator fires, with its sentence, and a kernel beside it that does it right passes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "emulator/tensor_map.h"
#include "tests/emulator/kernel.h"

namespace tilewright::testing {
namespace {

using ::testing::HasSubstr;

struct Misuse {
  std::string name;
  std::string code;
  std::string sentence;  ///< part of what is said; empty: nothing is wrong
  bool late = false;     ///< asynchronous engines
};

/// One kernel that does what its first argument says: compiled once for all cases.
EmulatedModule build_all(const std::vector<Misuse>& cases, CudaPrimitives primitives, const std::string& before = {}) {
  std::string body = R"(
    const i64 chosen = reinterpret_cast<i64>(args.tensors[0]);
    const i32 t = thread_index();
    const u32 base = shared_base();
    float* const in = static_cast<float*>(args.tensors[1]);
    float* const out = static_cast<float*>(args.tensors[2]);
)";
  for (size_t i = 0; i < cases.size(); ++i) body += fmt::format("    if (chosen == {}) {{ {} }}\n", i, cases[i].code);
  return build({body, primitives, 3, primitives == CudaPrimitives::sm90 ? 1 : 0, before});
}

void check_all(const std::vector<Misuse>& cases, CudaPrimitives primitives, int64_t threads,
               const std::string& before = {}) {
  const EmulatedModule module = build_all(cases, primitives, before);
  alignas(128) static float memory[4 * 4096];  // with gaps before and behind both
  float *const in = memory + 1024, *const out = memory + 2 * 4096 + 1024;
  TensorMapGeometry geometry;
  geometry.base = in;
  geometry.extents = {64, 64};
  geometry.stride_bytes = {128};
  geometry.box = {64, 64};
  std::vector<EmulatedTensorMap> maps;
  if (primitives == CudaPrimitives::sm90) maps.push_back(*encode_tensor_map(geometry));
  for (size_t i = 0; i < cases.size(); ++i) {
    EmulatorOptions options;
    options.late_copies = options.late_tma = options.late_wgmma = cases[i].late;
    options.buffers = {{in, 4 * 4096, false}, {out, 4 * 4096, true}};
    const std::string said = run(module, {threads, 32768}, {reinterpret_cast<const void*>(i), in, out}, options, maps);
    if (cases[i].sentence.empty())
      EXPECT_EQ(said, "") << cases[i].name;
    else
      EXPECT_THAT(said, HasSubstr(cases[i].sentence)) << cases[i].name;
  }
}

TEST(Misuse, OfThreadsAndSharedMemory) {
  const std::vector<Misuse> cases = {
      {"a warp that parts", "if (t < 16) warp_any(true); else warp_sync();",
       "bar.warp.sync, while other threads of its warp or warpgroup are at vote.sync"},
      {"a lane that left", "if (t == 31) return; shuffle_u32(1, 0);",
       "a thread ends while its warp waits at shfl.sync"},
      {"a lane that left first", "if (t == 0) return; warp_sync();",
       "deadlock in block 0: 31 threads (first 1) wait at bar.warp.sync"},
      {"a barrier that one misses", "if (t != 40) block_sync();",
       "deadlock in block 0: 63 threads (first 0) wait at bar.sync of barrier (0)"},
      {"a named barrier of two minds", "if (t < 32) named_sync(3, 64); else named_sync(3, 32);",
       "bar.sync of barrier 3 for 32 threads, while others wait there for 64"},
      {"a barrier half reached", "if (t < 32) named_arrive(2, 64);", "32 of 64 threads have arrived at barrier 2"},
      {"barrier 16", "named_sync(16, 64);", "bar.sync of barrier 16, and there are 0 to 15"},
      {"a barrier of 33", "named_sync(1, 33);", "for 33 threads, which must be a multiple of 32 up to 64"},
      {"beyond shared memory", "ld_shared_u32(base + 32768);", "ld.shared reads 4 bytes of shared memory at 33792"},
      {"below shared memory", "st_shared_u32(0, 1);", "st.shared writes 4 bytes of shared memory at 0"},
      {"misaligned", "ld_shared_f64(base + 4);", "which is no multiple of them"},
      {"a write that another reads", "if (t == 0) st_shared_u32(base, 1); if (t == 1) ld_shared_u32(base);",
       "race: ld.shared reads at 1024, which thread 0 wrote"},
      {"a read that another overwrites", "if (t == 0) ld_shared_u32(base); if (t == 33) st_shared_u32(base, 1);",
       "race: st.shared writes at 1024, which thread 0 read"},
      {"two writers", "st_shared_u32(base, t);", "race: st.shared writes at 1024, which thread 0 wrote"},
      {"halves of a word", "st_shared_u16(base + 2 * t, t);", ""},
      {"through a barrier", "st_shared_u32(base + 4 * t, t); block_sync(); ld_shared_u32(base + 4 * (63 - t));", ""},
      {"through a warp barrier only",
       "st_shared_u32(base + 4 * t, t); warp_sync(); ld_shared_u32(base + 4 * (63 - t));", "race: "},
      {"through half a named barrier", "if (t < 32) { st_shared_u32(base, 1 + 0 * t); } ", "race: st.shared writes"},
      {"arrive, then sync",
       "if (t == 0) st_shared_u32(base, 1); if (t < 32) named_arrive(1, 64); else { named_sync(1, 64); "
       "ld_shared_u32(base); }",
       ""},
  };
  check_all(cases, CudaPrimitives::base, 64);
}

TEST(Misuse, OfGlobalMemoryAndTheLanguage) {
  const std::string before = R"(
    TW_DEVICE i32 opaque(i32 x) { return x + static_cast<i32>(thread_index()) * 0; }
    struct Table { i32 words[4]; };
  )";
  const std::vector<Misuse> cases = {
      {"a load beyond its buffer", "out[t] = in[4096 + t];", "a load of 4 bytes at"},
      {"a load before its buffer", "out[t] = in[opaque(-1)];", "outside every buffer"},
      {"a store to an input", "in[t] = 1;", "writes to a buffer that is only read"},
      {"a store beyond", "out[4096] = 1;", "a store of 4 bytes at"},
      {"a sum beyond", "out[4096] += 1;", "a load of 4 bytes at"},
      {"a primitive's load", "out[0] = ld_global_nc_f32(in + 4096);", "ld.global of 4 bytes at"},
      {"a primitive's alignment", "ld_global_vec4(in + 1);", "which is no multiple of them"},
      {"a copy", "*reinterpret_cast<Vec4*>(out) = *reinterpret_cast<const Vec4*>(in + 4096);", "outside every buffer"},
      {"inside", "out[t] = in[4095 - t];", ""},
      {"overflow", "out[0] = static_cast<float>(opaque(2147483647) + opaque(1));",
       "signed overflow of a sum at part 0:"},
      {"shift", "out[0] = static_cast<float>(1u << opaque(32));",
       "a shift by a negative or too large count at part 0:"},
      {"index", "Table table = {{1, 2, 3, 4}}; out[0] = static_cast<float>(table.words[opaque(4)]);",
       "an index outside of its array at part 0:"},
      {"alignment", "out[0] = static_cast<float>(reinterpret_cast<const Vec4*>(in + opaque(1))->x);",
       "a null or misaligned pointer at part 0:"},
      {"null", "out[0] = *reinterpret_cast<const float*>(static_cast<i64>(opaque(0)));",
       "a null or misaligned pointer"},
      {"division", "out[0] = static_cast<float>(7 / opaque(0));", "a division by zero"},
  };
  check_all(cases, CudaPrimitives::base, 32, before);
}

TEST(Misuse, OfAsynchronousCopies) {
  const std::vector<Misuse> cases = {
      {"no commit", "cp_async_16(base + 16 * t, in, true);", "a thread ends with a cp.async that it did not commit"},
      {"no wait", "cp_async_16(base + 16 * t, in, true); cp_async_commit(); ld_shared_u32(base + 16 * t);",
       "race: ld.shared reads at 1024, where an asynchronous copy is in flight"},
      {"a wait for one group too few",
       "cp_async_16(base + 16 * t, in, true); cp_async_commit(); cp_async_wait<1>(); ld_shared_u32(base + 16 * t);",
       "where an asynchronous copy is in flight"},
      {"no barrier after the wait",
       "cp_async_16(base + 16 * t, in, true); cp_async_commit(); cp_async_wait<0>(); u32 r[4]; ldmatrix_x4(r, base + "
       "16 * (31 - t));",
       "race: "},
      {"over what others read", "ld_shared_u32(base); if (t == 31) cp_async_16(base, in, true);",
       "race: cp.async writes shared memory at 1024, which thread 0 read"},
      {"misaligned target", "cp_async_16(base + 8, in, true);", "cp.async writes 16 bytes of shared memory at 1032"},
      {"misaligned source", "cp_async_16(base + 16 * t, in + 1, true);", "cp.async of 16 bytes at"},
      {"outside", "cp_async_16(base + 16 * t, in + 4096, true);", "outside every buffer"},
      {"outside, not valid", "cp_async_16(base + 16 * t, in + 4096, false); cp_async_commit();", ""},
      {"ldmatrix misaligned", "u32 r[4]; ldmatrix_x4(r, base + 8);",
       "ldmatrix reads 16 bytes of shared memory at 1032"},
      {"two products",
       "float c[4] = {}; u32 a[4] = {}; if (t < 16) mma_m16n8k16_bf16(c, a, 0, 0); else mma_m16n8k16_f16(c, a, 0, 0);",
       "mma.m16n8k16.f16, while other threads of its warp or warpgroup are at mma.m16n8k16.bf16"},
  };
  check_all(cases, CudaPrimitives::sm80, 32);
}

TEST(Misuse, OfBarriersAndTheTensorMemoryAccelerator) {
  // init(): one barrier behind a box of 8 KiB at the start of shared memory.
  const std::string before = R"(
    TW_DEVICE u32 init(u32 count) {
      const u32 barrier = shared_base() + 16384;
      if (thread_index() == 0) {
        mbarrier_init(barrier, count);
        mbarrier_init_fence();
      }
      block_sync();
      return barrier;
    }
    TW_DEVICE void load(const TensorMap* map, u32 barrier) {
      if (thread_index() != 0) return;
      mbarrier_expect(barrier, 8192);
      tma_load_2d(shared_base(), map, barrier, 0, 0);
    }
  )";
  const std::vector<Misuse> cases = {
      {"right", "const u32 b = init(1); load(&map0, b); mbarrier_wait(b, 0); ld_shared_u32(base + 4 * t);", "", true},
      {"not initialised", "mbarrier_arrive(base + 64);", "mbarrier.arrive at 1088, where no mbarrier was initialised"},
      {"initialised twice", "init(1); init(1);", "where a barrier is already"},
      {"a wrong parity", "const u32 b = init(1); mbarrier_wait(b, 0);",
       "wait at mbarrier.try_wait at shared address, parity (17408, 0)"},
      {"one arrival too many",
       "const u32 b = init(2); if (t == 0) { mbarrier_expect(b, 16); mbarrier_arrive(b); mbarrier_arrive(b); }",
       "mbarrier.arrive at barrier 0 beyond its count of 2"},
      {"too few bytes expected",
       "const u32 b = init(1); if (t == 0) { mbarrier_expect(b, 4096); tma_load_2d(base, &map0, b, 0, 0); }",
       "is left with -4096 bytes that it expects"},
      {"too many bytes expected",
       "const u32 b = init(1); if (t == 0) { mbarrier_expect(b, 9000); tma_load_2d(base, &map0, b, 0, 0); } "
       "mbarrier_wait(b, 0);",
       "deadlock in block 0: 128 threads (first 0) wait at mbarrier.try_wait"},
      {"no wait for the load", "const u32 b = init(1); load(&map0, b); block_sync(); ld_shared_u32(base);",
       "race: ld.shared reads at 1024, which TMA wrote"},
      {"no wait for the load, late", "const u32 b = init(1); load(&map0, b); block_sync(); ld_shared_u32(base);",
       "where an asynchronous copy is in flight", true},
      {"a wait of the wrong barrier",
       "const u32 b = init(1); if (t == 0) { mbarrier_init(b + 8, 1); mbarrier_arrive(b + 8); } load(&map0, b); "
       "block_sync(); mbarrier_wait(b + 8, 0); ld_shared_u32(base);",
       "race: ld.shared reads"},
      {"a box over what is read", "const u32 b = init(1); ld_shared_u32(base); load(&map0, b);",
       "race: TMA load writes shared memory at 1024, which thread"},
      {"an axis too many", "const u32 b = init(1); if (t == 0) tma_load_3d(base, &map0, b, 0, 0, 0);",
       "TMA load with 3 coordinates over a tensor map of 2 axes"},
      {"no map", "const u32 b = init(1); TensorMap none = {}; if (t == 0) tma_load_2d(base, &none, b, 0, 0);",
       "TMA load with a tensor map that was not encoded"},
      {"misaligned box", "const u32 b = init(1); if (t == 0) tma_load_2d(base + 64, &map0, b, 0, 0);",
       "TMA load with shared memory at 1088, which must be a multiple of 128"},
      {"beyond shared memory", "const u32 b = init(1); if (t == 0) tma_load_2d(base + 28672, &map0, b, 0, 0);",
       "TMA load with a box of 8192 bytes at 29696"},
      {"a load at the end", "const u32 b = init(1); load(&map0, b);", "a TMA load is in flight at the end", true},
      {"a store to an input", "if (t == 0) tma_store_2d(&map0, base, 0, 0);",
       "TMA store writes to a buffer that is only read"},
      {"a store not committed", "if (t == 0) tma_store_2d(&map0, base, 0, 64);",
       "a thread ends with a TMA store that it did not commit"},
      {"a store not waited for", "if (t == 0) { tma_store_2d(&map0, base, 0, 64); tma_store_commit(); }",
       "a thread ends while its TMA store may still read shared memory"},
      {"a store of what was not fenced",
       "st_shared_u32(base + 4 * t, t); block_sync(); if (t == 0) { tma_store_2d(&map0, base, 0, 64); "
       "tma_store_commit(); tma_store_wait_read<0>(); }",
       "wrote with no fence.proxy.async before the barrier"},
      {"a fence by another than the writers",
       "st_shared_u32(base + 4 * t, t); block_sync(); if (t == 0) { fence_proxy_async(); tma_store_2d(&map0, base, 0, "
       "64); tma_store_commit(); tma_store_wait_read<0>(); }",
       ""},
      {"over what is being stored",
       "if (t == 0) { tma_store_2d(&map0, base, 0, 64); tma_store_commit(); st_shared_u32(base, 1); "
       "tma_store_wait_read<0>(); }",
       "which an asynchronous engine still reads"},
      {"over what was stored",
       "if (t == 0) { tma_store_2d(&map0, base, 0, 64); tma_store_commit(); tma_store_wait_read<0>(); "
       "st_shared_u32(base, 1); }",
       ""},
      {"an mbarrier out of place", "mbarrier_init(base + 4, 1);",
       "mbarrier.init at 1028, which must be a multiple of 8"},
      {"an mbarrier for nobody", "mbarrier_init(base, 0);", "mbarrier.init with count 0"},
      {"a third parity", "const u32 b = init(1); mbarrier_wait(b, 2);", "mbarrier.try_wait for parity 2"},
      {"a mebibyte", "const u32 b = init(2); if (t == 0) mbarrier_expect(b, 1 << 20);",
       "mbarrier 0 expects 1048576 bytes, and at most 2^20 - 1 are counted"},
  };
  check_all(cases, CudaPrimitives::sm90, 128, before);
}

TEST(Misuse, OfWarpgroups) {
  const std::string before = R"(
    TW_DEVICE u64 at(u32 address) { return u64{1} << 62 | u64{64} << 32 | address >> 4; }
    TW_DEVICE void fill() {
      for (u32 i = thread_index(); i < 4096; i += 128) st_shared_u32(shared_base() + 4 * i, 0x3f803f80u);
    }
    TW_DEVICE void ready() {
      fill();
      fence_proxy_async();
      block_sync();
    }
  )";
  const std::vector<Misuse> cases = {
      {"right",
       "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192), false); wgmma_commit(); "
       "wgmma_wait<0>(); out[t] = d[0];",
       "", true},
      {"no wgmma.fence", "ready(); float d[32]; wgmma_bf16_ss(d, at(base), at(base + 8192), false);",
       "wgmma with no wgmma.fence"},
      {"no wgmma.fence after a wait",
       "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192), false); wgmma_commit(); "
       "wgmma_wait<0>(); d[0] = 1; wgmma_bf16_ss(d, at(base), at(base + 8192), true);",
       "wgmma with no wgmma.fence"},
      {"no fence of the proxy",
       "fill(); block_sync(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192), false);",
       "wrote with no fence.proxy.async before the barrier"},
      {"no barrier",
       "fill(); fence_proxy_async(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192), false);",
       "race: wgmma reads shared memory"},
      {"descriptors that differ",
       "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192 + (t == 77 ? 32 : 0)), false);",
       "the descriptors or flags of thread 77 of the warpgroup differ"},
      {"a descriptor outside",
       "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base + 30720), at(base), false);",
       "wgmma reads shared memory at 33792 by its descriptors"},
      {"sums written in flight",
       "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192), false); wgmma_commit(); d[5] "
       "= 3; wgmma_wait<0>();",
       "sum 5 of thread 0 of the warpgroup was written while a wgmma had it in flight"},
      {"sums written in flight, late",
       "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192), false); wgmma_commit(); d[5] "
       "= 3; wgmma_wait<0>();",
       "sum 5 of thread 0 of the warpgroup was written while a wgmma had it in flight", true},
      {"operands overwritten in flight",
       "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192), false); wgmma_commit(); "
       "st_shared_u32(base + 4 * t, 1); wgmma_wait<0>();",
       "which an asynchronous engine still reads"},
      {"operands overwritten after the wait",
       "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192), false); wgmma_commit(); "
       "wgmma_wait<0>(); block_sync(); st_shared_u32(base + 4 * t, 1);",
       ""},
      {"a base offset",
       "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base) | u64{1} << 49, at(base), false);",
       "whose base offset is not 0"},
      {"sums in two shapes",
       "ready(); float d[64]; wgmma_fence(); wgmma_bf16_ss(reinterpret_cast<float(&)[32]>(d), at(base), at(base), "
       "false); wgmma_bf16_ss(d, at(base), at(base), false);",
       "wgmma with sums of which some are in flight in another shape"},
      {"no commit", "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192), false);",
       "a thread ends with wgmma that it did not commit"},
      {"no wait",
       "ready(); float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base + 8192), false); wgmma_commit();",
       "a thread ends while its wgmma are in flight"},
      {"half a warpgroup", "if (t < 64) { float d[32]; wgmma_fence(); wgmma_bf16_ss(d, at(base), at(base), false); }",
       "a thread ends while its warpgroup waits at wgmma.mma_async"},
      {"too many registers", "registers_increase<264>();", "setmaxnreg.inc to 264 registers; it takes multiples of 8"},
      {"an increase that decreases", "registers_increase<40>();",
       "setmaxnreg.inc to 40 registers by a warpgroup that has 248"},
      {"a decrease that increases", "registers_decrease<256>();",
       "setmaxnreg.dec to 256 registers by a warpgroup that has 248"},
  };
  check_all(cases, CudaPrimitives::sm90, 128, before);
  check_all({{"less than a warpgroup", "wgmma_commit();",
              "an instruction of warpgroups by threads that do not fill one of 128"}},
            CudaPrimitives::sm90, 96);
}

TEST(Misuse, OfLaunchesAndBuilds) {
  const EmulatedModule module = build({"block_sync();"});
  EXPECT_THAT(run(module, {33}, {nullptr}), HasSubstr("a block of 33 threads; it takes a multiple of 32 up to 1024"));
  EXPECT_THAT(run(module, {32, 300000}, {nullptr}),
              HasSubstr("300000 bytes of shared memory; a block has at most 232448"));
  EXPECT_EQ(run(module, {32, 0, 0}, {nullptr}), "");
  EmulatedLaunch launch;
  launch.symbol = "nobody";
  launch.blocks = launch.threads = 32;
  EXPECT_THAT(to_string(module.launch(launch).error()), HasSubstr("the module has no kernel 'nobody'"));

  EmulatedBuildOptions no_compiler;
  no_compiler.cxx = "no-such-compiler-19";
  const auto missing = EmulatedModule::build(source_of({""}), no_compiler);
  ASSERT_FALSE(missing);
  EXPECT_EQ(to_string(missing.error()),
            "CXX is 'no-such-compiler-19', which does not run; set it to a C++ compiler, which the emulator builds "
            "kernels with");
  const auto wrong = EmulatedModule::build(source_of({"nothing_of_this_name();"}));
  ASSERT_FALSE(wrong);
  EXPECT_THAT(to_string(wrong.error()), HasSubstr("part 0:"));
  EXPECT_THAT(to_string(wrong.error()), HasSubstr("nothing_of_this_name"));
}

TEST(Statistics, CountBankConflicts) {
  const EmulatedModule module = build({R"(
    const u32 t = thread_index(), base = shared_base();
    st_shared_u32(base + 4 * t, t);
    st_shared_u32(base + 128 * t, t);
    warp_sync();
    ld_shared_vec4(base + 16 * t);
    ld_shared_vec4(base + 128 * t);
    ld_shared_f64(base);
  )",
                                       CudaPrimitives::base});
  EmulatorOptions options;
  options.count_bank_conflicts = true;
  EmulatorStatistics statistics;
  ASSERT_EQ(run(module, {32, 4096}, {nullptr}, options, {}, &statistics), "");
  EXPECT_EQ(statistics.stores.accesses, 2);
  EXPECT_EQ(statistics.stores.passes, 1 + 32);
  EXPECT_EQ(statistics.loads.accesses, 3);
  EXPECT_EQ(statistics.loads.passes, 4 + 4 * 8 + 2);
}

}  // namespace
}  // namespace tilewright::testing
