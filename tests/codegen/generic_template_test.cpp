#include <gtest/gtest.h>

#include <cmath>

#include "ir/interp.h"
#include "tests/codegen/jit_support.h"
#include "tests/support/attention_case.h"

namespace tilewright::testing {
namespace {

/// Compiles and runs one case with the generic template on every ISA level, and checks all of it.
void run_generic(const CaseOptions& options, uint64_t seed = 1) {
  for (const CpuTarget& target : runnable_targets()) {
    SCOPED_TRACE(options.text() + " on " + std::string(to_string(target.isa)));
    std::mt19937_64 random(seed);
    const AttentionCase test = make_case(options, random);
    const CpuPlan plan = plan_cpu(build_tile_program(test.spec), target, {.force_generic = true});
    run_case(test, plan.choices[0].schedule, target);
    check_case(test);
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(GenericTemplate, EveryDtypeAndHeadDim) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::f64})
    for (const auto& [dqk, dv] : {std::pair<int64_t, int64_t>{1, 1}, {8, 31}, {31, 8}, {64, 64}, {72, 128}, {256, 72}})
      run_generic({.dtype = dtype, .output = dtype, .sq = 19, .sk = 70, .dqk = dqk, .dv = dv, .mask = Mask::causal});
}

TEST(GenericTemplate, LargestHeadDim) {
  run_generic({.sq = 3, .sk = 67, .dqk = 512, .dv = 512});
  run_generic({.dtype = DType::f64, .output = DType::f64, .sq = 3, .sk = 67, .dqk = 512, .dv = 511});
}

TEST(GenericTemplate, RaggedAndEmptySizes) {
  for (const int64_t sk : {0, 1, 2, 63, 64, 65, 129})
    for (const int64_t sq : {0, 1, 15, 16, 17, 33})
      run_generic({.sq = sq, .sk = sk, .mask = Mask::causal, .lse = true});
  run_generic({.batch = 0});
}

TEST(GenericTemplate, Masks) {
  for (const Mask mask :
       {Mask::none, Mask::causal, Mask::window, Mask::padding, Mask::causal_padding, Mask::tensor, Mask::everything})
    for (const uint64_t seed : {1u, 2u, 3u})
      run_generic({.batch = 3, .heads = 2, .sq = 40, .sk = 100, .mask = mask, .lse = true}, seed);
}

TEST(GenericTemplate, ScoresOverDtypes) {
  for (const Score score : {Score::scale, Score::alibi, Score::softcap, Score::bias})
    for (const DType dtype : {DType::f32, DType::bf16, DType::f64})
      run_generic({.dtype = dtype,
                   .output = dtype == DType::f64 ? DType::f64 : DType::f32,
                   .sq = 21,
                   .sk = 77,
                   .mask = Mask::causal,
                   .score = score});
}

TEST(GenericTemplate, ArrangementsAndStrides) {
  for (const Arrangement arrangement : {Arrangement::bhsd, Arrangement::bshd, Arrangement::merged, Arrangement::packed})
    for (const Layout layout : {Layout::contiguous, Layout::permuted, Layout::gapped, Layout::reversed})
      for (const DType dtype : {DType::f32, DType::bf16})
        run_generic({.dtype = dtype,
                     .output = dtype,
                     .batch = 2,
                     .heads = 4,
                     .group = 2,
                     .sq = 18,
                     .sk = 37,
                     .dqk = 24,
                     .dv = 20,
                     .mask = Mask::padding,
                     .score = Score::bias,
                     .arrangement = arrangement,
                     .layout = layout,
                     .lse = true});
}

TEST(GenericTemplate, SinkLseSeveralDotsAndNoNormaliser) {
  for (const bool sink : {false, true})
    for (const bool two_dots : {false, true})
      for (const DType dtype : {DType::f32, DType::f64})
        run_generic({.dtype = dtype,
                     .output = dtype,
                     .batch = 2,
                     .sq = 17,
                     .sk = 66,
                     .mask = Mask::causal_padding,
                     .sink = sink,
                     .lse = true,
                     .two_dots = two_dots});
  run_generic({.sq = 17, .sk = 66, .mask = Mask::everything, .normaliser = Normaliser::none});
  run_generic({.sq = 17, .sk = 66, .score = Score::softcap, .normaliser = Normaliser::none});
}

TEST(GenericTemplate, Dropout) {
  for (const Mask mask : {Mask::none, Mask::window, Mask::everything})
    for (const DType dtype : {DType::f32, DType::f64})
      run_generic({.dtype = dtype,
                   .output = dtype,
                   .batch = 2,
                   .sq = 17,
                   .sk = 66,
                   .mask = mask,
                   .lse = true,
                   .dropout = true});
}

TEST(GenericTemplate, RandomCases) {
  std::mt19937_64 random(7);
  const auto pick = [&](int64_t lo, int64_t hi) {
    return lo + static_cast<int64_t>(random() % static_cast<uint64_t>(hi - lo + 1));
  };
  constexpr DType kFloats[] = {DType::f32, DType::bf16, DType::f16, DType::f64};
  for (int i = 0; i < 40; ++i) {
    const int64_t group = pick(1, 3);
    CaseOptions o{.dtype = kFloats[pick(0, 3)],
                  .batch = pick(1, 2),
                  .heads = group * pick(1, 2),
                  .group = group,
                  .sq = pick(1, 40),
                  .sk = pick(0, 150),
                  .dqk = pick(1, 80),
                  .dv = pick(1, 80),
                  .mask = static_cast<Mask>(pick(0, 7)),
                  .score = static_cast<Score>(pick(0, 3)),
                  .arrangement = static_cast<Arrangement>(pick(0, 3)),
                  .layout = static_cast<Layout>(pick(0, 3)),
                  .sink = pick(0, 1) == 1,
                  .lse = pick(0, 1) == 1,
                  .two_dots = pick(0, 3) == 0};
    o.output = pick(0, 1) ? o.dtype : DType::f32;
    run_generic(o, static_cast<uint64_t>(i));
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(GenericTemplate, NaNAndInfinityReachExactlyTheRowsThatAttendToThem) {
  for (const CpuTarget& target : runnable_targets()) {
    for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
      std::mt19937_64 random(3);
      const CaseOptions options{.heads = 1, .sq = 20, .sk = 20, .dqk = 8, .dv = 8, .mask = Mask::causal, .lse = true};
      AttentionCase test = make_case(options, random);
      const auto poke = [&](const Access& access, int64_t row) {
        test.tensors[static_cast<size_t>(access.tensor)].set(row * 8 + 3, value);
      };
      poke(test.spec.dots[0].query, 4);
      poke(test.spec.dots[0].key, 12);
      const CpuPlan plan = plan_cpu(build_tile_program(test.spec), target, {.force_generic = true});
      run_case(test, plan.choices[0].schedule, target);
      check_case(test);
    }
  }
}

/// The interpreters of the spec and of the tile program agree with the kernel, tensor by tensor.
TEST(GenericTemplate, InterpretersAgree) {
  const CpuTarget target = runnable_targets()[0];
  for (const Mask mask : {Mask::none, Mask::everything, Mask::padding}) {
    for (const bool two_dots : {false, true}) {
      std::mt19937_64 random(5);
      const AttentionCase test = make_case({.dtype = DType::bf16,
                                            .batch = 2,
                                            .heads = 4,
                                            .group = 2,
                                            .sq = 9,
                                            .sk = 21,
                                            .dqk = 12,
                                            .dv = 10,
                                            .mask = mask,
                                            .score = Score::alibi,
                                            .arrangement = Arrangement::bshd,
                                            .layout = Layout::gapped,
                                            .sink = true,
                                            .lse = true,
                                            .two_dots = two_dots},
                                           random);
      const TileProgram program = build_tile_program(test.spec);
      run_case(test, plan_cpu(program, target, {.force_generic = true}).choices[0].schedule, target);
      const auto spec = interpret(test.spec, test.dims, views_of(test.tensors));
      const auto tiles = interpret(program, test.dims, views_of(test.tensors), 4, 8, 2);
      ASSERT_TRUE(spec.ok() && tiles.ok());
      size_t output = 0;
      for (const TestTensor& tensor : test.tensors) {
        if (!test.spec.tensors[static_cast<size_t>(&tensor - test.tensors.data())].output) continue;
        for (const auto& oracle : {(*spec)[output], (*tiles)[output]}) {
          ASSERT_EQ(static_cast<int64_t>(oracle.values.size()), tensor.size());
          for (int64_t i = 0; i < tensor.size(); ++i)
            EXPECT_NEAR(tensor.get(i), static_cast<double>(oracle.values[static_cast<size_t>(i)]), 2e-5) << i;
        }
        ++output;
      }
    }
  }
}

/// Bitwise equality over the number of pieces that work is cut into.
TEST(GenericTemplate, PiecesOfWorkDoNotChangeResults) {
  const CaseOptions options{.batch = 2, .sq = 50, .sk = 90, .mask = Mask::causal};
  const CpuTarget target = runnable_targets()[0];
  std::vector<std::vector<double>> results;
  for (const int64_t pieces : {1, 2, 7, 100}) {
    std::mt19937_64 random(1);
    const AttentionCase test = make_case(options, random);
    const CpuPlan plan = plan_cpu(build_tile_program(test.spec), target, {.force_generic = true});
    run_case(test, plan.choices[0].schedule, target, true, pieces);
    const TestTensor& o = test.tensors[static_cast<size_t>(test.spec.output.tensor)];
    results.emplace_back();
    for (int64_t i = 0; i < o.size(); ++i) results.back().push_back(o.get(i));
  }
  for (const auto& result : results) EXPECT_EQ(result, results[0]);
}

}  // namespace
}  // namespace tilewright::testing
