// Primitives of level sm80: the emulated bodies. codegen/cuda/device/primitives/sm80.cuh has the PTX bodies and says
// what each does.

TW_PRIMITIVE void cp_async_16(u32 to, const void* from, bool valid) {
  tw_emulator->cp_async(tw_emulator, to, from, valid);
}
TW_PRIMITIVE void cp_async_commit() { tw_emulator->cp_async_commit(tw_emulator); }
template <int N>
TW_PRIMITIVE void cp_async_wait() {
  tw_emulator->cp_async_wait(tw_emulator, N);
}
TW_PRIMITIVE void ldmatrix_x4(u32 (&r)[4], u32 address) { tw_emulator->ldmatrix_x4(tw_emulator, r, address, 0); }
TW_PRIMITIVE void ldmatrix_x4_trans(u32 (&r)[4], u32 address) { tw_emulator->ldmatrix_x4(tw_emulator, r, address, 1); }
TW_PRIMITIVE void mma_m16n8k16_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  tw_emulator->mma_m16n8k16(tw_emulator, c, a, b0, b1, 1);
}
TW_PRIMITIVE void mma_m16n8k16_f16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
  tw_emulator->mma_m16n8k16(tw_emulator, c, a, b0, b1, 0);
}
