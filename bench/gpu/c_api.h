/* A C face of GPU kernels, for benchmarks and bindings: graphs as text, raw device pointers, the caller's stream and
 * current context. Every function that can fail returns 0 (or null) on failure and writes one sentence to `error`, of
 * at most `error_bytes` with its end. */
#pragma once
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct TilewrightKernel TilewrightKernel;

typedef struct {
  void* data;
  int64_t shape[8];
  int64_t strides[8]; /* in elements */
  int32_t rank;
} TilewrightTensor; /* its dtype is the graph's */

/* Compiles for `target`: "cuda" is the device of the context that is current on this thread, "cuda-emu:sm_90a" the
 * emulator, whose memory is the host's and whose stream is null. Schedules are those of the tuning database where it
 * has some (TILEWRIGHT_TUNING, as for the commands), else the rules'. */
TilewrightKernel* tilewright_load(const char* graph_text, const char* target, char* error, int64_t error_bytes);
void tilewright_free(TilewrightKernel* kernel);
/* JSON: target, per kernel its template, schedule, registers, shared memory, occupancy, NVRTC's time. Lives as long as
 * the kernel. */
const char* tilewright_describe(const TilewrightKernel* kernel);
/* Bytes of device memory that a run on these inputs needs; -1 on failure. */
int64_t tilewright_workspace(const TilewrightKernel* kernel, const TilewrightTensor* inputs, char* error,
                             int64_t error_bytes);
/* Enqueues one run; 1 on success. Allocates nothing on the device and waits for nothing. `taken`, where not null, gets
 * at most `taken_bytes` of JSON text: per step the template that was launched, and why not those before it. */
int32_t tilewright_run(const TilewrightKernel* kernel, const TilewrightTensor* inputs, const TilewrightTensor* outputs,
                       void* workspace, int64_t workspace_bytes, void* stream, char* taken, int64_t taken_bytes,
                       char* error, int64_t error_bytes);

#ifdef __cplusplus
}
#endif
