// Primitives of level sm90: the emulated bodies. codegen/cuda/device/primitives/sm90.cuh has the PTX bodies and says
// what each does.

TW_PRIMITIVE void mbarrier_init(u32 barrier, u32 count) { tw_emulator->mbarrier_init(tw_emulator, barrier, count); }
TW_PRIMITIVE void mbarrier_init_fence() { tw_emulator->mbarrier_init_fence(tw_emulator); }
TW_PRIMITIVE void mbarrier_arrive(u32 barrier) { tw_emulator->mbarrier_arrive(tw_emulator, barrier); }
TW_PRIMITIVE void mbarrier_expect(u32 barrier, u32 bytes) { tw_emulator->mbarrier_expect(tw_emulator, barrier, bytes); }
TW_PRIMITIVE void mbarrier_wait(u32 barrier, u32 parity) { tw_emulator->mbarrier_wait(tw_emulator, barrier, parity); }

#define TW_TMA(rank, parameters, ...)                                                               \
  TW_PRIMITIVE void tma_load_##rank##d(u32 target, const TensorMap* map, u32 barrier, parameters) { \
    const i32 at[rank] = {__VA_ARGS__};                                                             \
    tw_emulator->tma_load(tw_emulator, target, map, barrier, at, rank);                             \
  }                                                                                                 \
  TW_PRIMITIVE void tma_store_##rank##d(const TensorMap* map, u32 source, parameters) {             \
    const i32 at[rank] = {__VA_ARGS__};                                                             \
    tw_emulator->tma_store(tw_emulator, map, source, at, rank);                                     \
  }
#define TW_COORDINATES(...) __VA_ARGS__
TW_TMA(2, TW_COORDINATES(i32 c0, i32 c1), c0, c1)
TW_TMA(3, TW_COORDINATES(i32 c0, i32 c1, i32 c2), c0, c1, c2)
TW_TMA(4, TW_COORDINATES(i32 c0, i32 c1, i32 c2, i32 c3), c0, c1, c2, c3)
TW_TMA(5, TW_COORDINATES(i32 c0, i32 c1, i32 c2, i32 c3, i32 c4), c0, c1, c2, c3, c4)
#undef TW_COORDINATES
#undef TW_TMA
TW_PRIMITIVE void tma_store_commit() { tw_emulator->tma_store_commit(tw_emulator); }
template <int N>
TW_PRIMITIVE void tma_store_wait_read() {
  tw_emulator->tma_store_wait_read(tw_emulator, N);
}
TW_DEVICE void tma_prefetch(const TensorMap*) {}
TW_PRIMITIVE void fence_proxy_async() { tw_emulator->fence_proxy_async(tw_emulator); }

template <int N>
TW_PRIMITIVE void registers_increase() {
  tw_emulator->set_registers(tw_emulator, N, 1);
}
template <int N>
TW_PRIMITIVE void registers_decrease() {
  tw_emulator->set_registers(tw_emulator, N, 0);
}

TW_PRIMITIVE void wgmma_fence() { tw_emulator->wgmma_fence(tw_emulator); }
TW_PRIMITIVE void wgmma_commit() { tw_emulator->wgmma_commit(tw_emulator); }
template <int N>
TW_PRIMITIVE void wgmma_wait() {
  tw_emulator->wgmma_wait(tw_emulator, N);
}
#define TW_REGISTER_FENCE(n)
template <int R>
TW_DEVICE void register_fence(float (&)[R]) {}
// Every size at once: what the text names there are no definitions of.
#define TW_WGMMA(type, n)
#define TW_WGMMA_OF(type, is_bf16)                                                                               \
  template <int R>                                                                                               \
  TW_PRIMITIVE void wgmma_##type##_ss(float(&d)[R], u64 a, u64 b, bool accumulate) {                             \
    tw_emulator->wgmma(tw_emulator, d, 2 * R, nullptr, a, b, accumulate, 0, is_bf16);                            \
  }                                                                                                              \
  template <int R>                                                                                               \
  TW_PRIMITIVE void wgmma_##type##_rs_tb(float(&d)[R], const u32(&a)[4], u64 b, bool accumulate) {               \
    tw_emulator->wgmma(tw_emulator, d, 2 * R, a, 0, b, accumulate, 1, is_bf16);                                  \
  }                                                                                                              \
  template <int R>                                                                                               \
  TW_PRIMITIVE void wgmma_##type##_ss_x4(float(&d)[R], u64 a, u64 b, bool accumulate) {                          \
    for (int i = 0; i < 4; ++i)                                                                                  \
      tw_emulator->wgmma(tw_emulator, d, 2 * R, nullptr, a + 2 * i, b + 2 * i, accumulate || i > 0, 0, is_bf16); \
  }                                                                                                              \
  template <int R>                                                                                               \
  TW_PRIMITIVE void wgmma_##type##_rs_tb_x4(float(&d)[R], const u32* a, u64 b) {                                 \
    for (int i = 0; i < 4; ++i)                                                                                  \
      tw_emulator->wgmma(tw_emulator, d, 2 * R, a + 4 * i, 0, b + 128 * i, true, 1, is_bf16);                    \
  }
TW_WGMMA_OF(bf16, 1)
TW_WGMMA_OF(f16, 0)
#undef TW_WGMMA_OF
