// Types and qualifiers of all device text. Header-free: NVRTC and a C++ compiler (the emulator) both read it.
typedef unsigned char u8;
typedef signed char i8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

#ifndef TW_EMULATED
#pragma nv_diag_suppress 177  // functions that this kernel does not call
#define TW_DEVICE static __device__ __forceinline__
#define TW_KERNEL(threads, blocks_per_multiprocessor) \
  extern "C" __global__ void __launch_bounds__(threads, blocks_per_multiprocessor)
#define TW_PARAM const __grid_constant__
#define TW_UNROLL _Pragma("unroll")
#define TW_NO_UNROLL _Pragma("unroll 1")
#else
#define TW_DEVICE static inline
#define TW_KERNEL(threads, blocks_per_multiprocessor) extern "C" void
#define TW_PARAM const
#define TW_UNROLL
#define TW_NO_UNROLL
#endif

/// Storage types: a name for the bits, no arithmetic. f32 and f64 are float and double.
struct F16 {
  u16 bits;
};
struct BF16 {
  u16 bits;
};

/// 16 bytes that move as one.
struct alignas(16) Vec4 {
  u32 x, y, z, w;
};

/// A descriptor of the tensor memory accelerator; opaque (CUtensorMap).
struct alignas(64) TensorMap {
  u64 opaque[16];
};
