// Graphs as CudaKernels: on the emulator against the oracle, and what bad input gets before anything is launched.
#include "runtime/cuda/cuda_kernel.h"

#include <gtest/gtest.h>

#include "emulator/emulator_device.h"
#include "ir/accuracy.h"
#include "ir/text.h"
#include "runtime/cuda/cubin_cache.h"
#include "runtime/cuda/driver_device.h"
#include "runtime/cuda/tensor_maps.h"
#include "tests/cuda/cuda_support.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/test_tensor.h"

namespace tilewright {
namespace {

using testing::expect_parts;
using testing::Layout;
using testing::TestTensor;

constexpr const char* kCausal = R"(
graph @causal(%q: f32[B,2,Sq,16], %k: f32[B,2,Sk,16], %v: f32[B,2,Sk,16]) -> f32[B,2,Sq,16] {
  %s = matmul_nt %q, %k               : f32[B,2,Sq,Sk]
  %a = mul %s, 0.25                   : f32[B,2,Sq,Sk]
  %e = mask_causal %a, align=top_left : f32[B,2,Sq,Sk]
  %p = softmax %e, axis=3             : f32[B,2,Sq,Sk]
  %o = matmul %p, %v                  : f32[B,2,Sq,16]
  return %o
})";

Graph causal() {
  auto graph = parse_graph(kCausal);
  EXPECT_TRUE(graph) << to_string(graph.error());
  return *graph;
}

/// Counts launches and runs nothing: what is checked before a launch shows as none.
class CountingDevice final : public CudaDevice {
 public:
  explicit CountingDevice(const CudaTarget& target) : target_(target) {}
  struct Module final : CudaModule {
    explicit Module(int& count) : launches(count) {}
    Result<Done> launch(const CudaKernelCall& call) const override {
      ++launches;
      EXPECT_GT(call.blocks, 0);
      return Done{};
    }
    int& launches;
  };
  const CudaTarget& target() const override { return target_; }
  Result<std::shared_ptr<const CudaModule>> load(const CudaSource&) const override {
    ++loads;
    return std::shared_ptr<const CudaModule>(std::make_shared<Module>(launches));
  }
  Result<Done> check_stream(void* stream) const override {
    if (stream == reinterpret_cast<void*>(0x10)) return invalid("another context");
    return Done{};
  }
  Result<Done> check_memory(const std::string& name, const void* data) const override {
    if (data == host_memory) return invalid("{} lies in host memory ({})", name, data);
    return Done{};
  }
  void* zeros() const override { return const_cast<std::byte*>(zeros_); }
  bool shares_host_memory() const override { return true; }
  Result<std::shared_ptr<void>> allocate(int64_t) const override { return invalid("nothing is allocated here"); }
  Result<Done> copy_in(void*, const void*, int64_t) const override { return Done{}; }
  Result<Done> copy_out(void*, const void*, int64_t) const override { return Done{}; }

  mutable int launches = 0;
  mutable std::atomic<int> loads = 0;
  const void* host_memory = nullptr;

 private:
  CudaTarget target_;
  alignas(256) std::byte zeros_[256] = {};
};

struct Scene {
  explicit Scene(int64_t sq = 5, int64_t sk = 7) {
    std::mt19937_64 random(1);
    for (const int64_t length : {sq, sk, sk})
      tensors.emplace_back(DType::f32, std::vector<int64_t>{1, 2, length, 16}, Layout::gapped, random);
    tensors.emplace_back(DType::f32, std::vector<int64_t>{1, 2, sq, 16}, Layout::gapped, random);
    tensors[3].poison();
    std::normal_distribution<double> normal;
    for (size_t i = 0; i < 3; ++i) {
      for (int64_t at = 0; at < tensors[i].size(); ++at) tensors[i].set(at, normal(random));
      inputs.push_back(tensors[i].view());
    }
    outputs = {tensors[3].view()};
  }
  std::vector<TestTensor> tensors;
  std::vector<TensorView> inputs, outputs;
};

/// The error of a run on a device that counts, with nothing launched.
std::string refusal(const Scene& scene, const CudaRunOptions& options = {}, const void* host_memory = nullptr) {
  const auto program = compile_cuda_program(causal(), *parse_cuda_target("sm_80"));
  EXPECT_TRUE(program) << to_string(program.error());
  const auto device = std::make_shared<CountingDevice>(*parse_cuda_target("sm_80"));
  device->host_memory = host_memory;
  const auto kernel = CudaKernel::load(*program, device);
  EXPECT_TRUE(kernel) << to_string(kernel.error());
  const auto done = kernel->run(scene.inputs, scene.outputs, options);
  EXPECT_FALSE(done);
  EXPECT_EQ(device->launches, 0);
  return done ? "" : to_string(done.error());
}

TEST(CudaKernel, RunsAGraphOnTheEmulator) {
  const Graph graph = causal();
  for (const char* architecture : {"sm_80", "sm_90a"}) {
    SCOPED_TRACE(architecture);
    const CudaTarget target = *parse_cuda_target(architecture);
    const auto program = compile_cuda_program(graph, target);
    ASSERT_TRUE(program) << to_string(program.error());
    const auto kernel = CudaKernel::load(*program, std::make_shared<EmulatorDevice>(target));
    ASSERT_TRUE(kernel) << to_string(kernel.error());
    for (const auto& [sq, sk] : {std::pair<int64_t, int64_t>{5, 7}, {33, 40}, {4, 0}, {0, 3}}) {
      Scene scene(sq, sk);
      const auto done = run_from_host(*kernel, scene.inputs, scene.outputs);
      ASSERT_TRUE(done) << to_string(done.error());
      EXPECT_TRUE(scene.tensors[3].gaps_intact());
      const auto verdict = verify_outputs(graph, {{"B", 1}, {"Sq", sq}, {"Sk", sk}}, scene.inputs, scene.outputs);
      ASSERT_TRUE(verdict) << to_string(verdict.error());
      for (const AccuracyReport& report : *verdict) EXPECT_TRUE(report.pass) << report.failure;
    }
  }
}

TEST(CudaKernel, LoadsEqualStepsOnce) {
  const auto graph = parse_graph(R"(
graph @twice(%q: f32[B,2,S,16], %k: f32[B,2,S,16], %v: f32[B,2,S,16]) -> f32[B,2,S,16] {
  %s = matmul_nt %q, %k   : f32[B,2,S,S]
  %p = softmax %s, axis=3 : f32[B,2,S,S]
  %o = matmul %p, %v      : f32[B,2,S,16]
  %t = matmul_nt %o, %k   : f32[B,2,S,S]
  %r = softmax %t, axis=3 : f32[B,2,S,S]
  %w = matmul %r, %v      : f32[B,2,S,16]
  return %w
})");
  ASSERT_TRUE(graph) << to_string(graph.error());
  const CudaTarget target = *parse_cuda_target("sm_80");
  const auto program = compile_cuda_program(*graph, target);
  ASSERT_TRUE(program) << to_string(program.error());
  ASSERT_EQ((*program)->steps.size(), 2u);
  const auto device = std::make_shared<CountingDevice>(target);
  const auto kernel = CudaKernel::load(*program, device);
  ASSERT_TRUE(kernel);
  EXPECT_EQ(device->loads, static_cast<int>((*program)->steps[0].choices.size()));
  const auto bytes = kernel->workspace_bytes({{"B", 1}, {"S", 8}});
  ASSERT_TRUE(bytes);
  EXPECT_GE(*bytes, 2 * 8 * 16 * 4) << "what lies between the steps";
}

TEST(CudaKernel, NamesDataThatIsNullOrMisaligned) {
  Scene scene;
  scene.inputs[1].data = nullptr;
  expect_parts(refusal(scene), {"k", "null"});
  scene.inputs[1].data = static_cast<std::byte*>(scene.tensors[1].view().data) + 1;
  expect_parts(refusal(scene), {"k", "not aligned to its 4-byte elements"});
}

TEST(CudaKernel, NamesATensorThatLiesOnTheHost) {
  Scene scene;
  expect_parts(refusal(scene, {}, scene.inputs[2].data), {"%v lies in host memory"});
  expect_parts(refusal(scene, {}, scene.outputs[0].data), {"%o lies in host memory"});
}

TEST(CudaKernel, RefusesAStreamOfAnotherContext) {
  expect_parts(refusal(Scene(), {.stream = reinterpret_cast<void*>(0x10)}), {"another context"});
}

TEST(CudaKernel, NamesSizesBeyondThirtyBits) {
  Scene scene;
  for (const size_t i : {1, 2}) {  // one row, repeated by a stride of 0
    scene.inputs[i].shape[2] = CudaKernel::kLargestSize;
    scene.inputs[i].strides[2] = 0;
  }
  expect_parts(refusal(scene), {"dim Sk is 1073741824", "below 1073741824"});
  Scene many;
  for (size_t i = 0; i < 3; ++i) {
    many.inputs[i].shape[0] = int64_t{1} << 29;
    many.inputs[i].strides[0] = 0;
    many.inputs[i].shape[2] = 0;
  }
  many.outputs[0].shape[0] = int64_t{1} << 29;
  many.outputs[0].shape[2] = 0;
  expect_parts(refusal(many), {"batches times heads"});
}

TEST(CudaKernel, NamesTheWorkspaceThatIsMissing) {
  const auto graph = parse_graph(R"(
graph @twice(%q: f32[1,2,S,16], %k: f32[1,2,S,16], %v: f32[1,2,S,16]) -> f32[1,2,S,16] {
  %s = matmul_nt %q, %k   : f32[1,2,S,S]
  %p = softmax %s, axis=3 : f32[1,2,S,S]
  %o = matmul %p, %v      : f32[1,2,S,16]
  %t = matmul_nt %o, %k   : f32[1,2,S,S]
  %r = softmax %t, axis=3 : f32[1,2,S,S]
  %w = matmul %r, %v      : f32[1,2,S,16]
  return %w
})");
  ASSERT_TRUE(graph);
  const CudaTarget target = *parse_cuda_target("sm_80");
  const auto device = std::make_shared<CountingDevice>(target);
  const auto kernel = CudaKernel::load(*compile_cuda_program(*graph, target), device);
  ASSERT_TRUE(kernel);
  const Scene scene(7, 7);
  alignas(256) static std::byte memory[1 << 14];
  const auto why = [&](void* workspace, int64_t bytes) {
    const auto done = kernel->run(scene.inputs, scene.outputs, {nullptr, workspace, bytes});
    return done ? "" : to_string(done.error());
  };
  expect_parts(why(nullptr, 0), {"the workspace has 0 bytes", "are needed"});
  expect_parts(why(memory, 16), {"the workspace has 16 bytes"});
  expect_parts(why(memory + 64, 1 << 13), {"not 256-byte aligned"});
  device->host_memory = memory;
  expect_parts(why(memory, 1 << 14), {"the workspace lies in host memory"});
  EXPECT_EQ(device->launches, 0);
  device->host_memory = nullptr;
  EXPECT_EQ(why(memory, 1 << 14), "");
  EXPECT_EQ(device->launches, 2);
}

TEST(CudaKernel, NamesTheSharedMemoryThatTheDeviceLacks) {
  const auto program = compile_cuda_program(causal(), *parse_cuda_target("sm_80"));
  ASSERT_TRUE(program);
  CudaTarget small = *parse_cuda_target("sm_80");
  small.shared_bytes_per_block = 100;
  const auto kernel = CudaKernel::load(*program, std::make_shared<CountingDevice>(small));
  ASSERT_FALSE(kernel);
  expect_parts(to_string(kernel.error()), {"bytes of shared memory per block", "the device has 100"});
}

TEST(CudaKernel, NamesAHeadDimThatNoTileFits) {
  const auto with_head_dim = [](int64_t head_dim) {
    std::string text = kCausal;
    for (size_t at = 0; (at = text.find(",16]", at)) != std::string::npos;)
      text.replace(at, 4, fmt::format(",{}]", head_dim));
    return *parse_graph(text);
  };
  // Beyond what is fused: an error where that is asked for, else plain loops.
  CudaProgramOptions fused;
  fused.require_fused = true;
  const CudaTarget target = *parse_cuda_target("sm_80");
  auto program = compile_cuda_program(with_head_dim(20000), target, fused);
  ASSERT_FALSE(program);
  expect_parts(to_string(program.error()), {"the head dim is 20000; a constant from 1 to 512 is needed"});
  program = compile_cuda_program(with_head_dim(20000), target);
  ASSERT_TRUE(program);
  EXPECT_EQ((*program)->steps[0].choices[0].source.launch.schedule.kernel, CudaTemplate::loop);
  // Fused, and beyond the shared memory of a device.
  CudaTarget small = target;
  small.shared_bytes_per_block = small.shared_bytes_per_multiprocessor = 4096;
  program = compile_cuda_program(with_head_dim(512), small);
  ASSERT_FALSE(program);
  EXPECT_EQ(program.error().list[0].kind, ErrorKind::unsupported);
  expect_parts(to_string(program.error()), {"no GPU template takes this step on sm_80", "head dim 512",
                                            "one row of head dim 512 and value dim 512 does not fit 4096 bytes"});
}

TEST(CudaKernel, TakesTheChoiceWhoseTensorMapsTheLayoutAllows) {
  auto program = compile_cuda_program(causal(), *parse_cuda_target("sm_80"));
  ASSERT_TRUE(program);
  // A first choice with a tensor map over K, as the sm_90 template has it.
  auto with_map = std::make_shared<CudaProgram>(**program);
  CudaStep& step = with_map->steps[0];
  CudaChoice mapped = step.choices.back();
  mapped.source.parts.push_back("// with a tensor map\n");
  mapped.source.launch.phases[0].tensor_maps.push_back({1, {3, 2, 1, 0}, {16, 4, 1, 1}});
  step.choices.insert(step.choices.begin(), mapped);
  struct Module final : CudaModule {
    explicit Module(std::vector<int>& log) : launched(log) {}
    Result<Done> launch(const CudaKernelCall& call) const override {
      launched.push_back(static_cast<int>(call.tensor_maps.size()));
      return Done{};
    }
    std::vector<int>& launched;
  };
  struct Device final : CudaDevice {
    const CudaTarget& target() const override { return cuda_targets()[0]; }
    Result<std::shared_ptr<const CudaModule>> load(const CudaSource&) const override {
      return std::shared_ptr<const CudaModule>(std::make_shared<Module>(launched));
    }
    Result<Done> check_stream(void*) const override { return Done{}; }
    Result<Done> check_memory(const std::string&, const void*) const override { return Done{}; }
    void* zeros() const override { return const_cast<std::byte*>(memory); }
    bool shares_host_memory() const override { return true; }
    Result<std::shared_ptr<void>> allocate(int64_t) const override { return invalid("no"); }
    Result<Done> copy_in(void*, const void*, int64_t) const override { return Done{}; }
    Result<Done> copy_out(void*, const void*, int64_t) const override { return Done{}; }
    mutable std::vector<int> launched;
    alignas(256) std::byte memory[256] = {};
  };
  const auto device = std::make_shared<Device>();
  const auto kernel = CudaKernel::load(with_map, device);
  ASSERT_TRUE(kernel);
  alignas(256) static float memory[4 * 2 * 8 * 16];
  const auto view = [&](int which) { return TensorView::contiguous(memory + which * 256, DType::f32, {1, 2, 8, 16}); };
  std::vector<TensorView> inputs = {view(0), view(1), view(2)};
  const TensorView output = view(3);
  ASSERT_TRUE(kernel->run(inputs, std::vector{output}));
  inputs[1].strides[2] = 17;
  ASSERT_TRUE(kernel->run(inputs, std::vector{output}));
  inputs[1].strides[2] = 16;
  inputs[1].data = memory + 257;
  ASSERT_TRUE(kernel->run(inputs, std::vector{output}));
  EXPECT_EQ(device->launched, (std::vector<int>{1, 0, 0}));
}

TEST(TensorMaps, TakeWhatTheDriverTakesAndSayWhyNot) {
  alignas(256) static std::byte memory[4096];
  const TensorMapPlan plan{0, {3, 1, 2, 0}, {64, 64, 1, 1}};
  TensorView view = TensorView::contiguous(memory, DType::bf16, {1, 6, 4, 64});
  auto map = view_tensor_map(plan, view, "k", memory);
  ASSERT_TRUE(map) << to_string(map.error());
  EXPECT_EQ(map->rank, 4);
  EXPECT_EQ(map->sizes[0], 64);
  EXPECT_EQ(map->sizes[1], 6);
  EXPECT_EQ(map->byte_strides[1], 4 * 64 * 2);
  EXPECT_EQ(map->byte_strides[2], 64 * 2);
  view.strides[0] = 3;  // of one batch: any
  EXPECT_TRUE(view_tensor_map(plan, view, "k", memory));
  const auto refused = [&](const TensorView& bad, const char* why) {
    const auto result = view_tensor_map(plan, bad, "k", memory);
    ASSERT_FALSE(result);
    EXPECT_NE(to_string(result.error()).find(why), std::string::npos) << to_string(result.error());
  };
  TensorView bad = view;
  bad.strides[3] = 2;
  refused(bad, "axis 3 has stride 2");
  bad = view;
  bad.strides[2] = 60;
  refused(bad, "axis 2 has a stride of 60 elements");
  bad = view;
  bad.strides[1] = -256;
  refused(bad, "axis 1");
  bad = view;
  bad.strides[1] = 0;
  refused(bad, "axis 1");
  bad = view;
  bad.data = memory + 2;
  refused(bad, "16-byte aligned");
  bad = view;
  bad.shape[1] = 0;
  bad.data = nullptr;
  const auto empty = view_tensor_map(plan, bad, "k", memory);
  ASSERT_TRUE(empty);
  EXPECT_EQ(empty->address, static_cast<void*>(memory));
  EXPECT_EQ(empty->sizes[1], 1);
}

TEST(CubinCache, KeepsCubinsBetweenProcessesAndKeysWhatTheyDependOn) {
  TILEWRIGHT_NEEDS_NVRTC();
  const testing::TemporaryFolder folder;
  const std::string text = "extern \"C\" __global__ void f(int* x) { *x = 1; }";
  const CudaTarget target = *parse_cuda_target("sm_80");
  {
    CacheWriter cache(DiskCache::open(std::string(folder.path()) + "/cache"));
    const auto made = find_or_compile(text, target, *nvrtc(), 13000, &cache);
    ASSERT_TRUE(made) << to_string(made.error());
    EXPECT_FALSE(made->from_disk);
  }
  CacheWriter cache(DiskCache::open(std::string(folder.path()) + "/cache"));
  const auto found = find_or_compile(text, target, *nvrtc(), 13000, &cache);
  ASSERT_TRUE(found);
  EXPECT_TRUE(found->from_disk);
  EXPECT_EQ(found->cubin.substr(0, 4), "\177ELF");
  EXPECT_NE(found->ptx.find(".entry f"), std::string::npos);
  EXPECT_FALSE(find_or_compile(text, target, *nvrtc(), 12080, &cache)->from_disk) << "another driver";
  EXPECT_FALSE(find_or_compile(text, *parse_cuda_target("sm_90a"), *nvrtc(), 13000, &cache)->from_disk);
  EXPECT_FALSE(find_or_compile(text + " ", target, *nvrtc(), 13000, &cache)->from_disk);
  EXPECT_FALSE(decode_binary("") || decode_binary("12345678") || decode_binary(encode_binary(*found) + "x"));
}

TEST(CodeTarget, IsTheNewestOfTheDevicesGeneration) {
  const auto code_of = [](int capability) {
    CudaDeviceFacts device;
    device.target.capability = capability;
    device.target.multiprocessors = 7;
    const auto target = code_target(device);
    return target ? target->architecture() + (target->multiprocessors == 7 ? "" : " not the device's") : "none";
  };
  EXPECT_EQ(code_of(80), "sm_80");
  EXPECT_EQ(code_of(87), "sm_86");
  EXPECT_EQ(code_of(89), "sm_89");
  EXPECT_EQ(code_of(90), "sm_90a");
  EXPECT_EQ(code_of(103), "sm_100");
  EXPECT_EQ(code_of(121), "sm_120");
  EXPECT_EQ(code_of(75), "none");
  EXPECT_EQ(code_of(110), "none");
}

}  // namespace
}  // namespace tilewright
