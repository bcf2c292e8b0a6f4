// The conformance kernels: they compile, give the same in every legal order on the emulator, and where there is a GPU
// the same there.
#include "emulator/conformance.h"

#include "emulator/emulator_device.h"
#include "runtime/cuda/driver_device.h"
#include "tests/cuda/cuda_support.h"

namespace tilewright {
namespace {

const CudaTarget kTarget = *parse_cuda_target("sm_90a");

TEST(Conformance, KernelsGiveTheSameInEveryOrderOnTheEmulator) {
  EmulatorOptions late;
  late.seed = 7;
  late.late_copies = late.late_tma = late.late_wgmma = true;
  const EmulatorDevice early(kTarget), other(kTarget, late);
  for (const ConformanceCase& test : conformance_cases()) {
    SCOPED_TRACE(test.name);
    const auto first = run_conformance(test, early, 3), second = run_conformance(test, other, 3);
    ASSERT_TRUE(first) << to_string(first.error());
    ASSERT_TRUE(second) << to_string(second.error());
    EXPECT_EQ(*first, *second);
    EXPECT_TRUE(std::any_of(first->begin(), first->end(), [](uint32_t word) { return word != 0; }));
    std::vector<uint32_t> wrong = *first;
    wrong.back() ^= 0x00800000;
    if (test.tolerance == 0) {
      EXPECT_NE(compare_conformance(test, *first, wrong), "");
    }
  }
}

TEST(Conformance, KernelsCompile) {
  TILEWRIGHT_NEEDS_NVRTC();
  for (const ConformanceCase& test : conformance_cases()) {
    const auto binary = compile_cuda(conformance_source(test), kTarget);
    EXPECT_TRUE(binary) << test.name << ": " << to_string(binary.error());
  }
}

TEST(Conformance, OfTheGpu) {
  const auto device = DriverDevice::open(0, "");
  if (!device) GTEST_SKIP() << to_string(device.error());
  const EmulatorDevice emulator((*device)->target());
  for (const ConformanceCase& test : conformance_cases()) {
    if (!applies(test, (*device)->target())) continue;
    const auto emulated = run_conformance(test, emulator, 5), found = run_conformance(test, **device, 5);
    ASSERT_TRUE(emulated) << to_string(emulated.error());
    ASSERT_TRUE(found) << to_string(found.error());
    EXPECT_EQ(compare_conformance(test, *emulated, *found), "");
  }
}

}  // namespace
}  // namespace tilewright
