#include "tests/support/test_tensor.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tilewright::testing {
namespace {

TEST(TestTensor, EveryLayoutHoldsItsElementsAndSeesStrayWrites) {
  std::mt19937_64 random(1);
  for (Layout layout : {Layout::contiguous, Layout::permuted, Layout::gapped, Layout::reversed})
    for (int round = 0; round < 20; ++round) {
      TestTensor tensor(DType::f32, {2, 3, 5}, layout, random);
      EXPECT_TRUE(std::isnan(tensor.get(0)));
      for (int64_t i = 0; i < tensor.size(); ++i) tensor.set(i, static_cast<double>(i));
      for (int64_t i = 0; i < tensor.size(); ++i) EXPECT_EQ(tensor.get(i), static_cast<double>(i));
      EXPECT_TRUE(tensor.gaps_intact());
    }
}

TEST(TestTensor, RoundsNarrowFloatsToNearestEven) {
  uint16_t bits = 0;
  store_element(DType::bf16, &bits, 1.0 + 1.0 / 256);  // half-way, to even
  EXPECT_EQ(load_element(DType::bf16, &bits), 1.0);
  store_element(DType::bf16, &bits, 1.0 + 3.0 / 256);
  EXPECT_EQ(load_element(DType::bf16, &bits), 1.0 + 1.0 / 64);
  store_element(DType::f16, &bits, 65520.0);
  EXPECT_TRUE(std::isinf(load_element(DType::f16, &bits)));
  store_element(DType::f16, &bits, std::ldexp(1.0, -24));  // the smallest subnormal is exact
  EXPECT_EQ(load_element(DType::f16, &bits), std::ldexp(1.0, -24));
}

TEST(TestTensorDeathTest, AReadPastTheEndFaults) {
  std::mt19937_64 random(1);
  TestTensor tensor(DType::f32, {64}, Layout::contiguous, random);
  EXPECT_DEATH(
      {
        volatile float x = static_cast<float*>(tensor.view().data)[64];
        (void)x;
      },
      "");
}

}  // namespace
}  // namespace tilewright::testing
