// What a run says it took is what it launched, and right, whatever the layout: the report against a device that notes
// which kernels it was given.
#include <cmath>
#include <functional>
#include <random>

#include "ir/accuracy.h"
#include "ir/text.h"
#include "runtime/cuda/cuda_kernel.h"
#include "tests/cuda/cuda_support.h"
#include "tests/cuda/forwarding_device.h"
#include "tests/support/test_tensor.h"

namespace tilewright {
namespace {

/// The emulator, with the schedule of every launch noted.
class NotingDevice final : public testing::ForwardingDevice {
 public:
  using ForwardingDevice::ForwardingDevice;
  struct Module final : CudaModule {
    Module(std::shared_ptr<const CudaModule> real, std::string schedule, std::vector<std::string>& log)
        : module(std::move(real)), name(std::move(schedule)), launched(log) {}
    Result<Done> launch(const CudaKernelCall& call) const override {
      launched.push_back(name);
      return module->launch(call);
    }
    std::shared_ptr<const CudaModule> module;
    std::string name;
    std::vector<std::string>& launched;
  };
  mutable std::vector<std::string> launched;

 private:
  std::shared_ptr<const CudaModule> wrap(std::shared_ptr<const CudaModule> real,
                                         const CudaSchedule& schedule) const override {
    return std::make_shared<Module>(std::move(real), print(schedule), launched);
  }
};

Graph parsed(const char* text) {
  auto graph = parse_graph(text);
  EXPECT_TRUE(graph) << to_string(graph.error());
  return *graph;
}

/// A tensor of bf16 in a buffer with room for any of the layouts below.
struct Bf16 {
  std::vector<uint16_t> memory = std::vector<uint16_t>(1 << 15);
  TensorView view;
  Bf16(int64_t length, uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    for (uint16_t& element : memory) testing::store_element(DType::bf16, &element, normal(random));
    void* aligned = memory.data();
    size_t space = memory.size() * 2;
    std::align(256, 1 << 12, aligned, space);
    view = TensorView::contiguous(aligned, DType::bf16, {1, 2, length, 64});
  }
};

TEST(Choice, IsReportedAsItWasLaunchedForEveryLayout) {
  constexpr int64_t kLength = 70;  // more rows than decode takes
  const Graph graph = parsed(R"(
graph @causal(%q: bf16[B,2,S,64], %k: bf16[B,2,S,64], %v: bf16[B,2,S,64]) -> bf16[B,2,S,64] {
  %s = matmul_nt %q, %k               : f32[B,2,S,S]
  %a = mul %s, 0.125                  : f32[B,2,S,S]
  %e = mask_causal %a, align=top_left : f32[B,2,S,S]
  %p = softmax %e, axis=3             : f32[B,2,S,S]
  %c = cast %p                        : bf16[B,2,S,S]
  %o = matmul %c, %v                  : bf16[B,2,S,64]
  return %o
})");
  const CudaTarget target = *parse_cuda_target("sm_90a");
  const auto device = std::make_shared<NotingDevice>(target);
  const auto kernel = CudaKernel::load(*compile_cuda_program(graph, target), device);
  ASSERT_TRUE(kernel) << to_string(kernel.error());

  struct Case {
    const char* what;
    size_t tensor;  ///< 3 is the output
    std::function<void(TensorView&)> change;
    const char* ran;
    const char* why;  ///< of sm90_prefill; null where it ran
  };
  const auto move = [](int64_t bytes) {
    return [=](TensorView& view) { view.data = static_cast<std::byte*>(view.data) + bytes; };
  };
  const auto stride = [](int axis, int64_t elements) {
    return [=](TensorView& view) { view.strides[static_cast<size_t>(axis)] = elements; };
  };
  const Case cases[] = {
      {"contiguous", 0, [](TensorView&) {}, "sm90_prefill", nullptr},
      {"rows of 72", 1, [&](TensorView& v) { stride(2, 72)(v), stride(1, 72 * 70)(v); }, "sm90_prefill", nullptr},
      {"Q moved by an element", 0, move(2), "sm80_prefill", "%q: its data is not 16-byte aligned"},
      {"K moved by 8 bytes", 1, move(8), "sm80_prefill", "%k: its data is not 16-byte aligned"},
      {"O moved by an element", 3, move(2), "sm80_prefill", "its data is not 16-byte aligned"},
      {"rows of 65", 2, [&](TensorView& v) { stride(2, 65)(v), stride(1, 65 * 70)(v); }, "sm80_prefill",
       "%v: axis 2 has a stride of 65 elements"},
      {"heads an odd stride apart", 1, stride(1, 64 * 70 + 1), "sm80_prefill", "%k: axis 1 has a stride of 4481"},
      {"one head for all", 1, stride(1, 0), "sm80_prefill", "%k: axis 1 has a stride of 0"},
      {"every other element", 2, [&](TensorView& v) { stride(3, 2)(v), stride(2, 128)(v), stride(1, 128 * 70)(v); },
       "sm80_prefill", "%v: axis 3 has stride 2"},
      {"rows from the last to the first", 1,
       [](TensorView& v) {
         v.data = static_cast<std::byte*>(v.data) + 69 * 128;
         v.strides[2] = -64;
       },
       "sm80_prefill", "%k: axis 2 has a stride of -64"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    Bf16 tensors[] = {{kLength, 1}, {kLength, 2}, {kLength, 3}, {kLength, 4}};
    one.change(tensors[one.tensor].view);
    const std::vector<TensorView> inputs = {tensors[0].view, tensors[1].view, tensors[2].view};
    const std::vector<TensorView> outputs = {tensors[3].view};
    std::vector<CudaStepRun> taken;
    device->launched.clear();
    const auto done = run_from_host(*kernel, inputs, outputs, &taken);
    ASSERT_TRUE(done) << to_string(done.error());
    ASSERT_EQ(taken.size(), 1u);
    const CudaSchedule& said = kernel->program().steps[0].choices[taken[0].choice].source.launch.schedule;
    EXPECT_EQ(device->launched, std::vector<std::string>{print(said)});
    EXPECT_EQ(to_string(said.kernel), one.ran);
    ASSERT_EQ(taken[0].passed_over.size(), taken[0].choice);
    EXPECT_NE(taken[0].passed_over[0].find("decode: it runs when"), std::string::npos) << taken[0].passed_over[0];
    if (one.why) {
      EXPECT_NE(taken[0].passed_over.back().find(std::string("sm90_prefill: ")), std::string::npos);
      EXPECT_NE(taken[0].passed_over.back().find(one.why), std::string::npos) << taken[0].passed_over.back();
    }
    const std::string json = print_run(kernel->program(), taken);
    EXPECT_NE(json.find(fmt::format("\"template\": \"{}\"", one.ran)), std::string::npos) << json;
    const auto verdict = verify_outputs(graph, {{"B", 1}, {"S", kLength}}, inputs, outputs);
    ASSERT_TRUE(verdict) << to_string(verdict.error());
    EXPECT_TRUE(verdict->front().pass) << verdict->front().failure;
  }
}

/// Row i of the result reads row n - 1 - i of the parameter: written in place too early, it would read itself.
TEST(InoutOutput, IsStagedAndCopiedOnAGpuAsOnTheCpu) {
  const Graph graph = parsed(R"(
graph @flip(inout %x: f32[S,4], %y: f32[S,4]) -> (f32[S,4], f32[S,4]) {
  %i = index axis=0    : i64[S,1]
  %j = index axis=1    : i64[1,4]
  %n = dim S-1         : i64[]
  %r = sub %n, %i      : i64[S,1]
  %f = load %x[%r, %j] : f32[S,4]
  %z = add %f, %y      : f32[S,4]
  %w = add %x, %y      : f32[S,4]
  return %z, %w
})");
  const CudaTarget target = *parse_cuda_target("sm_80");
  const auto device = std::make_shared<NotingDevice>(target);
  const auto kernel = CudaKernel::load(*compile_cuda_program(graph, target), device);
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  constexpr int64_t kRows = 300;
  std::vector<float> x(kRows * 4), y(kRows * 4), w(kRows * 4, NAN);
  for (size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(i);
    y[i] = 0.5f * static_cast<float>(i % 7);
  }
  const std::vector<float> before = x;
  const auto view = [](std::vector<float>& data) {
    return TensorView::contiguous(data.data(), DType::f32, {kRows, 4});
  };
  const std::vector<TensorView> inputs = {view(x), view(y)};
  const auto bytes = kernel->workspace_bytes({{"S", kRows}});
  ASSERT_TRUE(bytes);
  EXPECT_GE(*bytes, 2 * kRows * 16) << "any of the results may have to be staged";
  const auto workspace = device->allocate(*bytes);
  ASSERT_TRUE(workspace);
  const CudaRunOptions options{nullptr, workspace->get(), *bytes};

  // The first result lies on %x, by columns from the last to the first; the second has memory of its own.
  TensorView on_x = view(x);
  on_x.data = x.data() + 3;
  on_x.strides[1] = -1;
  device->launched.clear();
  auto done = kernel->run(inputs, std::vector{on_x, view(w)}, options);
  ASSERT_TRUE(done) << to_string(done.error());
  EXPECT_EQ(device->launched.size(), 3u) << "two steps and one copy";
  for (size_t i = 0; i < kRows; ++i)
    for (size_t j = 0; j < 4; ++j) {
      ASSERT_EQ(x[4 * i + 3 - j], before[4 * (kRows - 1 - i) + j] + y[4 * i + j]) << i << " " << j;
      ASSERT_EQ(w[4 * i + j], before[4 * i + j] + y[4 * i + j]) << i << " " << j;
    }

  // Outputs of their own are not staged, and want no room for it.
  std::vector<float> z(kRows * 4, NAN);
  device->launched.clear();
  done = kernel->run(inputs, std::vector{view(z), view(w)}, {});
  ASSERT_TRUE(done) << to_string(done.error());
  EXPECT_EQ(device->launched.size(), 2u);
  // Without the room nothing is launched.
  device->launched.clear();
  done = kernel->run(inputs, std::vector{on_x, view(w)}, {nullptr, workspace->get(), kRows * 16 - 64});
  ASSERT_FALSE(done);
  EXPECT_NE(to_string(done.error()).find(fmt::format("the workspace has {} bytes, and", kRows * 16 - 64)),
            std::string::npos);
  EXPECT_TRUE(device->launched.empty());
}

/// A KV cache that is returned where it lies.
TEST(InoutOutput, MayBeTheUpdatedParameterItself) {
  const Graph graph = parsed(R"(
graph @append(inout %k: bf16[2,N,8], %new: bf16[2,M,8], %at: i64[]) -> bf16[2,N,8] {
  %u = update %k, %new, %at, axis=1 : bf16[2,N,8]
  return %u
})");
  const CudaTarget target = *parse_cuda_target("sm_80");
  const auto kernel = CudaKernel::load(*compile_cuda_program(graph, target), std::make_shared<NotingDevice>(target));
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  std::vector<uint16_t> cache(2 * 9 * 8), added(2 * 2 * 8);
  for (size_t i = 0; i < cache.size(); ++i) cache[i] = static_cast<uint16_t>(0x3f80 + i);
  for (size_t i = 0; i < added.size(); ++i) added[i] = static_cast<uint16_t>(0x4080 + i);
  const std::vector<uint16_t> before = cache;
  int64_t at = 4;
  const TensorView whole = TensorView::contiguous(cache.data(), DType::bf16, {2, 9, 8});
  const std::vector<TensorView> inputs = {whole, TensorView::contiguous(added.data(), DType::bf16, {2, 2, 8}),
                                          TensorView::contiguous(&at, DType::i64, {})};
  const auto done = run_from_host(*kernel, inputs, std::vector{whole});
  ASSERT_TRUE(done) << to_string(done.error());
  for (size_t i = 0; i < cache.size(); ++i) {
    const size_t head = i / 72, row = i / 8 % 9, column = i % 8;
    const bool is_new = row == 4 || row == 5;
    EXPECT_EQ(cache[i], is_new ? added[(head * 2 + row - 4) * 8 + column] : before[i]) << i;
  }
}

}  // namespace
}  // namespace tilewright
