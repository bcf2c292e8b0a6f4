// Primitives of level sm90: the PTX bodies. docs/gpu.md has the table; emulator/device has the other bodies.
// Shared addresses are byte offsets. Everything that is asynchronous completes on an mbarrier (loads), a bulk group
// (stores) or a wgmma group; the caller waits.

// Barriers in shared memory: a phase ends when `count` arrivals and all expected bytes are there.
TW_DEVICE void mbarrier_init(u32 barrier, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
/// Initialised barriers become visible to the asynchronous engines; a block_sync must follow for the other threads.
TW_DEVICE void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
/// Releases what this thread wrote.
TW_DEVICE void mbarrier_arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives, and the phase also waits for so many bytes of loads.
TW_DEVICE void mbarrier_expect(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
/// Waits until the phase of this parity has ended; acquires.
TW_DEVICE void mbarrier_wait(u32 barrier, u32 parity) {
  asm volatile(
      "{.reg .pred done; again_%=: mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1; @done bra end_%=; "
      "bra again_%=; end_%=: }" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// The tensor memory accelerator. A box starts at element coordinates c0 (innermost) …; what lies outside the tensor is
// read as zero and not written. One thread issues.
#define TW_TMA_LOAD(rank, list, ...)                                                                                 \
  asm volatile("cp.async.bulk.tensor." rank ".shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {" \
               list "}], [%2];" ::"r"(target),                                                                       \
               "l"(reinterpret_cast<u64>(map)), "r"(barrier), __VA_ARGS__                                            \
               : "memory")
TW_DEVICE void tma_load_2d(u32 target, const TensorMap* map, u32 barrier, i32 c0, i32 c1) {
  TW_TMA_LOAD("2d", "%3, %4", "r"(c0), "r"(c1));
}
TW_DEVICE void tma_load_3d(u32 target, const TensorMap* map, u32 barrier, i32 c0, i32 c1, i32 c2) {
  TW_TMA_LOAD("3d", "%3, %4, %5", "r"(c0), "r"(c1), "r"(c2));
}
TW_DEVICE void tma_load_4d(u32 target, const TensorMap* map, u32 barrier, i32 c0, i32 c1, i32 c2, i32 c3) {
  TW_TMA_LOAD("4d", "%3, %4, %5, %6", "r"(c0), "r"(c1), "r"(c2), "r"(c3));
}
TW_DEVICE void tma_load_5d(u32 target, const TensorMap* map, u32 barrier, i32 c0, i32 c1, i32 c2, i32 c3, i32 c4) {
  TW_TMA_LOAD("5d", "%3, %4, %5, %6, %7", "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4));
}
#define TW_TMA_STORE(rank, list, ...)                                                                \
  asm volatile("cp.async.bulk.tensor." rank ".global.shared::cta.bulk_group [%0, {" list "}], [%1];" \
               ::"l"(reinterpret_cast<u64>(map)), "r"(source), __VA_ARGS__                            \
               : "memory")
TW_DEVICE void tma_store_2d(const TensorMap* map, u32 source, i32 c0, i32 c1) {
  TW_TMA_STORE("2d", "%2, %3", "r"(c0), "r"(c1));
}
TW_DEVICE void tma_store_3d(const TensorMap* map, u32 source, i32 c0, i32 c1, i32 c2) {
  TW_TMA_STORE("3d", "%2, %3, %4", "r"(c0), "r"(c1), "r"(c2));
}
TW_DEVICE void tma_store_4d(const TensorMap* map, u32 source, i32 c0, i32 c1, i32 c2, i32 c3) {
  TW_TMA_STORE("4d", "%2, %3, %4, %5", "r"(c0), "r"(c1), "r"(c2), "r"(c3));
}
TW_DEVICE void tma_store_5d(const TensorMap* map, u32 source, i32 c0, i32 c1, i32 c2, i32 c3, i32 c4) {
  TW_TMA_STORE("5d", "%2, %3, %4, %5, %6", "r"(c0), "r"(c1), "r"(c2), "r"(c3), "r"(c4));
}
TW_DEVICE void tma_store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Until at most N of this thread's groups still read shared memory. Global memory is complete when the kernel ends.
template <int N>
TW_DEVICE void tma_store_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(N) : "memory");
}
TW_DEVICE void tma_prefetch(const TensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(reinterpret_cast<u64>(map)) : "memory");
}
/// Ordinary stores of this thread to shared memory become visible to TMA stores and wgmma.
TW_DEVICE void fence_proxy_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Registers per thread from here on; all warps of a warpgroup. N is a multiple of 8 in 24…240.
template <int N>
TW_DEVICE void registers_increase() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N>
TW_DEVICE void registers_decrease() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

// Warpgroup products. wgmma_fence before the first that uses registers written by other instructions; sums are valid
// after commit and wait; register_fence keeps the compiler from moving accesses of the sums across either.
TW_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
TW_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int N>
TW_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}
// TW_WGMMA(type, n) defines, for type bf16 or f16 and n = 8, 16, … 256 columns, products of 64 rows and 16 steps of k
//   wgmma_<type>_ss   (float (&d)[n / 2], u64 a, u64 b, bool accumulate)            d (+)= A · Bᵀ, both K-major
//   wgmma_<type>_rs_tb(float (&d)[n / 2], const u32 (&a)[4], u64 b, bool accumulate)    A in registers, B MN-major
// and, one statement instead of four for the compiler to read,
//   wgmma_<type>_ss_x4   (d, a, b, accumulate)       64 steps of k: each 16 are 32 bytes further in A and in B
//   wgmma_<type>_rs_tb_x4(d, const u32* a, b)        64 steps of k: each 16 are 4 registers of A and 2048 bytes of B
// Kernel text names each (type, n) it uses once. The lists below number operands: sums first, inputs after them.
#define TW_WGMMA(type, n) TW_WGMMA_NUMBERED(type, n, TW_WGMMA_INPUTS_##n)
#define TW_WGMMA_NUMBERED(type, n, ...) TW_WGMMA_DEFINE(type, n, __VA_ARGS__)
#define TW_WGMMA_TEXT(type, n) "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." #type "." #type " {" TW_WGMMA_SUMS_##n "}, "
#define TW_WGMMA_DEFINE(type, n, i0, i1, i2, i3, i4, i5, i6, i7, i8, i9, i10, i11, i12, i13, i14, i15, i16)           \
  TW_DEVICE void wgmma_##type##_ss(float (&d)[n / 2], u64 a, u64 b, bool accumulate) {                               \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %" #i2 ", 0;" TW_WGMMA_TEXT(type, n) "%" #i0 ", %" #i1               \
                 ", p, 1, 1, 0, 0;}"                                                                                 \
                 : TW_WGMMA_OUTPUTS_##n                                                                              \
                 : "l"(a), "l"(b), "r"(static_cast<i32>(accumulate)));                                               \
  }                                                                                                                  \
  TW_DEVICE void wgmma_##type##_rs_tb(float (&d)[n / 2], const u32 (&a)[4], u64 b, bool accumulate) {                \
    asm volatile("{.reg .pred p; setp.ne.b32 p, %" #i5 ", 0;" TW_WGMMA_TEXT(type, n) "{%" #i0 ", %" #i1 ", %" #i2    \
                 ", %" #i3 "}, %" #i4 ", p, 1, 1, 1;}"                                                               \
                 : TW_WGMMA_OUTPUTS_##n                                                                              \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<i32>(accumulate)));           \
  }                                                                                                                  \
  TW_DEVICE void wgmma_##type##_ss_x4(float (&d)[n / 2], u64 a, u64 b, bool accumulate) {                            \
    asm volatile("{.reg .pred p; .reg .b64 a, b; .reg .b32 al, ah, bl, bh; setp.ne.b32 p, %" #i2 ", 0; mov.b64 {al, ah}, %" #i0 "; mov.b64 {bl, bh}, %" #i1 ";" TW_WGMMA_TEXT(type, n) "%" #i0 ", %"   \
                 #i1 ", p, 1, 1, 0, 0; add.u32 al, al, 2; mov.b64 a, {al, ah}; add.u32 bl, bl, 2; mov.b64 b, {bl, bh};" TW_WGMMA_TEXT(type, n)       \
                 "a, b, 1, 1, 1, 0, 0; add.u32 al, al, 2; mov.b64 a, {al, ah}; add.u32 bl, bl, 2; mov.b64 b, {bl, bh};" TW_WGMMA_TEXT(type, n)       \
                 "a, b, 1, 1, 1, 0, 0; add.u32 al, al, 2; mov.b64 a, {al, ah}; add.u32 bl, bl, 2; mov.b64 b, {bl, bh};" TW_WGMMA_TEXT(type, n)       \
                 "a, b, 1, 1, 1, 0, 0;}"                                                                             \
                 : TW_WGMMA_OUTPUTS_##n                                                                              \
                 : "l"(a), "l"(b), "r"(static_cast<i32>(accumulate)));                                               \
  }                                                                                                                  \
  TW_DEVICE void wgmma_##type##_rs_tb_x4(float (&d)[n / 2], const u32* a, u64 b) {                                   \
    asm volatile("{.reg .b64 b; .reg .b32 bl, bh; mov.b64 {bl, bh}, %" #i16 ";" TW_WGMMA_TEXT(type, n) "{%" #i0 ", %" #i1 ", %" #i2 ", %" #i3 "}, %" #i16           \
                 ", 1, 1, 1, 1; add.u32 bl, bl, 128; mov.b64 b, {bl, bh};" TW_WGMMA_TEXT(type, n) "{%" #i4 ", %" #i5 ", %" #i6      \
                 ", %" #i7 "}, b, 1, 1, 1, 1; add.u32 bl, bl, 128; mov.b64 b, {bl, bh};" TW_WGMMA_TEXT(type, n) "{%" #i8 ", %" #i9  \
                 ", %" #i10 ", %" #i11 "}, b, 1, 1, 1, 1; add.u32 bl, bl, 128; mov.b64 b, {bl, bh};" TW_WGMMA_TEXT(type, n)         \
                 "{%" #i12 ", %" #i13 ", %" #i14 ", %" #i15 "}, b, 1, 1, 1, 1;}"                                     \
                 : TW_WGMMA_OUTPUTS_##n                                                                              \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(a[4]), "r"(a[5]), "r"(a[6]), "r"(a[7]),           \
                   "r"(a[8]), "r"(a[9]), "r"(a[10]), "r"(a[11]), "r"(a[12]), "r"(a[13]), "r"(a[14]), "r"(a[15]),     \
                   "l"(b));                                                                                          \
  }
/// Keeps the compiler from moving accesses of the sums across it; once for each size of sums.
#define TW_REGISTER_FENCE(n)                                    \
  TW_DEVICE void register_fence(float (&d)[n / 2]) {            \
    asm volatile("" : TW_WGMMA_OUTPUTS_##n : : "memory");       \
  }
#define TW_WGMMA_SUMS_8 "%0, %1, %2, %3"
#define TW_WGMMA_SUMS_16 TW_WGMMA_SUMS_8 ", %4, %5, %6, %7"
#define TW_WGMMA_SUMS_24 TW_WGMMA_SUMS_16 ", %8, %9, %10, %11"
#define TW_WGMMA_SUMS_32 TW_WGMMA_SUMS_24 ", %12, %13, %14, %15"
#define TW_WGMMA_SUMS_40 TW_WGMMA_SUMS_32 ", %16, %17, %18, %19"
#define TW_WGMMA_SUMS_48 TW_WGMMA_SUMS_40 ", %20, %21, %22, %23"
#define TW_WGMMA_SUMS_56 TW_WGMMA_SUMS_48 ", %24, %25, %26, %27"
#define TW_WGMMA_SUMS_64 TW_WGMMA_SUMS_56 ", %28, %29, %30, %31"
#define TW_WGMMA_SUMS_72 TW_WGMMA_SUMS_64 ", %32, %33, %34, %35"
#define TW_WGMMA_SUMS_80 TW_WGMMA_SUMS_72 ", %36, %37, %38, %39"
#define TW_WGMMA_SUMS_88 TW_WGMMA_SUMS_80 ", %40, %41, %42, %43"
#define TW_WGMMA_SUMS_96 TW_WGMMA_SUMS_88 ", %44, %45, %46, %47"
#define TW_WGMMA_SUMS_104 TW_WGMMA_SUMS_96 ", %48, %49, %50, %51"
#define TW_WGMMA_SUMS_112 TW_WGMMA_SUMS_104 ", %52, %53, %54, %55"
#define TW_WGMMA_SUMS_120 TW_WGMMA_SUMS_112 ", %56, %57, %58, %59"
#define TW_WGMMA_SUMS_128 TW_WGMMA_SUMS_120 ", %60, %61, %62, %63"
#define TW_WGMMA_SUMS_136 TW_WGMMA_SUMS_128 ", %64, %65, %66, %67"
#define TW_WGMMA_SUMS_144 TW_WGMMA_SUMS_136 ", %68, %69, %70, %71"
#define TW_WGMMA_SUMS_152 TW_WGMMA_SUMS_144 ", %72, %73, %74, %75"
#define TW_WGMMA_SUMS_160 TW_WGMMA_SUMS_152 ", %76, %77, %78, %79"
#define TW_WGMMA_SUMS_168 TW_WGMMA_SUMS_160 ", %80, %81, %82, %83"
#define TW_WGMMA_SUMS_176 TW_WGMMA_SUMS_168 ", %84, %85, %86, %87"
#define TW_WGMMA_SUMS_184 TW_WGMMA_SUMS_176 ", %88, %89, %90, %91"
#define TW_WGMMA_SUMS_192 TW_WGMMA_SUMS_184 ", %92, %93, %94, %95"
#define TW_WGMMA_SUMS_200 TW_WGMMA_SUMS_192 ", %96, %97, %98, %99"
#define TW_WGMMA_SUMS_208 TW_WGMMA_SUMS_200 ", %100, %101, %102, %103"
#define TW_WGMMA_SUMS_216 TW_WGMMA_SUMS_208 ", %104, %105, %106, %107"
#define TW_WGMMA_SUMS_224 TW_WGMMA_SUMS_216 ", %108, %109, %110, %111"
#define TW_WGMMA_SUMS_232 TW_WGMMA_SUMS_224 ", %112, %113, %114, %115"
#define TW_WGMMA_SUMS_240 TW_WGMMA_SUMS_232 ", %116, %117, %118, %119"
#define TW_WGMMA_SUMS_248 TW_WGMMA_SUMS_240 ", %120, %121, %122, %123"
#define TW_WGMMA_SUMS_256 TW_WGMMA_SUMS_248 ", %124, %125, %126, %127"
#define TW_WGMMA_OUTPUTS_8 "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
#define TW_WGMMA_OUTPUTS_16 TW_WGMMA_OUTPUTS_8, "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7])
#define TW_WGMMA_OUTPUTS_24 TW_WGMMA_OUTPUTS_16, "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11])
#define TW_WGMMA_OUTPUTS_32 TW_WGMMA_OUTPUTS_24, "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15])
#define TW_WGMMA_OUTPUTS_40 TW_WGMMA_OUTPUTS_32, "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19])
#define TW_WGMMA_OUTPUTS_48 TW_WGMMA_OUTPUTS_40, "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23])
#define TW_WGMMA_OUTPUTS_56 TW_WGMMA_OUTPUTS_48, "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27])
#define TW_WGMMA_OUTPUTS_64 TW_WGMMA_OUTPUTS_56, "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])
#define TW_WGMMA_OUTPUTS_72 TW_WGMMA_OUTPUTS_64, "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35])
#define TW_WGMMA_OUTPUTS_80 TW_WGMMA_OUTPUTS_72, "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39])
#define TW_WGMMA_OUTPUTS_88 TW_WGMMA_OUTPUTS_80, "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43])
#define TW_WGMMA_OUTPUTS_96 TW_WGMMA_OUTPUTS_88, "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47])
#define TW_WGMMA_OUTPUTS_104 TW_WGMMA_OUTPUTS_96, "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51])
#define TW_WGMMA_OUTPUTS_112 TW_WGMMA_OUTPUTS_104, "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55])
#define TW_WGMMA_OUTPUTS_120 TW_WGMMA_OUTPUTS_112, "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59])
#define TW_WGMMA_OUTPUTS_128 TW_WGMMA_OUTPUTS_120, "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
#define TW_WGMMA_OUTPUTS_136 TW_WGMMA_OUTPUTS_128, "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67])
#define TW_WGMMA_OUTPUTS_144 TW_WGMMA_OUTPUTS_136, "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71])
#define TW_WGMMA_OUTPUTS_152 TW_WGMMA_OUTPUTS_144, "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75])
#define TW_WGMMA_OUTPUTS_160 TW_WGMMA_OUTPUTS_152, "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79])
#define TW_WGMMA_OUTPUTS_168 TW_WGMMA_OUTPUTS_160, "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83])
#define TW_WGMMA_OUTPUTS_176 TW_WGMMA_OUTPUTS_168, "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87])
#define TW_WGMMA_OUTPUTS_184 TW_WGMMA_OUTPUTS_176, "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91])
#define TW_WGMMA_OUTPUTS_192 TW_WGMMA_OUTPUTS_184, "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95])
#define TW_WGMMA_OUTPUTS_200 TW_WGMMA_OUTPUTS_192, "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99])
#define TW_WGMMA_OUTPUTS_208 TW_WGMMA_OUTPUTS_200, "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103])
#define TW_WGMMA_OUTPUTS_216 TW_WGMMA_OUTPUTS_208, "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107])
#define TW_WGMMA_OUTPUTS_224 TW_WGMMA_OUTPUTS_216, "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111])
#define TW_WGMMA_OUTPUTS_232 TW_WGMMA_OUTPUTS_224, "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115])
#define TW_WGMMA_OUTPUTS_240 TW_WGMMA_OUTPUTS_232, "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119])
#define TW_WGMMA_OUTPUTS_248 TW_WGMMA_OUTPUTS_240, "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123])
#define TW_WGMMA_OUTPUTS_256 TW_WGMMA_OUTPUTS_248, "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
#define TW_WGMMA_INPUTS_8 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20
#define TW_WGMMA_INPUTS_16 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24
#define TW_WGMMA_INPUTS_24 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28
#define TW_WGMMA_INPUTS_32 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32
#define TW_WGMMA_INPUTS_40 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36
#define TW_WGMMA_INPUTS_48 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40
#define TW_WGMMA_INPUTS_56 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44
#define TW_WGMMA_INPUTS_64 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48
#define TW_WGMMA_INPUTS_72 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52
#define TW_WGMMA_INPUTS_80 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56
#define TW_WGMMA_INPUTS_88 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60
#define TW_WGMMA_INPUTS_96 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64
#define TW_WGMMA_INPUTS_104 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68
#define TW_WGMMA_INPUTS_112 56, 57, 58, 59, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72
#define TW_WGMMA_INPUTS_120 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76
#define TW_WGMMA_INPUTS_128 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80
#define TW_WGMMA_INPUTS_136 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84
#define TW_WGMMA_INPUTS_144 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88
#define TW_WGMMA_INPUTS_152 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92
#define TW_WGMMA_INPUTS_160 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96
#define TW_WGMMA_INPUTS_168 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100
#define TW_WGMMA_INPUTS_176 88, 89, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 104
#define TW_WGMMA_INPUTS_184 92, 93, 94, 95, 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108
#define TW_WGMMA_INPUTS_192 96, 97, 98, 99, 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112
#define TW_WGMMA_INPUTS_200 100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116
#define TW_WGMMA_INPUTS_208 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120
#define TW_WGMMA_INPUTS_216 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124
#define TW_WGMMA_INPUTS_224 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128
#define TW_WGMMA_INPUTS_232 116, 117, 118, 119, 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 130, 131, 132
#define TW_WGMMA_INPUTS_240 120, 121, 122, 123, 124, 125, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135, 136
#define TW_WGMMA_INPUTS_248 124, 125, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140
#define TW_WGMMA_INPUTS_256 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 142, 143, 144
