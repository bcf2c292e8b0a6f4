// Primitives of level sm80: the PTX bodies. docs/gpu.md has the table; emulator/device has the other bodies.

/// 16 bytes from global to shared memory, both 16-byte aligned; zeros, and no read, when not valid.
TW_DEVICE void cp_async_16(u32 to, const void* from, bool valid) {
  const i32 bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
               "r"(bytes)
               : "memory");
}
TW_DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Until at most N of this thread's committed groups are unfinished.
template <int N>
TW_DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/// Four 8×8 matrices of 16-bit elements; lanes 8i … 8i+7 give the addresses of the rows of matrix i, 16-byte aligned.
TW_DEVICE void ldmatrix_x4(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
TW_DEVICE void ldmatrix_x4_trans(u32 (&r)[4], u32 address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

/// C[16,8] += A[16,16] · B[16,8], f32 sums.
#define TW_MMA(name, type)                                               \
  TW_DEVICE void name(float(&c)[4], const u32(&a)[4], u32 b0, u32 b1) {  \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type           \
        ".f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "                   \
        "{%0,%1,%2,%3};"                                                 \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                 \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1)); \
  }
TW_MMA(mma_m16n8k16_bf16, "bf16")
TW_MMA(mma_m16n8k16_f16, "f16")
#undef TW_MMA
