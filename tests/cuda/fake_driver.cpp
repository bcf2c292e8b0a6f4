// The library behind fake_driver.h: every function of TILEWRIGHT_DRIVER_FUNCTIONS.
#include "tests/cuda/fake_driver.h"

#include <cstdlib>
#include <cstring>

using namespace tilewright;
using tilewright::testing::FakeMemory;
using tilewright::testing::FakeTensorMap;

namespace {

/// A CuFunction.
struct FakeKernel {
  std::string name;
};

/// Notes the call; what it was told to return, if anything.
CuResult note(const char* name) {
  auto& fake = *fake_driver();
  fake.calls.emplace_back(name);
  const auto told = fake.fails.find(name);
  return told == fake.fails.end() ? kCuSuccess : told->second;
}

const FakeMemory* memory_at(CuDevicePointer pointer) {
  const auto& memory = fake_driver()->memory;
  auto after = memory.upper_bound(static_cast<uintptr_t>(pointer));
  if (after == memory.begin()) return nullptr;
  --after;
  return pointer < after->first + after->second.bytes ? &after->second : nullptr;
}

}  // namespace

#define FAKE(name) \
  if (const CuResult told = note(name); told != kCuSuccess) return told

extern "C" {

tilewright::testing::FakeDriver* fake_driver() {
  static tilewright::testing::FakeDriver fake;
  return &fake;
}

CuResult cuInit(unsigned) {
  FAKE("cuInit");
  return kCuSuccess;
}
CuResult cuDriverGetVersion(int* version) {
  *version = 13000;
  return kCuSuccess;
}
CuResult cuGetErrorName(CuResult, const char** name) {
  *name = "CUDA_ERROR_OF_THE_FAKE";
  return kCuSuccess;
}
CuResult cuGetErrorString(CuResult, const char** text) {
  *text = "what the driver says";
  return kCuSuccess;
}
CuResult cuDeviceGetCount(int* count) {
  FAKE("cuDeviceGetCount");
  *count = fake_driver()->devices;
  return kCuSuccess;
}
CuResult cuDeviceGet(CuDevice* device, int ordinal) {
  *device = 100 + ordinal;
  return kCuSuccess;
}
CuResult cuDeviceGetName(char* name, int bytes, CuDevice) {
  std::strncpy(name, "Fake GPU", static_cast<size_t>(bytes));
  return kCuSuccess;
}
CuResult cuDeviceGetAttribute(int* value, int attribute, CuDevice) {
  const auto& fake = *fake_driver();
  switch (attribute) {
    case kCuDeviceCapabilityMajor: *value = fake.capability / 10; break;
    case kCuDeviceCapabilityMinor: *value = fake.capability % 10; break;
    case kCuDeviceMultiprocessors: *value = 132; break;
    case kCuDeviceSharedPerBlockOptin: *value = fake.shared_bytes_per_block; break;
    case kCuDeviceSharedPerMultiprocessor: *value = 228 << 10; break;
    case kCuDeviceRegistersPerMultiprocessor: *value = 64 << 10; break;
    case kCuDeviceL2Bytes: *value = 60 << 20; break;
    case kCuDeviceThreadsPerMultiprocessor: *value = 2048; break;
    case kCuDeviceBlocksPerMultiprocessor: *value = 32; break;
    default: return kCuInvalidValue;
  }
  return kCuSuccess;
}
CuResult cuDevicePrimaryCtxRetain(CuContext* context, CuDevice) {
  FAKE("cuDevicePrimaryCtxRetain");
  *context = tilewright::testing::fake_primary_context();
  return kCuSuccess;
}
CuResult cuDevicePrimaryCtxRelease_v2(CuDevice) { return note("cuDevicePrimaryCtxRelease"); }
CuResult cuCtxGetCurrent(CuContext* context) {
  FAKE("cuCtxGetCurrent");
  *context = fake_driver()->current;
  return kCuSuccess;
}
CuResult cuCtxSetCurrent(CuContext context) {
  FAKE("cuCtxSetCurrent");
  fake_driver()->current = context;
  return kCuSuccess;
}
CuResult cuCtxGetDevice(CuDevice* device) {
  FAKE("cuCtxGetDevice");
  *device = 100 + fake_driver()->device_of_current;
  return kCuSuccess;
}
CuResult cuCtxSynchronize() { return note("cuCtxSynchronize"); }
CuResult cuModuleLoadData(CuModule* module, const void* image) {
  FAKE("cuModuleLoadData");
  if (std::memcmp(image, "\177ELF", 4) != 0) return kCuInvalidImage;
  ++fake_driver()->modules;
  *module = reinterpret_cast<CuModule>(0x2000);
  return kCuSuccess;
}
CuResult cuModuleUnload(CuModule) {
  FAKE("cuModuleUnload");
  --fake_driver()->modules;
  return kCuSuccess;
}
CuResult cuModuleGetFunction(CuFunction* function, CuModule, const char* name) {
  FAKE("cuModuleGetFunction");
  static std::map<std::string, FakeKernel> kernels;
  *function = reinterpret_cast<CuFunction>(&(kernels[name] = FakeKernel{name}));
  return kCuSuccess;
}
CuResult cuFuncGetAttribute(int* value, int attribute, CuFunction) {
  FAKE("cuFuncGetAttribute");
  *value = attribute == kCuFunctionRegisters ? 168 : 0;
  return kCuSuccess;
}
CuResult cuFuncSetAttribute(CuFunction function, int attribute, int value) {
  FAKE("cuFuncSetAttribute");
  if (attribute == kCuFunctionMaxDynamicSharedBytes)
    fake_driver()->shared_bytes_asked_for[reinterpret_cast<FakeKernel*>(function)->name] = value;
  return kCuSuccess;
}
CuResult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CuFunction, int, size_t) {
  FAKE("cuOccupancyMaxActiveBlocksPerMultiprocessor");
  *blocks = fake_driver()->blocks_per_multiprocessor_of_a_kernel;
  return kCuSuccess;
}
CuResult cuLaunchKernelEx(const CuLaunchConfig* config, CuFunction function, void** parameters, void**) {
  FAKE("cuLaunchKernelEx");
  auto& fake = *fake_driver();
  tilewright::testing::FakeLaunch launch;
  launch.kernel = reinterpret_cast<FakeKernel*>(function)->name;
  launch.blocks = config->grid_x;
  launch.threads = config->block_x;
  launch.shared_bytes = config->shared_bytes;
  launch.stream = config->stream;
  for (unsigned i = 0; i < config->attribute_count; ++i)
    if (config->attributes[i].id == kCuLaunchClusterDimension) launch.cluster = config->attributes[i].value.cluster.x;
  fake.launches.push_back(launch);
  if (fake.on_launch) fake.on_launch(parameters);
  return kCuSuccess;
}
CuResult cuTensorMapEncodeTiled(CuTensorMap*, int data_type, unsigned rank, void* address, const uint64_t* sizes,
                                const uint64_t* byte_strides, const unsigned* box, const unsigned*, int, int swizzle,
                                int, int outside) {
  FAKE("cuTensorMapEncodeTiled");
  FakeTensorMap map{data_type, swizzle, outside, address, {}, {}, {}};
  map.sizes.assign(sizes, sizes + rank);
  map.byte_strides.assign(byte_strides, byte_strides + rank - 1);
  map.box.assign(box, box + rank);
  fake_driver()->tensor_maps.push_back(std::move(map));
  return kCuSuccess;
}
CuResult cuPointerGetAttribute(void* value, int attribute, CuDevicePointer pointer) {
  FAKE("cuPointerGetAttribute");
  const FakeMemory* memory = memory_at(pointer);
  if (!memory) return kCuInvalidValue;
  if (attribute == kCuPointerDeviceOrdinal)
    *static_cast<int*>(value) = memory->ordinal;
  else if (attribute == kCuPointerIsManaged)
    *static_cast<unsigned*>(value) = memory->managed ? 1 : 0;
  else
    *static_cast<unsigned*>(value) = kCuMemoryDevice;
  return kCuSuccess;
}
CuResult cuStreamGetCtx(CuStream stream, CuContext* context) {
  FAKE("cuStreamGetCtx");
  const auto found = fake_driver()->streams.find(stream);
  if (found == fake_driver()->streams.end()) return kCuInvalidValue;
  *context = found->second;
  return kCuSuccess;
}
CuResult cuDeviceTotalMem_v2(size_t* bytes, CuDevice) {
  *bytes = size_t{141} << 30;
  return kCuSuccess;
}
CuResult cuEventCreate(CuEvent* event, unsigned) {
  FAKE("cuEventCreate");
  *event = reinterpret_cast<CuEvent>(uintptr_t{0x9000} + static_cast<uintptr_t>(++fake_driver()->events));
  return kCuSuccess;
}
CuResult cuEventDestroy_v2(CuEvent) {
  FAKE("cuEventDestroy");
  --fake_driver()->events;
  return kCuSuccess;
}
CuResult cuEventRecord(CuEvent, CuStream) { return note("cuEventRecord"); }
CuResult cuEventSynchronize(CuEvent) { return note("cuEventSynchronize"); }
CuResult cuEventElapsedTime(float* milliseconds, CuEvent begin, CuEvent end) {
  FAKE("cuEventElapsedTime");
  *milliseconds = begin == end ? 0 : fake_driver()->milliseconds;
  return kCuSuccess;
}
CuResult cuMemsetD8Async(CuDevicePointer to, unsigned char value, size_t bytes, CuStream) {
  FAKE("cuMemsetD8Async");
  std::memset(reinterpret_cast<void*>(to), value, bytes);
  return kCuSuccess;
}
CuResult cuMemAlloc_v2(CuDevicePointer* pointer, size_t bytes) {
  FAKE("cuMemAlloc");
  const size_t rounded = (bytes + 255) / 256 * 256;
  void* memory = std::aligned_alloc(256, rounded);
  *pointer = reinterpret_cast<uintptr_t>(memory);
  fake_driver()->memory[reinterpret_cast<uintptr_t>(memory)] = {rounded, 0, false};
  return kCuSuccess;
}
CuResult cuMemFree_v2(CuDevicePointer pointer) {
  FAKE("cuMemFree");
  fake_driver()->memory.erase(static_cast<uintptr_t>(pointer));
  std::free(reinterpret_cast<void*>(pointer));
  return kCuSuccess;
}
CuResult cuMemcpyHtoD_v2(CuDevicePointer to, const void* from, size_t bytes) {
  FAKE("cuMemcpyHtoD");
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return kCuSuccess;
}
CuResult cuMemcpyDtoH_v2(void* to, CuDevicePointer from, size_t bytes) {
  FAKE("cuMemcpyDtoH");
  std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return kCuSuccess;
}
}
