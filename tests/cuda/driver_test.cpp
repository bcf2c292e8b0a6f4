// Loading the driver, on machines that have none.
#include "runtime/cuda/driver.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace tilewright {
namespace {

std::string why_not(const std::string& file) {
  const std::string candidates[] = {file};
  const auto driver = CudaDriver::load(candidates);
  EXPECT_FALSE(driver);
  return driver ? "" : to_string(driver.error());
}

void expect_sentence(const std::string& sentence, std::initializer_list<const char*> parts) {
  for (const char* part : parts) EXPECT_NE(sentence.find(part), std::string::npos) << sentence;
  EXPECT_EQ(sentence.find('\n'), std::string::npos) << sentence;
}

TEST(CudaDriver, IsMissingIsOneSentence) {
  expect_sentence(why_not("/nowhere/libcuda.so.1"), {"no NVIDIA driver", "/nowhere/libcuda.so.1", "cuda-emu"});
}

TEST(CudaDriver, LacksAFunctionIsOneSentence) {
  expect_sentence(why_not("libm.so.6"), {"libm.so.6 lacks cuInit", "driver 525"});
}

TEST(CudaDriver, IsTheToolkitsStubIsOneSentence) {
  (void)cuda_driver();  // first, or the loader would give it the stub, which calls itself libcuda.so.1
  for (const char* home : {"/usr/local/cuda/lib64/stubs/libcuda.so", "/usr/local/cuda/lib/stubs/libcuda.so"}) {
    if (!std::filesystem::exists(home)) continue;
    expect_sentence(why_not(home), {"link stub", "LD_LIBRARY_PATH"});
    return;
  }
  GTEST_SKIP() << "the CUDA toolkit's stub driver is not on this machine";
}

TEST(CudaDriver, KnowsItsDevices) {
  if (!cuda_driver()) GTEST_SKIP() << to_string(cuda_driver().error());
  ASSERT_FALSE(cuda_driver()->devices().empty());
  for (const CudaDeviceFacts& device : cuda_driver()->devices()) {
    EXPECT_GE(device.target.capability, 50) << device.name;
    EXPECT_GT(device.target.multiprocessors, 0) << device.name;
    EXPECT_GE(device.target.shared_bytes_per_block, 48 << 10) << device.name;
  }
}

}  // namespace
}  // namespace tilewright
