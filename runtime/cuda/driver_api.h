// The CUDA driver's functions as we declare them: no header of CUDA's. tests/cuda compares with cuda.h where that is
// found. Symbols carry the version suffix that the driver exports.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace tilewright {

using CuResult = int;  // enums of theirs are int
using CuDevice = int;
using CuContext = struct CuContextBody*;
using CuModule = struct CuModuleBody*;
using CuFunction = struct CuFunctionBody*;
using CuStream = struct CuStreamBody*;
using CuEvent = struct CuEventBody*;
using CuDevicePointer = unsigned long long;

enum : CuResult {
  kCuSuccess = 0,
  kCuInvalidValue = 1,
  kCuOutOfMemory = 2,
  kCuStubLibrary = 34,
  kCuNoDevice = 100,
  kCuInvalidImage = 200,
  kCuInvalidContext = 201,
  kCuNoBinaryForGpu = 209,
  kCuUnsupportedPtxVersion = 222,
  kCuNotFound = 500,
  kCuIllegalAddress = 700,
  kCuLaunchOutOfResources = 701,
  kCuSystemDriverMismatch = 803,
  kCuCompatNotSupported = 804,
};

enum : int {  // CUdevice_attribute
  kCuDeviceMultiprocessors = 16,
  kCuDeviceL2Bytes = 38,
  kCuDeviceThreadsPerMultiprocessor = 39,
  kCuDeviceCapabilityMajor = 75,
  kCuDeviceCapabilityMinor = 76,
  kCuDeviceSharedPerMultiprocessor = 81,
  kCuDeviceRegistersPerMultiprocessor = 82,
  kCuDeviceSharedPerBlockOptin = 97,
  kCuDeviceBlocksPerMultiprocessor = 106,
};
enum : int {  // CUfunction_attribute
  kCuFunctionSharedBytes = 1,
  kCuFunctionLocalBytes = 3,
  kCuFunctionRegisters = 4,
  kCuFunctionMaxDynamicSharedBytes = 8,
};
enum : int {  // CUpointer_attribute
  kCuPointerMemoryType = 2,
  kCuPointerIsManaged = 8,
  kCuPointerDeviceOrdinal = 9,
};
enum : unsigned { kCuMemoryDevice = 2 };
enum : int { kCuLaunchClusterDimension = 4 };

enum : int {  // of cuTensorMapEncodeTiled
  kCuTensorFloat16 = 6,
  kCuTensorFloat32 = 7,
  kCuTensorFloat64 = 8,
  kCuTensorBfloat16 = 9,
  kCuTensorInterleaveNone = 0,
  kCuTensorSwizzle128 = 3,
  kCuTensorL2Promotion256 = 3,
  kCuTensorOutsideIsZero = 0,
};

/// CUtensorMap; the driver wants 64 bytes of alignment up to CUDA 12 and 128 from 13 on.
struct alignas(128) CuTensorMap {
  uint64_t opaque[16];
};

/// CUlaunchAttribute and CUlaunchConfig.
struct CuLaunchAttribute {
  int id;
  alignas(8) union {
    struct {
      unsigned x, y, z;
    } cluster;
    char bytes[64];
  } value;
};
struct CuLaunchConfig {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z;
  unsigned shared_bytes;
  CuStream stream;
  CuLaunchAttribute* attributes;
  unsigned attribute_count;
};

/// Name and signature of everything that is used.
#define TILEWRIGHT_DRIVER_FUNCTIONS(X)                                                                              \
  X(cuInit, CuResult(unsigned flags))                                                                               \
  X(cuDriverGetVersion, CuResult(int* version))                                                                     \
  X(cuGetErrorName, CuResult(CuResult result, const char** name))                                                   \
  X(cuGetErrorString, CuResult(CuResult result, const char** text))                                                 \
  X(cuDeviceGetCount, CuResult(int* count))                                                                         \
  X(cuDeviceGet, CuResult(CuDevice* device, int ordinal))                                                           \
  X(cuDeviceGetName, CuResult(char* name, int bytes, CuDevice device))                                              \
  X(cuDeviceGetAttribute, CuResult(int* value, int attribute, CuDevice device))                                     \
  X(cuDeviceTotalMem_v2, CuResult(size_t* bytes, CuDevice device))                                                  \
  X(cuDevicePrimaryCtxRetain, CuResult(CuContext* context, CuDevice device))                                        \
  X(cuDevicePrimaryCtxRelease_v2, CuResult(CuDevice device))                                                        \
  X(cuCtxGetCurrent, CuResult(CuContext* context))                                                                  \
  X(cuCtxSetCurrent, CuResult(CuContext context))                                                                   \
  X(cuCtxGetDevice, CuResult(CuDevice* device))                                                                     \
  X(cuCtxSynchronize, CuResult())                                                                                   \
  X(cuModuleLoadData, CuResult(CuModule* module, const void* image))                                                \
  X(cuModuleUnload, CuResult(CuModule module))                                                                      \
  X(cuModuleGetFunction, CuResult(CuFunction* function, CuModule module, const char* name))                         \
  X(cuFuncGetAttribute, CuResult(int* value, int attribute, CuFunction function))                                   \
  X(cuFuncSetAttribute, CuResult(CuFunction function, int attribute, int value))                                    \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor,                                                                    \
    CuResult(int* blocks, CuFunction function, int threads, size_t dynamic_shared_bytes))                           \
  X(cuLaunchKernelEx, CuResult(const CuLaunchConfig* config, CuFunction function, void** parameters, void** extra)) \
  X(cuTensorMapEncodeTiled,                                                                                         \
    CuResult(CuTensorMap* map, int data_type, unsigned rank, void* address, const uint64_t* sizes,                  \
             const uint64_t* byte_strides, const unsigned* box, const unsigned* element_strides, int interleave,    \
             int swizzle, int l2_promotion, int outside))                                                           \
  X(cuPointerGetAttribute, CuResult(void* value, int attribute, CuDevicePointer pointer))                           \
  X(cuStreamGetCtx, CuResult(CuStream stream, CuContext* context))                                                  \
  X(cuEventCreate, CuResult(CuEvent* event, unsigned flags))                                                        \
  X(cuEventDestroy_v2, CuResult(CuEvent event))                                                                     \
  X(cuEventRecord, CuResult(CuEvent event, CuStream stream))                                                        \
  X(cuEventSynchronize, CuResult(CuEvent event))                                                                    \
  X(cuEventElapsedTime, CuResult(float* milliseconds, CuEvent begin, CuEvent end))                                  \
  X(cuMemsetD8Async, CuResult(CuDevicePointer to, unsigned char value, size_t bytes, CuStream stream))              \
  X(cuMemAlloc_v2, CuResult(CuDevicePointer* pointer, size_t bytes))                                                \
  X(cuMemFree_v2, CuResult(CuDevicePointer pointer))                                                                \
  X(cuMemcpyHtoD_v2, CuResult(CuDevicePointer to, const void* from, size_t bytes))                                  \
  X(cuMemcpyDtoH_v2, CuResult(void* to, CuDevicePointer from, size_t bytes))

struct DriverApi {
#define TILEWRIGHT_MEMBER(name, ...) std::add_pointer_t<__VA_ARGS__> name = nullptr;
  TILEWRIGHT_DRIVER_FUNCTIONS(TILEWRIGHT_MEMBER)
#undef TILEWRIGHT_MEMBER
};

}  // namespace tilewright
