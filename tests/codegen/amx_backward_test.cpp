// The backward template on AMX tiles, emulated where the CPU has none: against the f64 evaluation of its spec, bit for
// bit the same with any number of workers, operands that may not be split, refusals, and what the native module is made
// of.
#include <gtest/gtest.h>

#include <bit>

#include "compiler/plan_rules.h"
#include "runtime/cpu_detect.h"
#include "tests/codegen/template_cases.h"
#include "tests/support/backward_case.h"
#include "tests/support/spec_kernel.h"

namespace tilewright::testing {
namespace {

/// Operands and how they are multiplied, and what the outputs may miss besides, as a part of the largest.
struct Numbers {
  DType dtype;
  PrecisionPolicy policy;
  double error;
};
constexpr Numbers kBf16{DType::bf16, PrecisionPolicy::f32, kNarrowWeights}, kF32{DType::f32, PrecisionPolicy::f32, 0},
    kX3{DType::f32, PrecisionPolicy::f32_x3, 0x1p-13}, kF16{DType::f16, PrecisionPolicy::f32, 0x1p-14},
    kRounded{DType::f32, PrecisionPolicy::bf16, kNarrowWeights};

double as_bf16(double x) {
  const auto bits = std::bit_cast<uint32_t>(static_cast<float>(x));
  return std::bit_cast<float>((bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000);
}

BackwardOptions bf16_options(int64_t sq, int64_t sk, int64_t dim, Mask mask = Mask::none) {
  BackwardOptions options = backward_options(sq, sk, dim, mask);
  options.forward.dtype = options.forward.output = DType::bf16;
  return options;
}

/// Tiles so small that short sequences meet every kind of block.
CpuSchedule small_amx_backward(const BackwardCase& test, const CpuTarget& target) {
  EXPECT_EQ(refuse_amx_backward(test.spec, target), "");
  CpuSchedule schedule = schedule_amx_backward(test.spec, target);
  schedule.block_q = schedule.block_kv = 64;
  schedule.chunk_kv = 128;
  return schedule;
}

BackwardCase case_of(BackwardOptions options, const Numbers& numbers) {
  std::mt19937_64 random(1);
  options.forward.dtype = options.forward.output = numbers.dtype;
  BackwardCase test = make_backward_case(options, random);
  test.spec.precision = numbers.policy;
  if (numbers.policy == PrecisionPolicy::bf16)  // what rounding the operands does is judged elsewhere
    for (size_t i = 0; i < test.tensors.size(); ++i)
      if (const SpecTensor& tensor = test.spec.tensors[i]; !tensor.output && tensor.type.dtype == DType::f32)
        for (int64_t at = 0; at < test.tensors[i].size(); ++at)
          test.tensors[i].set(at, as_bf16(test.tensors[i].get(at)));
  return test;
}

void check_amx_backward(const BackwardOptions& options, std::initializer_list<Numbers> all = {kBf16, kF32}) {
  for (const CpuTarget& target : tile_targets())
    for (const Numbers& numbers : all) {
      const BackwardCase test = case_of(options, numbers);
      SCOPED_TRACE(fmt::format("{} {} {}", test.options.text(), to_string(numbers.policy), to_string(target.isa)));
      run_backward_case(test, small_amx_backward(test, target), target);
      check_backward_case(test, expected_gradients(test), numbers.error);
    }
}

TEST(AmxBackward, HeadDims) {
  for (int64_t dim : {1, 31, 64, 80, 200}) {
    check_amx_backward(bf16_options(70, 150, dim, Mask::causal));
    if (dim == 31 || dim == 80) check_amx_backward(bf16_options(70, 150, dim, Mask::causal), {kX3, kF16, kRounded});
    if (HasFailure()) return;
  }
  BackwardOptions options = bf16_options(30, 70, 24);
  options.forward.dv = 48;
  check_amx_backward(options);
  options.forward.dqk = 72;
  options.forward.dv = 5;
  check_amx_backward(options);
}

TEST(AmxBackward, WideHeads) { check_amx_backward(bf16_options(40, 70, 512)); }

TEST(AmxBackward, MasksAndLengths) {
  for (Mask mask :
       {Mask::none, Mask::causal, Mask::window, Mask::padding, Mask::causal_padding, Mask::tensor, Mask::everything})
    for (auto [sq, sk] : {std::pair<int64_t, int64_t>{1, 1}, {33, 290}, {150, 65}}) {
      BackwardOptions options = bf16_options(sq, sk, 16, mask);
      options.forward.batch = 2;
      options.forward.heads = 2;
      check_amx_backward(options);
      if (HasFailure()) return;
    }
}

TEST(AmxBackward, EmptySequences) {
  for (auto [sq, sk] : {std::pair<int64_t, int64_t>{0, 7}, {7, 0}, {0, 0}}) {
    BackwardOptions options = bf16_options(sq, sk, 16);
    options.row_sum = options.key_sum = options.table = true;
    check_amx_backward(options);
    if (HasFailure()) return;
  }
}

TEST(AmxBackward, Arrangements) {
  for (Arrangement arrangement : {Arrangement::bhsd, Arrangement::bshd, Arrangement::merged, Arrangement::packed})
    for (Layout layout : {Layout::contiguous, Layout::gapped, Layout::reversed}) {
      BackwardOptions options = bf16_options(20, 140, 17, Mask::causal_padding);
      options.forward.heads = 6;
      options.forward.group = 3;
      options.forward.arrangement = arrangement;
      options.forward.layout = layout;
      options.forward.score = Score::bias;
      options.captured = true;
      check_amx_backward(options);
      if (HasFailure()) return;
    }
}

TEST(AmxBackward, Captured) {
  for (Score score : {Score::alibi, Score::softcap, Score::bias}) {
    BackwardOptions options = bf16_options(40, 150, 16, Mask::causal);
    options.forward.batch = 2;
    options.forward.heads = 2;
    options.forward.score = score;
    options.captured = options.row_sum = options.key_sum = options.table = true;
    check_amx_backward(options);
    options.forward.dropout = true;
    check_amx_backward(options);
    if (HasFailure()) return;
  }
}

TEST(AmxBackward, TwoProducts) {
  BackwardOptions options = bf16_options(40, 150, 32, Mask::causal);
  options.forward.two_dots = true;
  check_amx_backward(options, {kBf16, kF32, kX3, kF16});
}

TEST(AmxBackward, GradientsWiderThanOperands) {
  BackwardOptions options = bf16_options(40, 150, 24, Mask::causal);
  options.wide_gradients = true;
  check_amx_backward(options, {{DType::bf16, PrecisionPolicy::f32, 0}, kF32});
}

/// Runs both templates on the same data and compares outputs row by row: where one is not finite the other is the same,
/// and elsewhere they differ by the roundings of f32.
void expect_what_fma_gives(const BackwardCase& tiles, const BackwardCase& fma) {
  for (size_t i = 0; i < tiles.tensors.size(); ++i) {
    const SpecTensor& tensor = tiles.spec.tensors[i];
    if (!tensor.output) continue;
    const int64_t columns = tiles.tensors[i].shape().back();
    for (int64_t row = 0; row < tiles.tensors[i].size(); row += columns) {
      double largest = 0;
      for (int64_t at = row; at < row + columns; ++at)
        if (const double x = fma.tensors[i].get(at); std::isfinite(x)) largest = std::max(largest, std::abs(x));
      for (int64_t at = row; at < row + columns; ++at) {
        const double got = tiles.tensors[i].get(at), want = fma.tensors[i].get(at);
        if (std::isnan(want))
          ASSERT_TRUE(std::isnan(got)) << tensor.name << " " << at << ": " << got;
        else if (std::isinf(want))
          ASSERT_EQ(got, want) << tensor.name << " " << at;
        else
          ASSERT_LE(std::abs(got - want), 3e-5 * largest) << tensor.name << " " << at << ": " << got << " for " << want;
      }
    }
  }
}

TEST(AmxBackward, OperandsThatMayNotBeSplitGiveWhatFmaGives) {
  constexpr double kInf = std::numeric_limits<double>::infinity(), kNaN = std::numeric_limits<double>::quiet_NaN();
  enum class How : uint8_t { some, times, all };  // in place of two elements, times every one, in place of every one
  struct Plant {
    std::vector<std::string> where;
    double value;
    How how;
  };
  // Those of delta alone and what follows leave operands in range, and dS is not.
  const std::vector<Plant> plants = {{{"q"}, kInf, How::some},
                                     {{"k"}, -kInf, How::some},
                                     {{"v"}, kInf, How::some},
                                     {{"do"}, kInf, How::some},
                                     {{"k"}, kNaN, How::some},
                                     {{"do"}, kNaN, How::some},
                                     {{"do"}, 0x1p90, How::some},
                                     {{"v"}, 0x1p60, How::some},
                                     {{"k"}, 0x1.23p-110, How::times},
                                     {{"do", "delta"}, 0x1.23p-112, How::times},
                                     {{"delta"}, kNaN, How::some},
                                     {{"delta"}, kInf, How::some},
                                     {{"do", "v"}, 0x1p40, How::times},
                                     {{"do", "delta"}, 0x1p-80, How::times},
                                     {{"lse"}, 80, How::all}};
  const std::vector<CpuTarget> targets = tile_targets();
  for (const CpuTarget& target : targets)
    for (const Plant& plant : plants) {
      BackwardOptions options = bf16_options(150, 200, 40);
      const auto planted = [&] {
        BackwardCase test = case_of(options, kF32);
        for (size_t i = 0; i < test.tensors.size(); ++i) {
          TestTensor& tensor = test.tensors[i];
          if (std::ranges::find(plant.where, test.spec.tensors[i].name) == plant.where.end()) continue;
          for (int64_t at = 0; plant.how != How::some && at < tensor.size(); ++at)
            tensor.set(at, plant.how == How::all ? plant.value : tensor.get(at) * plant.value);
          if (plant.how == How::some)
            for (const int64_t at : {int64_t{3}, tensor.size() / 2}) tensor.set(at, plant.value);
        }
        return test;
      };
      SCOPED_TRACE(fmt::format("{} in {} and {}", plant.value, plant.where.front(), plant.where.back()));
      const BackwardCase tiles = planted(), fma = planted();
      run_backward_case(tiles, small_amx_backward(tiles, target), target);
      CpuTarget plain = target;
      plain.isa = CpuIsa::avx512;
      run_backward_case(fma, plan_backward(fma.spec, plain).choices[0].schedule, plain);
      expect_what_fma_gives(tiles, fma);
      if (HasFailure()) return;
    }
}

TEST(AmxBackward, WorkersChangeNoBit) {
  BackwardOptions options = bf16_options(100, 700, 16, Mask::causal);
  options.forward.batch = 2;
  options.forward.heads = 4;
  options.forward.group = 2;
  options.forward.score = Score::bias;
  options.captured = options.row_sum = options.key_sum = options.table = true;
  for (const CpuTarget& target : tile_targets()) {
    std::vector<double> first;
    for (int workers : {1, 2, 3, 8}) {
      const BackwardCase test = case_of(options, kF32);
      run_backward_case(test, small_amx_backward(test, target), target, workers);
      std::vector<double> values;
      for (size_t i = 0; i < test.tensors.size(); ++i)
        for (int64_t at = 0; test.spec.tensors[i].output && at < test.tensors[i].size(); ++at)
          values.push_back(test.tensors[i].get(at));
      if (workers == 1) first = values;
      ASSERT_EQ(values, first) << workers << " workers";
    }
  }
}

CpuTarget native_target() {
  CpuTarget target = detect_cpu();
  target.isa = CpuIsa::amx;
  target.avx512_bf16 = true;
  return target;
}

TEST(AmxBackward, IsChosenWhereItCanAndSaysWhyNot) {
  std::mt19937_64 random(1);
  const CpuTarget target = native_target();
  const auto refusal = [&](BackwardOptions options) -> std::string {
    const CpuPlan plan = plan_backward(make_backward_case(options, random).spec, target);
    EXPECT_EQ(plan.choices.size(), 1u);
    for (const CpuPlan::Refusal& refused : plan.refused)
      if (refused.kernel == CpuTemplate::amx_backward) return refused.reason;
    EXPECT_EQ(plan.choices[0].schedule.kernel, CpuTemplate::amx_backward);
    return {};
  };
  BackwardOptions options = bf16_options(64, 64, 64);
  EXPECT_EQ(refusal(options), "");
  options.wide_gradients = true;  // weights of three parts beside operands of one
  EXPECT_EQ(refusal(options), "");
  options.wide_gradients = false;
  for (const DType dtype : {DType::f16, DType::f32}) {
    options.forward.dtype = options.forward.output = dtype;
    EXPECT_EQ(refusal(options), "");
  }
  options.forward.dtype = options.forward.output = DType::f64;
  EXPECT_EQ(refusal(options), "tiles add in f32, and this accumulates in f64");
  options = bf16_options(64, 64, 8);
  options.forward.dtype = options.forward.output = DType::f32;
  EXPECT_EQ(refusal(options), "six products of 40 columns padded to 160 are slower than FMA");
  // A machine without tiles does not mention them.
  CpuTarget plain = target;
  plain.isa = CpuIsa::avx512;
  EXPECT_TRUE(plan_backward(make_backward_case(bf16_options(64, 64, 64), random).spec, plain).refused.empty());
}

TEST(AmxBackward, NativeModulesHoldTheInstructions) {
  if (detect_cpu().isa < CpuIsa::avx512) GTEST_SKIP() << "the CPU lacks AVX-512, which the test's target has";
  for (const auto& [numbers, products] : {std::pair{kBf16, 1}, {kF32, 6}, {kX3, 3}}) {
    const BackwardCase test = case_of(bf16_options(256, 256, 64, Mask::causal), numbers);
    const CpuTarget target = native_target();
    const CpuSchedule schedule = plan_backward(test.spec, target).choices[0].schedule;
    CpuKernelSource source = generate_backward(test.spec, schedule, target, "case");
    EXPECT_TRUE(source.launch.native_tiles);
    const auto object = compile_module(std::move(source.module), target, {.verify = true, .want_text = true});
    ASSERT_TRUE(object) << to_string(object.error());
    const auto count = [&](const char* what) { return occurrences(object->assembly, what); };
    // Two products, one that starts sums and one that adds: each has a first step and the steps of its loop.
    EXPECT_EQ(count("tdpbf16ps"), 2 * 2 * 4 * products);
    EXPECT_EQ(count("tilezero"), 4);
    EXPECT_EQ(count("tilestored"), 2 * 2 * 4);
    EXPECT_EQ(count("ldtilecfg"), 1);
    EXPECT_EQ(count("tilerelease"), 1);
    EXPECT_GE(count("vcvtne2ps2bf16"), 1);
    EXPECT_EQ(count("64-byte Spill"), 0);
  }
}

}  // namespace
}  // namespace tilewright::testing
