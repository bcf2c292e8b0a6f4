// The conformance kernels: they compile, and give the same on a GPU where there is one. (That the emulator gives what
// the PTX ISA says, in every legal execution, is tests/emulator/primitives_test.cpp.)
#include "emulator/conformance.h"

#include "emulator/emulator_device.h"
#include "runtime/cuda/compile_report.h"
#include "runtime/cuda/driver_device.h"
#include "tests/cuda/cuda_support.h"

namespace tilewright {
namespace {

const CudaTarget kTarget = *parse_cuda_target("sm_90a");

TEST(Conformance, AWordThatDiffersIsNamedWithBothValues) {
  const ConformanceCase exact{.name = "three words"}, about{.name = "three words", .tolerance = 0.25f};
  const std::vector<uint32_t> wanted = {0x3f800000, 0x7fc00000, 0x40000000};
  std::vector<uint32_t> words = {0x3f800000, 0x7fffffff, 0x40000000};
  EXPECT_EQ(compare_conformance(exact, words, wanted, "the PTX ISA"), "") << "any NaN for a NaN";
  words[2] = 0x40100000;
  EXPECT_EQ(compare_conformance(exact, words, wanted, "the PTX ISA"),
            "three words: word 2 is 0x40100000 (2.25), and the PTX ISA says 0x40000000 (2)");
  EXPECT_EQ(compare_conformance(about, words, wanted, "the PTX ISA"), "");
  words[1] = 0;
  EXPECT_NE(compare_conformance(about, words, wanted, "the PTX ISA"), "");
}

TEST(Conformance, KernelsCompile) {
  TILEWRIGHT_NEEDS_NVRTC();
  for (const ConformanceCase& one : conformance_cases()) {
    const CudaSource source = conformance_source(one);
    const auto binary = compile_cuda(source, kTarget);
    ASSERT_TRUE(binary) << one.name << ": " << to_string(binary.error());
    if (one.body.find("registers_increase") == std::string::npos) continue;
    // What setmaxnreg deals out is what the kernel starts with: fewer, and it would wait for ever.
    const auto report = report_compile(*binary, source.launch, kTarget);
    ASSERT_TRUE(report) << to_string(report.error());
    EXPECT_EQ(report->phases[0].facts.registers, 168) << one.name;
  }
}

TEST(Conformance, OfTheGpu) {
  const auto device = DriverDevice::open(0, "");
  if (!device) GTEST_SKIP() << to_string(device.error());
  const EmulatorDevice emulator((*device)->target());
  for (const ConformanceCase& one : conformance_cases()) {
    if (!applies(one, (*device)->target())) continue;
    EXPECT_EQ(check_conformance(one, **device, emulator, 5), "");
  }
}

TEST(Conformance, OfTheEmulatorThroughTheDevicesInterface) {
  EmulatorOptions late;
  late.seed = 7;
  late.late_copies = late.late_tma = late.late_wgmma = true;
  const EmulatorDevice early(kTarget), other(kTarget, late);
  for (const ConformanceCase& one : conformance_cases()) EXPECT_EQ(check_conformance(one, other, early, 3), "");
}

}  // namespace
}  // namespace tilewright
