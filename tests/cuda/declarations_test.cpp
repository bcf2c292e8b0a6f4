// Our own declarations of NVRTC and the driver against the toolkit's headers, where those are found.
#include <gtest/gtest.h>

#if __has_include(<cuda.h>) && __has_include(<nvrtc.h>)
#include <cuda.h>
#include <nvrtc.h>

#include "runtime/cuda/driver_api.h"
#include "runtime/cuda/nvrtc_api.h"

namespace tilewright {
namespace {

/// Passed alike by the ABI: pointers to things of one size and kind, integers and enums of one size.
template <class Ours, class Theirs>
constexpr bool same_value() {
  if constexpr (std::is_pointer_v<Ours> || std::is_pointer_v<Theirs>) {
    if constexpr (!std::is_pointer_v<Ours> || !std::is_pointer_v<Theirs>) {
      return false;
    } else {
      using OurPointee = std::remove_pointer_t<Ours>;
      using TheirPointee = std::remove_pointer_t<Theirs>;
      if constexpr (std::is_const_v<OurPointee> != std::is_const_v<TheirPointee>) return false;
      using O = std::remove_cv_t<OurPointee>;
      using T = std::remove_cv_t<TheirPointee>;
      if constexpr (std::is_void_v<O> || std::is_void_v<T>)
        return std::is_void_v<O> == std::is_void_v<T>;
      else if constexpr (std::is_pointer_v<O> || std::is_scalar_v<O>)
        return same_value<O, T>();
      else  // handles are incomplete on both sides; structs are compared below
        return !std::is_scalar_v<T>;
    }
  } else {
    return sizeof(Ours) == sizeof(Theirs) && std::is_floating_point_v<Ours> == std::is_floating_point_v<Theirs>;
  }
}
template <class Ours, class Theirs>
struct SameFunction : std::false_type {};
template <class R, class... A, class TheirR, class... TheirA>
struct SameFunction<R(A...), TheirR(TheirA...)> {
  static constexpr bool count_is_same = sizeof...(A) == sizeof...(TheirA);
  template <size_t... I>
  static constexpr bool compare(std::index_sequence<I...>) {
    return same_value<R, TheirR>() &&
           (same_value<std::tuple_element_t<I, std::tuple<A...>>, std::tuple_element_t<I, std::tuple<TheirA...>>>() &&
            ...);
  }
  static constexpr bool check() {
    if constexpr (count_is_same) return compare(std::index_sequence_for<A...>());
    return false;
  }
  static constexpr bool value = check();
};

#define TILEWRIGHT_SAME(name, ...) static_assert(SameFunction<__VA_ARGS__, decltype(::name)>::value, #name);
TILEWRIGHT_NVRTC_FUNCTIONS(TILEWRIGHT_SAME)
TILEWRIGHT_DRIVER_FUNCTIONS(TILEWRIGHT_SAME)
// The comparison tells signatures apart.
static_assert(!SameFunction<int(int), int(int*)>::value && !SameFunction<int(int), int(long)>::value);
static_assert(!SameFunction<int(int*), int(const int*)>::value && !SameFunction<int(), int(int)>::value);

#define TILEWRIGHT_SAME_VALUE(ours, theirs) static_assert(static_cast<long>(ours) == static_cast<long>(theirs));
TILEWRIGHT_SAME_VALUE(kNvrtcSuccess, NVRTC_SUCCESS)
TILEWRIGHT_SAME_VALUE(kNvrtcOutOfMemory, NVRTC_ERROR_OUT_OF_MEMORY)
TILEWRIGHT_SAME_VALUE(kNvrtcInvalidOption, NVRTC_ERROR_INVALID_OPTION)
TILEWRIGHT_SAME_VALUE(kNvrtcCompilation, NVRTC_ERROR_COMPILATION)
TILEWRIGHT_SAME_VALUE(kNvrtcBuiltinOperationFailure, NVRTC_ERROR_BUILTIN_OPERATION_FAILURE)
TILEWRIGHT_SAME_VALUE(kCuSuccess, CUDA_SUCCESS)
TILEWRIGHT_SAME_VALUE(kCuInvalidValue, CUDA_ERROR_INVALID_VALUE)
TILEWRIGHT_SAME_VALUE(kCuOutOfMemory, CUDA_ERROR_OUT_OF_MEMORY)
TILEWRIGHT_SAME_VALUE(kCuStubLibrary, CUDA_ERROR_STUB_LIBRARY)
TILEWRIGHT_SAME_VALUE(kCuNoDevice, CUDA_ERROR_NO_DEVICE)
TILEWRIGHT_SAME_VALUE(kCuInvalidImage, CUDA_ERROR_INVALID_IMAGE)
TILEWRIGHT_SAME_VALUE(kCuInvalidContext, CUDA_ERROR_INVALID_CONTEXT)
TILEWRIGHT_SAME_VALUE(kCuNoBinaryForGpu, CUDA_ERROR_NO_BINARY_FOR_GPU)
TILEWRIGHT_SAME_VALUE(kCuUnsupportedPtxVersion, CUDA_ERROR_UNSUPPORTED_PTX_VERSION)
TILEWRIGHT_SAME_VALUE(kCuNotFound, CUDA_ERROR_NOT_FOUND)
TILEWRIGHT_SAME_VALUE(kCuIllegalAddress, CUDA_ERROR_ILLEGAL_ADDRESS)
TILEWRIGHT_SAME_VALUE(kCuLaunchOutOfResources, CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES)
TILEWRIGHT_SAME_VALUE(kCuSystemDriverMismatch, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH)
TILEWRIGHT_SAME_VALUE(kCuCompatNotSupported, CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE)
TILEWRIGHT_SAME_VALUE(kCuDeviceMultiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
TILEWRIGHT_SAME_VALUE(kCuDeviceThreadsPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)
TILEWRIGHT_SAME_VALUE(kCuDeviceBlocksPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR)
TILEWRIGHT_SAME_VALUE(kCuDeviceL2Bytes, CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)
TILEWRIGHT_SAME_VALUE(kCuDeviceCapabilityMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
TILEWRIGHT_SAME_VALUE(kCuDeviceCapabilityMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)
TILEWRIGHT_SAME_VALUE(kCuDeviceSharedPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)
TILEWRIGHT_SAME_VALUE(kCuDeviceRegistersPerMultiprocessor, CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR)
TILEWRIGHT_SAME_VALUE(kCuDeviceSharedPerBlockOptin, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)
TILEWRIGHT_SAME_VALUE(kCuFunctionSharedBytes, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)
TILEWRIGHT_SAME_VALUE(kCuFunctionLocalBytes, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)
TILEWRIGHT_SAME_VALUE(kCuFunctionRegisters, CU_FUNC_ATTRIBUTE_NUM_REGS)
TILEWRIGHT_SAME_VALUE(kCuFunctionMaxDynamicSharedBytes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)
TILEWRIGHT_SAME_VALUE(kCuPointerMemoryType, CU_POINTER_ATTRIBUTE_MEMORY_TYPE)
TILEWRIGHT_SAME_VALUE(kCuPointerIsManaged, CU_POINTER_ATTRIBUTE_IS_MANAGED)
TILEWRIGHT_SAME_VALUE(kCuPointerDeviceOrdinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
TILEWRIGHT_SAME_VALUE(kCuMemoryDevice, CU_MEMORYTYPE_DEVICE)
TILEWRIGHT_SAME_VALUE(kCuLaunchClusterDimension, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
TILEWRIGHT_SAME_VALUE(kCuTensorFloat16, CU_TENSOR_MAP_DATA_TYPE_FLOAT16)
TILEWRIGHT_SAME_VALUE(kCuTensorFloat32, CU_TENSOR_MAP_DATA_TYPE_FLOAT32)
TILEWRIGHT_SAME_VALUE(kCuTensorFloat64, CU_TENSOR_MAP_DATA_TYPE_FLOAT64)
TILEWRIGHT_SAME_VALUE(kCuTensorBfloat16, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16)
TILEWRIGHT_SAME_VALUE(kCuTensorInterleaveNone, CU_TENSOR_MAP_INTERLEAVE_NONE)
TILEWRIGHT_SAME_VALUE(kCuTensorSwizzle128, CU_TENSOR_MAP_SWIZZLE_128B)
TILEWRIGHT_SAME_VALUE(kCuTensorL2Promotion256, CU_TENSOR_MAP_L2_PROMOTION_L2_256B)
TILEWRIGHT_SAME_VALUE(kCuTensorOutsideIsZero, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE)
static_assert(sizeof(CuTensorMap) == sizeof(CUtensorMap) && alignof(CuTensorMap) >= alignof(CUtensorMap));
static_assert(sizeof(CuLaunchAttribute) == sizeof(CUlaunchAttribute) &&
              offsetof(CuLaunchAttribute, id) == offsetof(CUlaunchAttribute, id) &&
              offsetof(CuLaunchAttribute, value) == offsetof(CUlaunchAttribute, value));
static_assert(sizeof(CuLaunchConfig) == sizeof(CUlaunchConfig) &&
              offsetof(CuLaunchConfig, grid_x) == offsetof(CUlaunchConfig, gridDimX) &&
              offsetof(CuLaunchConfig, block_x) == offsetof(CUlaunchConfig, blockDimX) &&
              offsetof(CuLaunchConfig, shared_bytes) == offsetof(CUlaunchConfig, sharedMemBytes) &&
              offsetof(CuLaunchConfig, stream) == offsetof(CUlaunchConfig, hStream) &&
              offsetof(CuLaunchConfig, attributes) == offsetof(CUlaunchConfig, attrs) &&
              offsetof(CuLaunchConfig, attribute_count) == offsetof(CUlaunchConfig, numAttrs));

TEST(CudaDeclarations, AreThoseOfTheToolkit) { SUCCEED() << "checked by the compiler"; }

}  // namespace
}  // namespace tilewright
#else
TEST(CudaDeclarations, AreThoseOfTheToolkit) { GTEST_SKIP() << "cuda.h and nvrtc.h were not found at build time"; }
#endif
