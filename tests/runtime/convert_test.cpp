#include "runtime/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <vector>

namespace tilewright {
namespace {

TEST(Convert, EveryF16RoundTrips) {
  std::vector<uint16_t> bits(65536), back(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  std::vector<float> wide(bits.size());
  convert_f16_to_f32(bits.data(), wide.data(), 65536);
  convert_f32_to_f16(wide.data(), back.data(), 65536);
  for (size_t i = 0; i < bits.size(); ++i) {
    const double exact = read_element(DType::f16, &bits[i]);
    if (std::isnan(exact)) {
      EXPECT_TRUE(std::isnan(wide[i]));
      EXPECT_TRUE(std::isnan(read_element(DType::f16, &back[i])));
      continue;
    }
    EXPECT_EQ(static_cast<double>(wide[i]), exact) << i;
    EXPECT_EQ(back[i], bits[i]);
    uint16_t one = 0;
    write_element(DType::f16, &one, exact);
    EXPECT_EQ(one, bits[i]);
  }
}

TEST(Convert, Bf16RoundsToEvenAndKeepsNaN) {
  std::vector<float> values;
  for (uint32_t i = 0; i < 70000; ++i) values.push_back(std::bit_cast<float>(i * 61331u));
  std::vector<uint16_t> bulk(values.size());
  convert_f32_to_bf16(values.data(), bulk.data(), static_cast<int64_t>(values.size()));
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) {
      EXPECT_TRUE(std::isnan(read_element(DType::bf16, &bulk[i])));
      continue;
    }
    uint16_t one = 0;
    write_element(DType::bf16, &one, static_cast<double>(values[i]));
    EXPECT_EQ(bulk[i], one) << values[i];
  }
}

TEST(Convert, F16RoundsToEven) {
  const std::vector<float> values = {1.0f + 0x1p-11f, 1.0f + 3 * 0x1p-11f, 0x1p-25f, 0x1.8p-25f, 65519.9f,
                                     65520.0f,        3 * 0x1p-25f};
  std::vector<uint16_t> out(values.size());
  convert_f32_to_f16(values.data(), out.data(), static_cast<int64_t>(out.size()));
  const std::vector<uint16_t> expected = {0x3C00, 0x3C02, 0x0000, 0x0001, 0x7BFF, 0x7C00, 0x0002};
  for (size_t i = 0; i < values.size(); ++i) {
    uint16_t one = 0;
    write_element(DType::f16, &one, static_cast<double>(values[i]));
    EXPECT_EQ(one, expected[i]) << values[i];
    EXPECT_EQ(out[i], expected[i]) << values[i];
  }
}

TEST(Convert, StridedViewsOfAnyRank) {
  std::vector<double> from(24);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<double>(i) - 3.75;
  TensorView source = TensorView::contiguous(from.data(), DType::f64, {2, 3, 4});
  std::swap(source.shape[0], source.shape[2]);
  std::swap(source.strides[0], source.strides[2]);
  std::vector<int32_t> to(24);
  convert(source, TensorView::contiguous(to.data(), DType::i32, {4, 3, 2}));
  EXPECT_EQ(to[0], -3);
  EXPECT_EQ(to[1], 8);   // 12 - 3.75
  EXPECT_EQ(to[2], 0);   // 4 - 3.75
  EXPECT_EQ(to[6], -2);  // 1 - 3.75
  double scalar = 2.5;
  float narrow = 0;
  convert(TensorView::contiguous(&scalar, DType::f64, {}), TensorView::contiguous(&narrow, DType::f32, {}));
  EXPECT_EQ(narrow, 2.5f);
}

}  // namespace
}  // namespace tilewright
