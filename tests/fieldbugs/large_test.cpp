// Field bugs of size: R1, R2, R3 (int32 offsets), R18 (long sequences) and the exact tier of semantics 19.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cmath>

#include "tests/fieldbugs/dims.h"
#include "tests/support/kernel_check.h"

namespace tilewright {
namespace {

using testing::AttentionGraph;
using testing::KernelCheck;
using testing::kSk;
using testing::kSq;

/// Address space without memory behind it until it is touched; reads give zeros.
class SparseMemory {
 public:
  explicit SparseMemory(int64_t bytes) : bytes_(static_cast<size_t>(bytes)) {
    data_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data_ == MAP_FAILED) data_ = nullptr;
  }
  SparseMemory(const SparseMemory&) = delete;
  ~SparseMemory() {
    if (data_) munmap(data_, bytes_);
  }
  float* floats() const { return static_cast<float*>(data_); }

 private:
  size_t bytes_;
  void* data_;
};

AttentionGraph windowed() {
  AttentionGraph graph;
  graph.dqk = graph.dv = 32;
  graph.modify = [](GraphBuilder& g, ValueId s) { return g.mask_window(s, 100, 0, CausalAlign::bottom_right); };
  return graph;
}

TEST(R1, OffsetsPastTwoToTheThirtyOne) {
  // Two heads of 2^26 keys x 32: head 1 begins at element 2^31. The window lets only the last keys be seen, so that a
  // problem of 200 keys has the same answer.
  constexpr int64_t kKeys = int64_t{1} << 26, kTail = 200, kDim = 32;
  SparseMemory k(2 * kKeys * kDim * 4), v(2 * kKeys * kDim * 4);
  if (!k.floats() || !v.floats()) GTEST_SKIP() << "no 32 GiB of address space";
  for (int64_t sq : {1, 40}) {
    KernelCheck small(windowed().build(), {{"B", 1}, {"Sq", sq}, {"Sk", kTail}});
    std::vector<TensorView> inputs{small.input("q").view()};
    for (auto& [name, memory] : {std::pair<const char*, SparseMemory*>{"k", &k}, {"v", &v}}) {
      for (int64_t i = 0; i < small.input(name).size(); ++i) {
        const int64_t head = i / (kTail * kDim), row = i / kDim % kTail;
        memory->floats()[(head * kKeys + kKeys - kTail + row) * kDim + i % kDim] =
            static_cast<float>(small.input(name).get(i));
      }
      inputs.push_back(TensorView::contiguous(memory->floats(), DType::f32, {1, 2, kKeys, kDim}));
    }
    for (const testing::KernelVariant& variant : testing::variants_of_both_tiers()) {
      SCOPED_TRACE(fmt::format("{} Sq {}", variant.text(), sq));
      CompileOptions options = variant.options();
      auto kernel = testing::engine_for(variant.isa).compile(windowed().build(), options);
      ASSERT_TRUE(kernel.ok()) << to_string(kernel.error());
      std::vector<float> out(static_cast<size_t>(2 * sq * kDim), NAN);
      const TensorView outputs[] = {TensorView::contiguous(out.data(), DType::f32, {1, 2, sq, kDim})};
      RunOptions run;
      run.workspace_limit = 256 << 20;
      auto done = kernel->run(inputs, outputs, run);
      ASSERT_TRUE(done.ok()) << to_string(done.error());
      small.expect_outputs(outputs);
      // The fault: the head's offset of 2^31 elements, doubled to bytes in 32 bits, is lost.
      std::vector<TensorView> wrapped = inputs;
      wrapped[1].strides[1] = 0;
      ASSERT_TRUE(kernel->run(wrapped, outputs, run).ok());
      EXPECT_FALSE(small.accepts(outputs));
    }
  }
}

TEST(R2, HugeStridesOverSmallData) {
  constexpr int64_t kStride = (int64_t{1} << 26) + 3, kRows = 40;
  AttentionGraph graph;
  KernelCheck check(graph.build(), {{"B", 1}, {"Sq", kRows}, {"Sk", kRows}});
  std::vector<std::unique_ptr<SparseMemory>> memory;
  for (const char* name : {"q", "k", "v", "o"}) {
    memory.push_back(std::make_unique<SparseMemory>(kRows * kStride * 4));
    if (!memory.back()->floats()) GTEST_SKIP() << "no 44 GiB of address space";
    TensorView view = TensorView::contiguous(memory.back()->floats(), DType::f32, {1, 2, kRows, 16});
    view.strides = {0, 16, kStride, 1};
    if (std::string_view(name) == "o") {
      check.own_outputs = {view};
      continue;
    }
    for (int64_t i = 0; i < check.input(name).size(); ++i)
      memory.back()->floats()[i / 16 / kRows * 16 + i / 16 % kRows * kStride + i % 16] =
          static_cast<float>(check.input(name).get(i));
    check.replace(name, view);
  }
  check.run();
  TensorView near = check.own_outputs[0];
  near.data = memory[1]->floats();
  near.strides[2] = static_cast<int32_t>(kStride * 64);  // a stride that lost its upper bits
  check.expect_misreading_caught("k", near);
}

/// keep = ((kv · a + q · b) >> shift) mod 3 != 0 in the given integer width.
AttentionGraph with_arithmetic(DType dtype, int64_t a, int64_t b, int64_t shift) {
  AttentionGraph graph;
  graph.modify = [=](GraphBuilder& g, ValueId s) {
    const auto integer = [&](int64_t value) { return g.constant_int(value, dtype); };
    const ValueId kv = g.binary(Op::mul, g.index(3, {1, 1, 1, kSk}, dtype), integer(a));
    const ValueId q = g.binary(Op::mul, g.index(2, {1, 1, kSq, 1}, dtype), integer(b));
    const ValueId hash = g.binary(Op::mod, g.binary(Op::shr, g.binary(Op::add, kv, q), integer(shift)), integer(3));
    const ValueId bias = g.binary(Op::mul, g.cast(hash, DType::f32), g.constant(0.25, DType::f32));
    return g.select(g.binary(Op::ne, hash, integer(0)), g.binary(Op::add, s, bias), g.constant(-HUGE_VAL, DType::f32));
  };
  return graph;
}

TEST(R3, ScoreAndMaskArithmeticIsSixtyFourBits) {
  const AttentionGraph graph = with_arithmetic(DType::i64, 3000000019, 50000000017, 29);
  KernelCheck check(graph.build(), {{"B", 1}, {"Sq", 70}, {"Sk", 140}});
  check.run();
  check.expect_caught(with_arithmetic(DType::i64, static_cast<int32_t>(3000000019), 50000000017, 29).build());
}

TEST(R3, DeclaredThirtyTwoBitsWrap) {
  KernelCheck check(with_arithmetic(DType::i32, 70000001, 90000001, 27).build(), {{"B", 1}, {"Sq", 70}, {"Sk", 140}});
  check.run();
  check.expect_caught(with_arithmetic(DType::i64, 70000001, 90000001, 27).build());
}

/// A causal mask and key padding. `wrap`: the key's position in the padding mask is taken modulo this (0 = not).
AttentionGraph long_and_padded(int64_t wrap) {
  AttentionGraph graph;
  graph.heads = graph.kv_heads = 1;
  graph.lse = true;
  graph.modify = [wrap](GraphBuilder& g, ValueId s) {
    s = g.mask_causal(s, CausalAlign::bottom_right);
    ValueId keep = g.param("keep", {DType::boolean, {1, 1, 1, kSk}});
    if (wrap > 0) {
      const ValueId zero = g.constant_int(0, DType::i64);
      const ValueId kv = g.binary(Op::mod, g.index(3, {1, 1, 1, kSk}), g.constant_int(wrap, DType::i64));
      keep = g.load(keep, {zero, zero, zero, kv});
    }
    return g.select(keep, s, g.constant(-HUGE_VAL, DType::f32));
  };
  return graph;
}

TEST(R18, LongSequencesWithMasks) {
  for (int64_t sq : {2, 40}) {
    KernelCheck check(long_and_padded(0).build(), {{"B", 1}, {"Sq", sq}, {"Sk", 131072 + 17}},
                      testing::Layout::contiguous);
    check.run();
    // The fault: positions of 17 bits, so that the last 17 keys of 131089 meet the first ones' mask.
    check.expect_caught(long_and_padded(131072).build());
  }
}

/// Key 0, which is not kept, weighs 2^-23 beside a score of 0.
AttentionGraph mean_with_stray_key() {
  AttentionGraph graph;
  graph.heads = graph.kv_heads = 1;
  graph.modify = [](GraphBuilder& g, ValueId s) {
    const ValueId keep = g.param("keep", {DType::boolean, {kSk}});
    const ValueId stray = g.binary(Op::eq, g.index(3, {1, 1, 1, kSk}), g.constant_int(0, DType::i64));
    const ValueId hidden = g.constant(-HUGE_VAL, DType::f32);
    return g.select(keep, s, g.select(stray, g.constant(-23 * std::log(2.0), DType::f32), hidden));
  };
  return graph;
}

TEST(ExactTier, ZeroQueriesAndIntegerValuesGiveTheMeanToTheBit) {
  constexpr int64_t kFirst = 300;  ///< of the kept keys
  for (int64_t kept : {1, 64, 1024, 65536})
    for (int64_t sq : {1, 33}) {
      const int64_t keys = kept + 1000;
      AttentionGraph graph;
      graph.heads = graph.kv_heads = 1;
      graph.modify = [](GraphBuilder& g, ValueId s) {
        return g.select(g.param("keep", {DType::boolean, {kSk}}), s, g.constant(-HUGE_VAL, DType::f32));
      };
      KernelCheck check(graph.build(), {{"B", 1}, {"Sq", sq}, {"Sk", keys}}, testing::Layout::contiguous);
      for (int64_t i = 0; i < check.input("q").size(); ++i) check.input("q").set(i, 0);
      for (int64_t i = 0; i < check.input("v").size(); ++i)
        check.input("v").set(i, static_cast<double>(i * 7 % 17 - 8));
      for (int64_t i = 0; i < keys; ++i) check.input("keep").set(i, i >= kFirst && i < kFirst + kept);
      std::array<double, 16> mean{};
      for (int64_t i = kFirst * 16; i < (kFirst + kept) * 16; ++i)
        mean[static_cast<size_t>(i % 16)] += check.input("v").get(i) / static_cast<double>(kept);
      const auto exact = [&] {
        for (int64_t i = 0; i < sq * 16; ++i)
          if (check.outputs[0].get(i) != mean[static_cast<size_t>(i % 16)]) return false;
        return true;
      };
      for (const testing::KernelVariant& variant : testing::variants_of_both_tiers()) {
        check.variants = {variant};
        check.run();
        EXPECT_TRUE(exact()) << fmt::format("{}, {} kept, Sq {}", variant.text(), kept, sq);
      }
      if (kept > 1) continue;
      // The fault: a weight that should be exactly 0 is 2^-23. The bound of the accuracy rule does not show it.
      EXPECT_TRUE(check.accepts_kernel_of(mean_with_stray_key().build()));
      EXPECT_FALSE(exact()) << "the planted fault went unseen";
    }
}

}  // namespace
}  // namespace tilewright
