#include "codegen/cpu/llvm_builder.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/cpu_detect.h"
#include "tests/codegen/jit_support.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {
namespace {
using cpu::LlvmBuilder;
using cpu::Values;
using llvm::Value;

constexpr DType kAll[] = {DType::f64, DType::f32, DType::f16, DType::bf16,
                          DType::i64, DType::i32, DType::i8,  DType::boolean};
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

/// Scratch is an array of words: pointers and integers by position.
Value* word(LlvmBuilder& b, int64_t i) {
  return b.load(DType::i64, b.element_pointer(DType::i64, b.argument(3), b.i64(i)));
}
Value* pointer_word(LlvmBuilder& b, int64_t i) { return b.ir.CreateIntToPtr(word(b, i), b.pointer_type()); }
int64_t address(const TestTensor& t) { return reinterpret_cast<int64_t>(t.view().data); }

TEST(LlvmBuilder, EveryDtypeCopiesThroughScalarsVectorsAndMasks) {
  std::mt19937_64 random(1);
  for (const CpuTarget& target : runnable_targets()) {
    for (const DType dtype : kAll) {
      for (const int64_t lanes : {1, 4, 8, 16}) {
        SCOPED_TRACE(std::string(to_string(target.isa)) + " " + std::string(to_string(dtype)) + " x" +
                     std::to_string(lanes));
        const JitKernel kernel(target, [&](LlvmBuilder& b) {
          Value *from = pointer_word(b, 0), *to = pointer_word(b, 1);
          b.loop(b.argument(1), b.argument(2), lanes, [&](Value* i) {
            Value* mask = lanes == 1 ? nullptr : b.lane_mask(b.sub(b.argument(2), i), lanes);
            Value* value = b.load_vector(dtype, b.element_pointer(dtype, from, i), lanes, mask);
            b.store_vector(dtype, value, b.element_pointer(dtype, to, i), mask);
          });
        });
        TestTensor from(dtype, {37}, Layout::contiguous, random), to(dtype, {37}, Layout::contiguous, random);
        to.poison();
        for (int64_t i = 0; i < 37; ++i) from.set(i, dtype == DType::boolean ? double(i % 3 == 0) : double(i - 18));
        int64_t words[] = {address(from), address(to)};
        kernel.run(0, 37, words);
        for (int64_t i = 0; i < 37; ++i) EXPECT_EQ(to.get(i), from.get(i)) << i;
        EXPECT_TRUE(to.gaps_intact());
      }
    }
  }
}

TEST(LlvmBuilder, NarrowFloatsRoundToNearestEvenAndKeepNaN) {
  std::mt19937_64 random(2);
  std::vector<float> inputs = {0.f,     -0.f,    kInf,    -kInf,   kNaN,     -kNaN, 1.00390625f, 1.01171875f,
                               65504.f, 65519.f, 65520.f, 3.4e38f, -3.4e38f, 1e-7f, 6.1e-5f};
  uint32_t sneaky = 0x7f800001;  // a NaN whose upper half looks like an infinity
  float sneaky_nan;
  std::memcpy(&sneaky_nan, &sneaky, 4);
  inputs.push_back(sneaky_nan);
  while (inputs.size() < 4096) {
    const auto bits = static_cast<uint32_t>(random());
    float value;
    std::memcpy(&value, &bits, 4);
    if (std::abs(value) > 1e-37f) inputs.push_back(value);
  }
  for (const CpuTarget& target : runnable_targets()) {
    for (const DType dtype : {DType::bf16, DType::f16}) {
      for (const int64_t lanes : {1, 8, 16}) {
        const JitKernel kernel(target, [&](LlvmBuilder& b) {
          Value *from = pointer_word(b, 0), *to = pointer_word(b, 1);
          b.loop(b.argument(1), b.argument(2), lanes, [&](Value* i) {
            Value* value = b.load_vector(DType::f32, b.element_pointer(DType::f32, from, i), lanes);
            b.store_vector(dtype, value, b.element_pointer(dtype, to, i));
          });
        });
        std::vector<uint16_t> out(inputs.size());
        int64_t words[] = {reinterpret_cast<int64_t>(inputs.data()), reinterpret_cast<int64_t>(out.data())};
        kernel.run(0, static_cast<int64_t>(inputs.size()), words);
        for (size_t i = 0; i < inputs.size(); ++i) {
          uint16_t want;
          store_element(dtype, &want, inputs[i]);
          const double got = load_element(dtype, &out[i]);
          if (std::isnan(inputs[i]))
            EXPECT_TRUE(std::isnan(got)) << i;
          else
            EXPECT_EQ(out[i], want) << inputs[i] << " as " << to_string(dtype) << " x" << lanes;
        }
      }
    }
  }
}

TEST(LlvmBuilder, StridedAccessTouchesItsElementsOnly) {
  std::mt19937_64 random(3);
  for (const CpuTarget& target : runnable_targets()) {
    for (const DType dtype : kAll) {
      const int64_t lanes = 8;
      const JitKernel kernel(target, [&](LlvmBuilder& b) {
        Value *from = pointer_word(b, 0), *from_stride = word(b, 1), *to = pointer_word(b, 2), *to_stride = word(b, 3);
        b.loop(b.i64(0), b.argument(2), lanes, [&](Value* i) {
          Value* mask = b.lane_mask(b.sub(b.argument(2), i), lanes);
          Value* value =
              b.load_strided(dtype, b.element_pointer(dtype, from, b.mul(i, from_stride)), from_stride, lanes, mask);
          b.store_strided(dtype, value, b.element_pointer(dtype, to, b.mul(i, to_stride)), to_stride, mask);
        });
      });
      for (const Layout layout : {Layout::contiguous, Layout::gapped, Layout::reversed}) {
        SCOPED_TRACE(to_string(dtype));
        TestTensor from(dtype, {21}, layout, random), to(dtype, {21}, layout, random);
        to.poison();
        for (int64_t i = 0; i < 21; ++i) from.set(i, dtype == DType::boolean ? double(i % 2) : double(i - 10));
        int64_t words[] = {address(from), from.view().strides[0], address(to), to.view().strides[0]};
        kernel.run(0, 21, words);
        for (int64_t i = 0; i < 21; ++i) EXPECT_EQ(to.get(i), from.get(i)) << i;
        EXPECT_TRUE(to.gaps_intact());
      }
    }
  }
}

TEST(LlvmBuilder, LoopsCarryValuesAndMayRunZeroTimes) {
  const JitKernel kernel(detect_cpu(), [](LlvmBuilder& b) {
    const Values sums =
        b.loop(b.argument(1), b.argument(2), 3, {b.i64(0), b.i64(100)}, [&](Value* i, const Values& carried) {
          Value* odd = b.ir.CreateTrunc(i, b.ir.getInt1Ty());
          Value* extra = b.branch(
              odd, [&] { return Values{b.i64(1000)}; },
              [&] {
                return Values{b.loop(b.i64(0), i, 1, {b.i64(0)}, [&](Value*, const Values& inner) {
                  return Values{b.add(inner[0], b.i64(1))};
                })[0]};
              })[0];
          return Values{b.add(carried[0], extra), b.sub(carried[1], b.i64(1))};
        });
    b.store(DType::i64, sums[0], b.argument(3));
    b.store(DType::i64, sums[1], b.element_pointer(DType::i64, b.argument(3), b.i64(1)));
  });
  for (const auto& [lo, hi] : {std::pair<int64_t, int64_t>{0, 0}, {5, 2}, {0, 10}, {-3, 8}}) {
    int64_t got[2], sum = 0, trips = 0;
    for (int64_t i = lo; i < hi; i += 3, ++trips) sum += i % 2 ? 1000 : std::max<int64_t>(i, 0);
    kernel.run(lo, hi, got);
    EXPECT_EQ(got[0], sum);
    EXPECT_EQ(got[1], 100 - trips);
  }
}

TEST(LlvmBuilder, ReductionsAndMasks) {
  for (const CpuTarget& target : runnable_targets()) {
    for (const int64_t lanes : {1, 2, 4, 8, 16}) {
      const JitKernel kernel(target, [&](LlvmBuilder& b) {
        Value* values = b.load_vector(DType::f32, b.argument(3), lanes);
        Value* mask = b.lane_mask(b.argument(1), lanes);
        Value* kept = b.ir.CreateSelect(mask, values, b.constant(DType::f32, -kInf, lanes));
        Value* seen = b.max_ignoring_nan(kept, b.constant(DType::f32, -kInf, lanes));
        Value* zeroed = b.ir.CreateSelect(mask, values, b.constant(DType::f32, 0, lanes));
        const auto out = [&](int64_t i) { return b.element_pointer(DType::f32, b.argument(3), b.i64(16 + i)); };
        b.store(DType::f32, lanes == 1 ? seen : b.reduce_max(seen), out(0));
        b.store(DType::f32, lanes == 1 ? zeroed : b.reduce_add(zeroed), out(1));
      });
      for (const int64_t count : {std::numeric_limits<int64_t>::min(), int64_t{-1}, int64_t{0}, int64_t{1}, int64_t{3},
                                  int64_t{1} << 32, std::numeric_limits<int64_t>::max()}) {
        float data[18];
        float largest = -kInf, sum = 0;
        for (int i = 0; i < 16; ++i) {
          data[i] = static_cast<float>((i * 7) % 5 - 9);
          if (i < lanes && i < count) largest = std::max(largest, data[i]), sum += data[i];
        }
        kernel.run(count, 0, data);
        EXPECT_EQ(data[16], largest) << lanes << " " << count;
        EXPECT_EQ(data[17], sum) << lanes << " " << count;
      }
    }
  }
}

TEST(LlvmBuilder, MaxIgnoresNaNOnTheLeft) {
  const JitKernel kernel(detect_cpu(), [](LlvmBuilder& b) {
    Value* a = b.load_vector(DType::f32, b.argument(3), 4);
    Value* c = b.load_vector(DType::f32, b.element_pointer(DType::f32, b.argument(3), b.i64(4)), 4);
    b.store_vector(DType::f32, b.max_ignoring_nan(a, c), b.argument(3));
  });
  float data[8] = {kNaN, 1, -kInf, 5, 2, 3, -kInf, 4};
  kernel.run(0, 0, data);
  EXPECT_EQ(data[0], 2);
  EXPECT_EQ(data[1], 3);
  EXPECT_EQ(data[2], -kInf);
  EXPECT_EQ(data[3], 5);
}

TEST(LlvmBuilder, InternalFunctionsAreCalled) {
  const JitKernel kernel(detect_cpu(), [](LlvmBuilder& b) {
    llvm::Function* outer = b.function();
    llvm::BasicBlock* block = b.ir.GetInsertBlock();
    llvm::Function* twice = b.begin_internal("twice", b.i64_type(), {b.i64_type()});
    b.ir.CreateRet(b.mul(b.argument(0), b.i64(2)));
    b.resume(outer, block);
    Value* slot = b.stack(b.i64_type());
    b.store(DType::i64, b.ir.CreateCall(twice, {b.argument(1)}), slot);
    b.store(DType::i64, b.load(DType::i64, slot), b.argument(3));
  });
  int64_t out = 0;
  kernel.run(21, 0, &out);
  EXPECT_EQ(out, 42);
}

}  // namespace
}  // namespace tilewright::testing
