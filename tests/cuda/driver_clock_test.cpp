// The driver's clock and a whole search on a GPU as the driver sees it: a fake one, whose kernels this file computes.
#include <algorithm>
#include <cmath>

#include "runtime/cuda/driver_device.h"
#include "tests/cuda/clocked_device.h"
#include "tests/cuda/cuda_support.h"
#include "tests/cuda/fake_libraries.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {
namespace {

class DriverClock : public ::testing::Test {
 protected:
  void SetUp() override {
    reset_fake_driver();
    the_fake_driver().current = reinterpret_cast<CuContext>(0x3000);
    static const Result<CudaDriver>* const driver = new Result<CudaDriver>(load_fake_driver());
    ASSERT_TRUE(*driver) << to_string(driver->error());
    auto device = DriverDevice::of_current_context("", *driver);
    ASSERT_TRUE(device) << to_string(device.error());
    device_ = *device;
    the_fake_driver().calls.clear();
  }
  int64_t count(const std::string& call) const { return std::ranges::count(the_fake_driver().calls, call); }
  std::shared_ptr<const DriverDevice> device_;
};

TEST_F(DriverClock, IsTwoEventsAroundWhatIsTimedAndAFlushOfTwiceL2) {
  const size_t memory = the_fake_driver().memory.size();
  {
    const auto clock = device_->make_clock();
    ASSERT_TRUE(clock) << to_string(clock.error());
    EXPECT_EQ(the_fake_driver().events, 2);
    ASSERT_EQ(the_fake_driver().memory.size(), memory + 1);
    EXPECT_TRUE(std::ranges::any_of(the_fake_driver().memory,
                                    [](const auto& each) { return each.second.bytes == size_t{120} << 20; }));
    the_fake_driver().calls.clear();
    the_fake_driver().milliseconds = 0.25f;
    ASSERT_TRUE((*clock)->flush(nullptr));
    ASSERT_TRUE((*clock)->begin(nullptr));
    ASSERT_TRUE((*clock)->end(nullptr));
    const auto seconds = (*clock)->seconds();
    ASSERT_TRUE(seconds);
    EXPECT_DOUBLE_EQ(*seconds, 0.25e-3);
    EXPECT_EQ(the_fake_driver().calls, (std::vector<std::string>{"cuMemsetD8Async", "cuEventRecord", "cuEventRecord",
                                                                 "cuEventSynchronize", "cuEventElapsedTime"}));
  }
  EXPECT_EQ(the_fake_driver().events, 0);
  EXPECT_EQ(the_fake_driver().memory.size(), memory);
}

TEST_F(DriverClock, WhatTheDriverRefusesIsASentence) {
  the_fake_driver().fails["cuEventCreate"] = kCuOutOfMemory;
  const auto none = device_->make_clock();
  ASSERT_FALSE(none);
  expect_parts(to_string(none.error()), {"making an event failed", "(2)"});
  the_fake_driver().fails.clear();
  const auto clock = device_->make_clock();
  ASSERT_TRUE(clock);
  the_fake_driver().fails["cuEventSynchronize"] = kCuIllegalAddress;
  const auto seconds = (*clock)->seconds();
  ASSERT_FALSE(seconds);
  expect_parts(to_string(seconds.error()), {"waiting for what is timed failed", "(700)"});
}

TEST_F(DriverClock, ADeviceIsKnownByItsNameAndFigures) {
  const MeasuredWith with = device_->measured_with();
  EXPECT_EQ(with.device, "Fake GPU compute 9.0 multiprocessors 132 l2 62914560 memory 151397597184");
  EXPECT_TRUE(with.compiler.starts_with("nvrtc ")) << with.compiler;
  EXPECT_NE(with.compiler.find(" source "), std::string::npos) << with.compiler;
}

/// What clocked_graph() computes at these dims, of tensors as its kernels get them.
void compute(const DimBindings& dims, void** parameters) {
  const auto* words = static_cast<const uint64_t*>(parameters[0]);
  const auto at = [&](size_t tensor, int64_t row, int64_t column) {
    return load_element(DType::bf16, reinterpret_cast<const uint16_t*>(words[tensor]) + row * 64 + column);
  };
  const int64_t sq = dims.at("Sq"), sk = dims.at("Sk");
  for (int64_t row = 0; row < 2 * sq; ++row) {
    const int64_t keys = std::min(sk, row % sq + sk - sq + 1);
    std::vector<double> weights;
    double sum = 0;
    for (int64_t key = 0; key < keys; ++key) {
      double score = 0;
      for (int64_t d = 0; d < 64; ++d) score += at(0, row, d) * at(1, key, d);
      sum += weights.emplace_back(std::exp(score / 8));
    }
    for (int64_t d = 0; d < 64; ++d) {
      double out = 0;
      for (int64_t key = 0; key < keys; ++key) out += weights[static_cast<size_t>(key)] * at(2, key, d);
      store_element(DType::bf16, reinterpret_cast<uint16_t*>(words[3]) + row * 64 + d, out / sum);
    }
  }
}

TEST_F(DriverClock, TimesASearchWhoseDataGoesToTheDeviceAndBack) {
  TILEWRIGHT_NEEDS_NVRTC();
  the_fake_driver().on_launch = [](void** parameters) { compute(kClockedDims, parameters); };
  TemporaryFolder folder;
  TuningStore store(folder.path() + "/t.json", false);
  SearchOptions options;
  options.budget_seconds = 60;
  options.candidates = 3;
  options.twins = false;
  const auto result = tune_cuda(clocked_graph(), device_, kClockedDims, options, &store);
  ASSERT_TRUE(result) << to_string(result.error());
  ASSERT_EQ(result->steps.size(), 1u);
  const CudaTunedStep& step = result->steps[0];
  EXPECT_EQ(step.chosen, 0u);  // all take what the fake says
  for (const CudaTunedCandidate& each : step.candidates) {
    EXPECT_EQ(each.why, "");
    ASSERT_FALSE(each.warm.empty());
    EXPECT_NEAR(each.warm[0], 1e-3, 1e-9);
    EXPECT_NEAR(each.cold[0], 1e-3, 1e-9);
  }
  EXPECT_GT(count("cuMemsetD8Async"), 0);
  EXPECT_EQ(count("cuEventRecord"), 2 * count("cuEventElapsedTime"));
  EXPECT_EQ(the_fake_driver().events, 0);
  EXPECT_EQ(result->device, device_->measured_with().device);
  EXPECT_NE(read_file(folder.path() + "/t.json").find("sm90_prefill sm_90a"), std::string::npos);
}

/// 33000 keys are more than the oracle affords for sixteen rows within a fifth of a second.
TEST_F(DriverClock, WhatTheOracleCannotAffordItJudgesAtSmallerSizes) {
  TILEWRIGHT_NEEDS_NVRTC();
  std::vector<DimBindings> seen;
  const DimBindings dims = {{"B", 1}, {"Sq", 1}, {"Sk", 33000}};
  the_fake_driver().on_launch = [&](void** parameters) {
    // Meta words of the step hold the sizes; the two that this search uses tell themselves apart by what K has room
    // for.
    const uint64_t keys = static_cast<const uint64_t*>(parameters[0])[1];
    const auto& memory = the_fake_driver().memory;
    const auto at = std::prev(memory.upper_bound(static_cast<uintptr_t>(keys)));
    DimBindings now = dims;
    now["Sk"] = static_cast<int64_t>(at->second.bytes / 128) > 30000 ? 33000 : 16500;
    if (seen.empty() || seen.back() != now) seen.push_back(now);
    compute(now, parameters);
  };
  SearchOptions options;
  options.budget_seconds = 1;
  options.candidates = 2;
  const auto result = tune_cuda(clocked_graph(), device_, dims, options, nullptr);
  ASSERT_TRUE(result) << to_string(result.error());
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen.front().at("Sk"), 16500);
  ASSERT_FALSE(result->notes.empty());
  EXPECT_NE(result->notes[0].find("the oracle judged the rules' kernel at smaller sizes"), std::string::npos);
}

}  // namespace
}  // namespace tilewright::testing
