// What kernel text that is built for the CPU and the emulator know of each other: one table of functions and facts.
// Both sides compile this file, so it has no header and plain types.
#pragma once

/// The emulator fills it; the emulated primitives call through it. Functions get the table itself, then what the
/// primitive was given. Those that wait return when the emulated thread may go on.
struct EmulatorInterface {
  // Of the thread that runs now, in its block.
  unsigned thread_index;
  long long block_index, block_count;
  unsigned shared_base;
  unsigned long long stack_begin;  ///< of that thread
  unsigned stack_bytes;

  /// Where `bytes` of shared memory at `address` lie. `kind`: EmulatedAccess.
  unsigned char* (*shared)(EmulatorInterface*, unsigned address, unsigned bytes, int kind);
  /// Checks that a primitive may touch these bytes of global memory, naturally aligned. `kind`: EmulatedAccess.
  void (*global)(EmulatorInterface*, const void* address, unsigned bytes, int kind);
  /// Plain loads and stores of the text, where it was built to report them.
  void (*plain)(EmulatorInterface*, const void* address, unsigned bytes, int kind);
  /// A sanitizer's check of the text failed: which, and where in the text.
  void (*undefined)(EmulatorInterface*, const char* what, const char* file, unsigned line);

  void (*block_barrier)(EmulatorInterface*, unsigned id, unsigned threads, int wait);
  unsigned long long (*shuffle)(EmulatorInterface*, unsigned long long value, unsigned source_lane);
  unsigned (*warp_ballot)(EmulatorInterface*, int value);
  void (*warp_sync)(EmulatorInterface*);
  /// Bits of the f32 function: kind of EmulatedFunction.
  float (*approximate)(EmulatorInterface*, int function, float x);

  void (*cp_async)(EmulatorInterface*, unsigned to, const void* from, int valid);
  void (*cp_async_commit)(EmulatorInterface*);
  void (*cp_async_wait)(EmulatorInterface*, int groups);
  void (*ldmatrix_x4)(EmulatorInterface*, unsigned* r, unsigned address, int transposed);
  void (*mma_m16n8k16)(EmulatorInterface*, float* c, const unsigned* a, unsigned b0, unsigned b1, int is_bf16);

  void (*mbarrier_init)(EmulatorInterface*, unsigned address, unsigned count);
  void (*mbarrier_init_fence)(EmulatorInterface*);
  void (*mbarrier_arrive)(EmulatorInterface*, unsigned address);
  void (*mbarrier_expect)(EmulatorInterface*, unsigned address, unsigned bytes);
  void (*mbarrier_wait)(EmulatorInterface*, unsigned address, unsigned parity);
  void (*tma_load)(EmulatorInterface*, unsigned to, const void* map, unsigned barrier, const int* at, int rank);
  void (*tma_store)(EmulatorInterface*, const void* map, unsigned from, const int* at, int rank);
  void (*tma_store_commit)(EmulatorInterface*);
  void (*tma_store_wait_read)(EmulatorInterface*, int groups);
  void (*fence_proxy_async)(EmulatorInterface*);
  void (*wgmma_fence)(EmulatorInterface*);
  void (*wgmma_commit)(EmulatorInterface*);
  void (*wgmma_wait)(EmulatorInterface*, int groups);
  /// a: four registers, or null with a descriptor in a_descriptor.
  void (*wgmma)(EmulatorInterface*, float* d, int n, const unsigned* a, unsigned long long a_descriptor,
                unsigned long long b_descriptor, int accumulate, int b_is_mn_major, int is_bf16);
  void (*set_registers)(EmulatorInterface*, int count, int increase);
};

enum EmulatedAccess { kEmulatedLoad = 0, kEmulatedStore = 1 };
enum EmulatedFunction { kEmulatedExp2, kEmulatedLog2, kEmulatedReciprocal, kEmulatedTanh };
