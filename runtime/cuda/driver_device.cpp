#include "runtime/cuda/driver_device.h"

#include <cstring>

#include "runtime/cuda/cubin_cache.h"
#include "runtime/cuda/driver_clock.h"
#include "runtime/inline_array.h"

namespace tilewright {
namespace {

constexpr int64_t kZeroBytes = 256;
/// Dynamic shared memory that a kernel gets without asking for more.
constexpr int64_t kSharedWithoutAsking = 48 << 10;
/// CU_STREAM_LEGACY and CU_STREAM_PER_THREAD, which are no pointers.
constexpr uintptr_t kSpecialStreams = 2;

int data_type(DType dtype) {
  switch (dtype) {
    case DType::f16: return kCuTensorFloat16;
    case DType::bf16: return kCuTensorBfloat16;
    case DType::f32: return kCuTensorFloat32;
    default: return kCuTensorFloat64;
  }
}

CuDevicePointer device_pointer(const void* data) { return reinterpret_cast<uintptr_t>(data); }

/// Makes a context current on this thread, and what was current again.
class CurrentContext {
 public:
  CurrentContext(const DriverApi& api, CuContext context) : api_(api) {
    result_ = api.cuCtxGetCurrent(&before_);
    if (result_ == kCuSuccess && before_ != context) result_ = api.cuCtxSetCurrent(context);
    changed_ = result_ == kCuSuccess && before_ != context;
  }
  ~CurrentContext() {
    if (changed_) api_.cuCtxSetCurrent(before_);
  }
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;
  CuResult result() const { return result_; }

 private:
  const DriverApi& api_;
  CuContext before_ = nullptr;
  CuResult result_ = kCuSuccess;
  bool changed_ = false;
};

class DriverModule final : public CudaModule {
 public:
  DriverModule(const CudaDriver& driver, CudaBinary binary, CudaLaunch launch)
      : driver_(driver), binary_(std::move(binary)), launch_(std::move(launch)) {}
  ~DriverModule() override {
    if (module_) driver_.api().cuModuleUnload(module_);  // fails without harm where the context is gone
  }
  DriverModule(const DriverModule&) = delete;
  DriverModule& operator=(const DriverModule&) = delete;

  /// In the current context. Functions are fetched here: a lazy first load would break the capture of a run.
  Result<Done> load() {
    const DriverApi& api = driver_.api();
    if (const CuResult result = api.cuModuleLoadData(&module_, binary_.cubin.data()); result != kCuSuccess) {
      Diagnostic error = driver_.error("loading a cubin for " + binary_.architecture, result);
      if (result == kCuInvalidImage || result == kCuNoBinaryForGpu || result == kCuUnsupportedPtxVersion)
        error.message += fmt::format(
            "; the driver knows CUDA {}: an NVRTC of that version or older makes what it takes (a toolkit "
            "named by CUDA_HOME, or pip's nvidia-cuda-nvrtc-cu12), and so does a newer driver",
            cuda_version_text(driver_.version()));
      return error;
    }
    for (const CudaPhase& phase : launch_.phases) {
      CuFunction function = nullptr;
      if (const CuResult result = api.cuModuleGetFunction(&function, module_, phase.symbol.c_str());
          result != kCuSuccess)
        return driver_.error("finding the kernel " + phase.symbol, result);
      if (phase.shared_bytes > kSharedWithoutAsking)
        if (const CuResult result = api.cuFuncSetAttribute(function, kCuFunctionMaxDynamicSharedBytes,
                                                           static_cast<int>(phase.shared_bytes));
            result != kCuSuccess)
          return driver_.error(
              fmt::format("asking for {} bytes of shared memory for {}", phase.shared_bytes, phase.symbol), result);
      if (auto ok = check_occupancy(phase, function); !ok) return ok;
      functions_.push_back(function);
    }
    return Done{};
  }

  Result<Done> launch(const CudaKernelCall& call) const override {
    const CudaPhase& phase = launch_.phases[call.phase];
    constexpr size_t kMaxMaps = 16;
    std::array<CuTensorMap, kMaxMaps> maps;
    std::array<void*, kMaxMaps + 1> parameters;
    parameters[0] = const_cast<uint64_t*>(call.args.data());
    for (size_t i = 0; i < call.tensor_maps.size(); ++i) {
      if (auto ok = encode(call.tensor_maps[i], phase.symbol, maps[i]); !ok) return ok;
      parameters[i + 1] = &maps[i];
    }
    CuLaunchConfig config{};
    config.grid_x = static_cast<unsigned>(call.blocks);
    config.block_x = static_cast<unsigned>(phase.threads);
    config.grid_y = config.grid_z = config.block_y = config.block_z = 1;
    config.shared_bytes = static_cast<unsigned>(phase.shared_bytes);
    config.stream = static_cast<CuStream>(call.stream);
    CuLaunchAttribute cluster{};
    if (phase.cluster > 1) {
      TW_CHECK(call.blocks % phase.cluster == 0);
      cluster.id = kCuLaunchClusterDimension;
      cluster.value.cluster = {static_cast<unsigned>(phase.cluster), 1, 1};
      config.attributes = &cluster;
      config.attribute_count = 1;
    }
    const CuResult result = driver_.api().cuLaunchKernelEx(&config, functions_[call.phase], parameters.data(), nullptr);
    if (result == kCuSuccess) return Done{};
    return driver_.error(fmt::format("launching {} with {} blocks of {} threads and {} bytes of shared memory",
                                     phase.symbol, call.blocks, phase.threads, phase.shared_bytes),
                         result);
  }

  const CudaBinary* binary() const override { return &binary_; }

 private:
  /// A kernel of which no block fits would fail at every launch.
  Result<Done> check_occupancy(const CudaPhase& phase, CuFunction function) const {
    int blocks = 0, registers = 0;
    if (const CuResult result = driver_.api().cuOccupancyMaxActiveBlocksPerMultiprocessor(
            &blocks, function, static_cast<int>(phase.threads), static_cast<size_t>(phase.shared_bytes));
        result != kCuSuccess)
      return driver_.error("asking for the occupancy of " + phase.symbol, result);
    if (blocks > 0) return Done{};
    driver_.api().cuFuncGetAttribute(&registers, kCuFunctionRegisters, function);
    return unsupported(
        "no block of the kernel {} ({}) fits on a multiprocessor of the device: {} threads of {} registers and {} "
        "bytes of shared memory",
        phase.symbol, print(launch_.schedule), phase.threads, registers, phase.shared_bytes);
  }

  Result<Done> encode(const TensorMapView& view, const std::string& symbol, CuTensorMap& map) const {
    std::array<uint64_t, TensorMapView::kMaxAxes> sizes{}, strides{};
    std::array<unsigned, TensorMapView::kMaxAxes> box{}, steps{};
    const auto rank = static_cast<size_t>(view.rank);
    for (size_t i = 0; i < rank; ++i) {
      sizes[i] = static_cast<uint64_t>(view.sizes[i]);
      box[i] = static_cast<unsigned>(view.box[i]);
      steps[i] = 1;
      if (i > 0) strides[i - 1] = static_cast<uint64_t>(view.byte_strides[i]);  // that of axis 0 is the element
    }
    const CuResult result = driver_.api().cuTensorMapEncodeTiled(
        &map, data_type(view.dtype), static_cast<unsigned>(rank), view.address, sizes.data(), strides.data(),
        box.data(), steps.data(), kCuTensorInterleaveNone, kCuTensorSwizzle128, kCuTensorL2Promotion256,
        kCuTensorOutsideIsZero);
    if (result == kCuSuccess) return Done{};
    return driver_.error("describing a tensor to " + symbol, result);
  }

  const CudaDriver& driver_;
  CudaBinary binary_;
  CudaLaunch launch_;
  CuModule module_ = nullptr;
  std::vector<CuFunction> functions_;
};

}  // namespace

Result<CudaTarget> code_target(const CudaDeviceFacts& device) {
  const CudaTarget* best = nullptr;
  for (const CudaTarget& known : cuda_targets())
    if (known.capability / 10 == device.target.capability / 10 && known.capability <= device.target.capability &&
        (!known.architecture_specific || known.capability == device.target.capability))
      best = &known;
  if (!best)
    return unsupported("{} has compute capability {}.{}: kernels are generated for 8.0, 8.6, 8.9, 9.0, 10.x and 12.x",
                       device.name, device.target.capability / 10, device.target.capability % 10);
  CudaTarget target = device.target;
  target.capability = best->capability;
  target.architecture_specific = best->architecture_specific;
  return target;
}

Result<std::shared_ptr<const DriverDevice>> DriverDevice::create(const CudaDriver& driver, CuContext context,
                                                                 int ordinal, bool is_ours,
                                                                 const std::string& cache_dir) {
  std::shared_ptr<DriverDevice> device(new DriverDevice);
  device->driver_ = &driver;
  device->context_ = context;
  device->ordinal_ = ordinal;
  device->releases_primary_ = is_ours;
  auto target = code_target(driver.devices()[static_cast<size_t>(ordinal)]);
  if (!target) return target.error();
  device->target_ = *target;
  auto zeros = device->allocate(kZeroBytes);
  if (!zeros) return zeros.error();
  const std::array<std::byte, kZeroBytes> none{};
  if (auto ok = device->copy_in(zeros->get(), none.data(), kZeroBytes); !ok) return ok.error();
  device->zeros_ = std::move(*zeros);
  if (!cache_dir.empty()) device->cache_ = std::make_unique<CacheWriter>(DiskCache::open(cache_dir));
  return std::shared_ptr<const DriverDevice>(std::move(device));
}

Result<std::shared_ptr<const DriverDevice>> DriverDevice::of_current_context(const std::string& cache_dir,
                                                                             const Result<CudaDriver>& driver) {
  if (!driver) return driver.error();
  CuContext context = nullptr;
  CuDevice device = 0;
  if (driver->api().cuCtxGetCurrent(&context) != kCuSuccess || !context)
    return invalid(
        "no CUDA context is current on this thread: make one current first (torch.cuda.init(), cudaFree(0))");
  if (const CuResult result = driver->api().cuCtxGetDevice(&device); result != kCuSuccess)
    return driver->error("asking for the current device", result);
  for (const CudaDeviceFacts& facts : driver->devices())
    if (facts.handle == device) return create(*driver, context, facts.ordinal, false, cache_dir);
  return invalid("the current CUDA context is of a device that the driver does not list");
}

Result<std::shared_ptr<const DriverDevice>> DriverDevice::open(int ordinal, const std::string& cache_dir,
                                                               const Result<CudaDriver>& driver) {
  if (!driver) return driver.error();
  if (ordinal < 0 || ordinal >= static_cast<int>(driver->devices().size()))
    return invalid("there is no CUDA device {}: the driver sees {}", ordinal, driver->devices().size());
  const CudaDeviceFacts& facts = driver->devices()[static_cast<size_t>(ordinal)];
  CuContext context = nullptr;
  CuResult result = driver->api().cuDevicePrimaryCtxRetain(&context, facts.handle);
  if (result == kCuSuccess) result = driver->api().cuCtxSetCurrent(context);
  if (result != kCuSuccess) return driver->error("opening " + facts.name, result);
  return create(*driver, context, ordinal, true, cache_dir);
}

DriverDevice::~DriverDevice() {
  zeros_.reset();
  if (releases_primary_)
    driver_->api().cuDevicePrimaryCtxRelease_v2(driver_->devices()[static_cast<size_t>(ordinal_)].handle);
}

Result<std::shared_ptr<const CudaModule>> DriverDevice::load(const CudaSource& source) const {
  const Result<Nvrtc>& compiler = nvrtc();
  if (!compiler) return compiler.error();
  auto binary = find_or_compile(nvrtc_text(source), target_, *compiler, driver_->version(), cache_.get());
  if (!binary) return binary.error();
  // Loads come from threads of their own, which have no context yet, and from the caller's, which keeps its own.
  const CurrentContext current(driver_->api(), context_);
  if (current.result() != kCuSuccess) return driver_->error("making the context current", current.result());
  auto module = std::make_shared<DriverModule>(*driver_, std::move(*binary), source.launch);
  if (auto ok = module->load(); !ok) return ok.error();
  return std::shared_ptr<const CudaModule>(std::move(module));
}

Result<Done> DriverDevice::check_stream(void* stream) const {
  CuContext current = nullptr;
  if (const CuResult result = driver_->api().cuCtxGetCurrent(&current); result != kCuSuccess)
    return driver_->error("asking for the current context", result);
  if (current != context_)
    return invalid(
        "the CUDA context that is current on this thread ({}) is not the one that the kernel was loaded in ({})",
        static_cast<void*>(current), static_cast<void*>(context_));
  if (reinterpret_cast<uintptr_t>(stream) <= kSpecialStreams) return Done{};
  CuContext of_stream = nullptr;
  if (const CuResult result = driver_->api().cuStreamGetCtx(static_cast<CuStream>(stream), &of_stream);
      result != kCuSuccess)
    return driver_->error(fmt::format("asking for the context of the stream {}", stream), result);
  if (of_stream != context_)
    return invalid("the stream {} belongs to another CUDA context ({}) than the kernel ({})", stream,
                   static_cast<void*>(of_stream), static_cast<void*>(context_));
  return Done{};
}

Result<Done> DriverDevice::check_memory(const std::string& name, const void* data) const {
  const DriverApi& api = driver_->api();
  unsigned type = 0, managed = 0;
  int ordinal = ordinal_;
  const CuDevicePointer pointer = device_pointer(data);
  if (api.cuPointerGetAttribute(&type, kCuPointerMemoryType, pointer) != kCuSuccess) type = 0;
  const bool on_a_device = type == kCuMemoryDevice;
  if (on_a_device) api.cuPointerGetAttribute(&ordinal, kCuPointerDeviceOrdinal, pointer);
  if (on_a_device && ordinal == ordinal_) return Done{};
  // Managed memory goes where it is wanted.
  if (api.cuPointerGetAttribute(&managed, kCuPointerIsManaged, pointer) == kCuSuccess && managed != 0) return Done{};
  if (!on_a_device)
    return invalid("{} lies in host memory ({}): GPU kernels take pointers to device memory", name, data);
  return invalid("{} lies on CUDA device {} ({}), and the kernel is loaded on device {}", name, ordinal, data,
                 ordinal_);
}

Result<std::shared_ptr<void>> DriverDevice::allocate(int64_t bytes) const {
  CuDevicePointer pointer = 0;
  if (const CuResult result = driver_->api().cuMemAlloc_v2(&pointer, static_cast<size_t>(std::max<int64_t>(bytes, 1)));
      result != kCuSuccess)
    return driver_->error(fmt::format("allocating {} bytes on the device", bytes), result);
  return std::shared_ptr<void>(reinterpret_cast<void*>(pointer),
                               [driver = driver_](void* data) { driver->api().cuMemFree_v2(device_pointer(data)); });
}

Result<Done> DriverDevice::copy_in(void* device, const void* host, int64_t bytes) const {
  if (const CuResult result = driver_->api().cuMemcpyHtoD_v2(device_pointer(device), host, static_cast<size_t>(bytes));
      result != kCuSuccess)
    return driver_->error(fmt::format("copying {} bytes to the device", bytes), result);
  return Done{};
}

Result<Done> DriverDevice::copy_out(void* host, const void* device, int64_t bytes) const {
  CuResult result = driver_->api().cuCtxSynchronize();
  if (result == kCuSuccess)
    result = driver_->api().cuMemcpyDtoH_v2(host, device_pointer(device), static_cast<size_t>(bytes));
  if (result != kCuSuccess)
    return driver_->error(fmt::format("finishing the launches and copying {} bytes from the device", bytes), result);
  return Done{};
}

Result<std::unique_ptr<CudaClock>> DriverDevice::make_clock() const { return make_driver_clock(*driver_, *this); }

MeasuredWith DriverDevice::measured_with() const {
  return tilewright::measured_with(driver_->devices()[static_cast<size_t>(ordinal_)]);
}

MeasuredWith measured_with(const CudaDeviceFacts& facts) {
  std::string name = facts.name;  // the database holds plain text
  for (char& c : name)
    if (c < ' ' || c > '~') c = '?';
  const Result<Nvrtc>& compiler = nvrtc();
  return {fmt::format("{} compute {}.{} multiprocessors {} l2 {} memory {}", name, facts.target.capability / 10,
                      facts.target.capability % 10, facts.target.multiprocessors, facts.target.l2_bytes,
                      facts.memory_bytes),
          fmt::format("nvrtc {} source {}", compiler ? compiler->version() : "none", cuda_source_hash())};
}

}  // namespace tilewright
