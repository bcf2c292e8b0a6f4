// Kernels on a GPU as the driver sees it: a fake one that notes every call. What a run asks of the driver, what it
// hands to it, and what bad input gets before anything is launched.
#include "runtime/cuda/driver_device.h"

#include <algorithm>
#include <set>

#include "ir/text.h"
#include "runtime/cuda/cuda_kernel.h"
#include "tests/cuda/cuda_support.h"
#include "tests/cuda/fake_libraries.h"

namespace tilewright {
namespace {

using testing::expect_parts;
using testing::FakeLaunch;
using testing::the_fake_driver;

constexpr const char* kNarrowCausal = R"(
graph @causal(%q: bf16[B,2,S,64], %k: bf16[B,2,S,64], %v: bf16[B,2,S,64]) -> bf16[B,2,S,64] {
  %s = matmul_nt %q, %k               : f32[B,2,S,S]
  %e = mask_causal %s, align=top_left : f32[B,2,S,S]
  %p = softmax %e, axis=3             : f32[B,2,S,S]
  %c = cast %p                        : bf16[B,2,S,S]
  %o = matmul %c, %v                  : bf16[B,2,S,64]
  return %o
})";

const CuStream kStream = reinterpret_cast<CuStream>(0x7000);

CuContext context() { return reinterpret_cast<CuContext>(0x3000); }

void make_current() {
  the_fake_driver().current = context();
  the_fake_driver().streams[kStream] = context();
}

std::string text(const Diagnostics& errors) { return to_string(errors); }

/// A kernel loaded in a caller's context, and device memory for its arguments.
class FakeGpu : public ::testing::Test {
 protected:
  static constexpr int64_t kLength = 100, kElements = 2 * 2 * kLength * 64;

  void SetUp() override {
    TILEWRIGHT_NEEDS_NVRTC();
    testing::reset_fake_driver();
    make_current();
    if (!kernel_) {
      const auto graph = parse_graph(kNarrowCausal);
      ASSERT_TRUE(graph) << text(graph.error());
      driver_ = new Result<CudaDriver>(testing::load_fake_driver());
      ASSERT_TRUE(*driver_) << text(driver_->error());
      const auto device = DriverDevice::of_current_context("", *driver_);
      ASSERT_TRUE(device) << text(device.error());
      device_ = new std::shared_ptr<const DriverDevice>(*device);
      const auto program = compile_cuda_program(*graph, (*device)->target());
      ASSERT_TRUE(program) << text(program.error());
      auto kernel = CudaKernel::load(*program, *device);
      ASSERT_TRUE(kernel) << text(kernel.error());
      kernel_ = new CudaKernel(std::move(*kernel));
      memory_ = new std::vector<std::shared_ptr<void>>;
      for (int i = 0; i < 5; ++i) memory_->push_back(*(*device)->allocate(kElements * 2));
      asked_for_ = the_fake_driver().shared_bytes_asked_for;
    }
    for (size_t i = 0; i < 4; ++i) {
      const TensorView view = TensorView::contiguous((*memory_)[i].get(), DType::bf16, {2, 2, kLength, 64});
      if (i < 3)
        inputs_.push_back(view);
      else
        outputs_.push_back(view);
    }
    options_.stream = kStream;
    options_.taken = &taken_;
    the_fake_driver().calls.clear();
  }
  Result<Done> run() {
    const auto bytes = kernel_->workspace_bytes({{"B", 2}, {"S", kLength}});
    EXPECT_TRUE(bytes);
    std::shared_ptr<void> workspace = *(*device_)->allocate(std::max<int64_t>(*bytes, 1));
    options_.workspace = workspace.get();
    options_.workspace_bytes = *bytes;
    the_fake_driver().calls.clear();
    auto done = kernel_->run(inputs_, outputs_, options_);
    calls_ = the_fake_driver().calls;
    return done;
  }
  void expect_refused(std::initializer_list<const char*> parts) {
    const auto done = run();
    ASSERT_FALSE(done);
    expect_parts(text(done.error()), parts);
    EXPECT_TRUE(the_fake_driver().launches.empty());
  }

  // Loaded once: NVRTC takes a second for its choices.
  static inline Result<CudaDriver>* driver_ = nullptr;
  static inline std::shared_ptr<const DriverDevice>* device_ = nullptr;
  static inline CudaKernel* kernel_ = nullptr;
  static inline std::vector<std::shared_ptr<void>>* memory_ = nullptr;
  static inline std::map<std::string, int> asked_for_;
  std::vector<TensorView> inputs_, outputs_;
  std::vector<CudaStepRun> taken_;
  std::vector<std::string> calls_;
  CudaRunOptions options_;
};

TEST_F(FakeGpu, ARunAsksForNothingThatAllocatesWaitsOrBreaksACapture) {
  const auto done = run();
  ASSERT_TRUE(done) << text(done.error());
  for (const std::string& call : calls_)
    EXPECT_TRUE(call == "cuCtxGetCurrent" || call == "cuStreamGetCtx" || call == "cuPointerGetAttribute" ||
                call == "cuTensorMapEncodeTiled" || call == "cuLaunchKernelEx")
        << call;
  EXPECT_EQ(std::count(calls_.begin(), calls_.end(), "cuLaunchKernelEx"), 1);
}

TEST_F(FakeGpu, LaunchesOnTheCallersStreamInTheCallersContext) {
  ASSERT_TRUE(run());
  ASSERT_EQ(the_fake_driver().launches.size(), 1u);
  EXPECT_EQ(the_fake_driver().launches[0].stream, kStream);
  EXPECT_EQ(the_fake_driver().current, context());
  options_.stream = nullptr;
  ASSERT_TRUE(run());
  EXPECT_EQ(the_fake_driver().launches[1].stream, nullptr);
}

TEST_F(FakeGpu, HandsOverRawPointersStridesAndTensorMaps) {
  inputs_[1].strides = {};  // K as [B, S, 2, 64], as projections leave it
  const int64_t strides[] = {kLength * 128, 64, 128, 1};
  std::copy(std::begin(strides), std::end(strides), inputs_[1].strides.begin());
  std::vector<uint64_t> words;
  the_fake_driver().on_launch = [&](void** parameters) {
    const auto* args = static_cast<const uint64_t*>(parameters[0]);
    words.assign(args, args + 40);
  };
  ASSERT_TRUE(run());
  const CudaStep& step = kernel_->program().steps[0];
  ASSERT_EQ(step.choices[taken_[0].choice].source.launch.schedule.kernel, CudaTemplate::sm90_prefill);
  std::set<uint64_t> pointers(words.begin(), words.begin() + 4);
  for (size_t i = 0; i < 4; ++i) EXPECT_TRUE(pointers.contains(reinterpret_cast<uintptr_t>((*memory_)[i].get())));
  EXPECT_NE(std::search(words.begin(), words.end(), std::begin(strides), std::end(strides)), words.end());
  ASSERT_EQ(the_fake_driver().tensor_maps.size(), 4u);
  const testing::FakeTensorMap& key = the_fake_driver().tensor_maps[1];
  EXPECT_EQ(key.address, inputs_[1].data);
  EXPECT_EQ(key.data_type, kCuTensorBfloat16);
  EXPECT_EQ(key.swizzle, kCuTensorSwizzle128);
  EXPECT_EQ(key.outside, kCuTensorOutsideIsZero);
  EXPECT_EQ(key.sizes, (std::vector<uint64_t>{64, kLength, 2, 2}));
  EXPECT_EQ(key.byte_strides, (std::vector<uint64_t>{256, 128, kLength * 256}));
  EXPECT_EQ(key.box[0], 64u);
}

TEST_F(FakeGpu, OptsInToTheSharedMemoryThatKernelsTake) {
  ASSERT_TRUE(run());
  const FakeLaunch& launch = the_fake_driver().launches[0];
  ASSERT_GT(launch.shared_bytes, 48u << 10);
  EXPECT_EQ(asked_for_.at(launch.kernel), static_cast<int>(launch.shared_bytes));
  EXPECT_EQ(launch.cluster, 1u);
}

TEST_F(FakeGpu, WhereNoTensorMapFitsAnotherChoiceRunsAndSaysWhy) {
  const auto template_of_run = [&] {
    const auto done = run();
    EXPECT_TRUE(done) << text(done.error());
    const CudaSource& source = kernel_->program().steps[0].choices[taken_[0].choice].source;
    EXPECT_EQ(the_fake_driver().launches.back().threads, static_cast<unsigned>(source.launch.phases.back().threads));
    return to_string(source.launch.schedule.kernel);
  };
  EXPECT_EQ(template_of_run(), "sm90_prefill");
  inputs_[2].strides[2] = 65;
  EXPECT_EQ(template_of_run(), "sm80_prefill");
  expect_parts(taken_[0].passed_over.back(), {"sm90_prefill: %v: axis 2 has a stride of 65 elements", "16 bytes"});
  inputs_[2].strides[2] = 64;
  inputs_[0].data = static_cast<std::byte*>(inputs_[0].data) + 2;
  EXPECT_EQ(template_of_run(), "sm80_prefill");
  expect_parts(taken_[0].passed_over.back(), {"sm90_prefill: %q: its data is not 16-byte aligned"});
}

TEST_F(FakeGpu, NullAndMisalignedPointersAreNamed) {
  inputs_[1].data = nullptr;
  expect_refused({"%k: its data is null"});
  inputs_[1].data = static_cast<std::byte*>((*memory_)[1].get()) + 1;
  expect_refused({"%k: its data is not aligned to its 2-byte elements"});
}

TEST_F(FakeGpu, HostTensorsAreNamed) {
  std::vector<uint16_t> host(kElements);
  inputs_[2].data = host.data();
  expect_refused({"%v lies in host memory"});
}

TEST_F(FakeGpu, TensorsOfAnotherDeviceAreNamedAndManagedMemoryIsTaken) {
  auto& memory = the_fake_driver().memory.at(reinterpret_cast<uintptr_t>(inputs_[0].data));
  memory.ordinal = 1;
  expect_refused({"%q lies on CUDA device 1", "the kernel is loaded on device 0"});
  memory.managed = true;
  EXPECT_TRUE(run());
  memory = {memory.bytes, 0, false};
}

TEST_F(FakeGpu, AStreamOrACurrentContextThatIsNotTheKernelsIsNamed) {
  the_fake_driver().streams[kStream] = reinterpret_cast<CuContext>(0x4000);
  expect_refused({"the stream 0x7000 belongs to another CUDA context (0x4000)", "(0x3000)"});
  the_fake_driver().streams[kStream] = context();
  the_fake_driver().current = reinterpret_cast<CuContext>(0x4000);
  expect_refused({"current on this thread (0x4000)", "(0x3000)"});
  the_fake_driver().current = nullptr;
  expect_refused({"current on this thread", "(0x3000)"});
  the_fake_driver().current = context();
  options_.stream = reinterpret_cast<void*>(0x7777);
  expect_refused({"asking for the context of the stream 0x7777 failed"});
}

TEST_F(FakeGpu, WhatTheDriverRefusesIsASentenceWithItsWords) {
  the_fake_driver().fails["cuLaunchKernelEx"] = kCuLaunchOutOfResources;
  auto done = run();
  ASSERT_FALSE(done);
  expect_parts(text(done.error()), {"launching ", " blocks of ", "CUDA_ERROR_OF_THE_FAKE (701), what the driver says"});
  the_fake_driver().fails = {{"cuTensorMapEncodeTiled", kCuInvalidValue}};
  done = run();
  ASSERT_FALSE(done);
  expect_parts(text(done.error()), {"describing a tensor to ", "(1)"});
  EXPECT_TRUE(the_fake_driver().launches.empty());
}

/// Loads of one small kernel; what the driver refuses.
class FakeGpuLoad : public ::testing::Test {
 protected:
  void SetUp() override {
    TILEWRIGHT_NEEDS_NVRTC();
    testing::reset_fake_driver();
    make_current();
    source_.parts = {
        "struct Args { void* tensors[1]; i64 meta[1]; void* workspace; };\nTW_KERNEL(32, 1) kernel(TW_PARAM Args) "
        "{}\n"};
    source_.launch.phases.emplace_back();
    source_.launch.phases[0].symbol = "kernel";
    source_.launch.phases[0].threads = 32;
  }
  Result<std::shared_ptr<const DriverDevice>> open() {
    driver_ = testing::load_fake_driver();
    return DriverDevice::of_current_context("", driver_);
  }
  std::string refused() {
    const auto device = open();
    if (!device) return text(device.error());
    const auto module = (*device)->load(source_);
    EXPECT_FALSE(module);
    return module ? "" : text(module.error());
  }
  CudaSource source_;
  Result<CudaDriver> driver_ = invalid("not loaded");
};

TEST_F(FakeGpuLoad, KeepsTheCallersContextCurrent) {
  const auto device = open();
  ASSERT_TRUE(device) << text(device.error());
  CuContext other = reinterpret_cast<CuContext>(0x5000);
  the_fake_driver().current = other;
  const int before = the_fake_driver().modules;
  {
    const auto module = (*device)->load(source_);
    ASSERT_TRUE(module) << text(module.error());
    EXPECT_EQ(the_fake_driver().current, other);
    EXPECT_EQ(the_fake_driver().modules, before + 1);
  }
  EXPECT_EQ(the_fake_driver().modules, before);
}

TEST_F(FakeGpuLoad, ClustersAreLaunchedAsOne) {
  source_.launch.phases[0].cluster = 2;
  const auto device = open();
  ASSERT_TRUE(device) << text(device.error());
  const auto module = (*device)->load(source_);
  ASSERT_TRUE(module) << text(module.error());
  const uint64_t words[3] = {};
  ASSERT_TRUE((*module)->launch({0, 6, words, {}, kStream}));
  EXPECT_EQ(the_fake_driver().launches.back().cluster, 2u);
}

TEST_F(FakeGpuLoad, AKernelOfWhichNoBlockFitsIsNamedBeforeItIsLaunched) {
  the_fake_driver().blocks_per_multiprocessor_of_a_kernel = 0;
  expect_parts(refused(), {"no block of the kernel kernel", "32 threads of 168 registers"});
}

TEST_F(FakeGpuLoad, SharedMemoryThatTheDriverDoesNotGiveIsNamed) {
  source_.launch.phases[0].shared_bytes = 100 << 10;
  the_fake_driver().fails["cuFuncSetAttribute"] = kCuInvalidValue;
  expect_parts(refused(), {"asking for 102400 bytes of shared memory for kernel failed", "(1)"});
}

TEST_F(FakeGpuLoad, ACubinThatTheDriverIsTooOldForSaysWhichCudaItKnows) {
  the_fake_driver().fails["cuModuleLoadData"] = kCuNoBinaryForGpu;
  expect_parts(refused(), {"loading a cubin for sm_90a failed", "the driver knows CUDA 13.0", "NVRTC"});
}

TEST_F(FakeGpuLoad, AContextAndADeviceOfAnArchitectureAreNeeded) {
  the_fake_driver().current = nullptr;
  expect_parts(refused(), {"no CUDA context is current on this thread", "cudaFree(0)"});
  make_current();
  the_fake_driver().capability = 75;
  expect_parts(refused(), {"Fake GPU has compute capability 7.5", "8.0, 8.6"});
}

TEST_F(FakeGpuLoad, TheDevicesOwnSharedMemoryBoundsWhatIsTaken) {
  the_fake_driver().shared_bytes_per_block = 48 << 10;
  const auto device = open();
  ASSERT_TRUE(device) << text(device.error());
  const auto graph = parse_graph(kNarrowCausal);
  // Planned for a Hopper with all of its shared memory, loaded on one that gives less.
  const auto program = compile_cuda_program(*graph, *parse_cuda_target("sm_90a"));
  ASSERT_TRUE(program);
  const auto kernel = CudaKernel::load(*program, *device);
  ASSERT_FALSE(kernel);
  expect_parts(text(kernel.error()), {"bytes of shared memory per block, and the device has 49152"});
}

TEST(FakeDriver, StartsNoDriverThatRefusesAndSaysWhy) {
  testing::reset_fake_driver();
  const auto why = [](CuResult result) {
    the_fake_driver().fails["cuInit"] = result;
    const auto driver = testing::load_fake_driver();
    EXPECT_FALSE(driver);
    return driver ? "" : text(driver.error());
  };
  expect_parts(why(kCuStubLibrary), {"link stub", "LD_LIBRARY_PATH", "cuda-emu"});
  expect_parts(why(kCuNoDevice), {"sees no CUDA device", "cuda-emu"});
  expect_parts(why(kCuSystemDriverMismatch), {"different versions", "reboot"});
  expect_parts(why(kCuCompatNotSupported), {"forward-compatibility driver"});
  expect_parts(why(kCuOutOfMemory), {"starting NVIDIA's driver", "CUDA_ERROR_OF_THE_FAKE (2)"});
}

TEST(FakeDriver, OpensTheDeviceThatIsAskedFor) {
  testing::reset_fake_driver();
  the_fake_driver().devices = 2;
  const auto driver = testing::load_fake_driver();
  ASSERT_TRUE(driver) << text(driver.error());
  EXPECT_EQ(driver->devices().size(), 2u);
  {
    const auto device = DriverDevice::open(1, "", driver);
    ASSERT_TRUE(device) << text(device.error());
    EXPECT_EQ((*device)->target().architecture(), "sm_90a");
    EXPECT_EQ(the_fake_driver().current, testing::fake_primary_context());
  }
  EXPECT_EQ(the_fake_driver().calls.back(), "cuDevicePrimaryCtxRelease");
  const auto beyond = DriverDevice::open(2, "", driver);
  ASSERT_FALSE(beyond);
  expect_parts(text(beyond.error()), {"there is no CUDA device 2: the driver sees 2"});
}

}  // namespace
}  // namespace tilewright
