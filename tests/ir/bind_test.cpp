#include "ir/bind.h"

#include <gtest/gtest.h>

#include "tests/ir/spec_text_case.h"

namespace tilewright {
namespace {

using testing::kB;
using testing::kPast;
using testing::kSq;

Result<DimBindings> bind(const std::vector<TensorType>& types, const std::vector<std::vector<int64_t>>& shapes) {
  std::vector<std::string> names;
  std::vector<TensorView> views;
  for (size_t i = 0; i < types.size(); ++i) names.push_back(std::string(1, static_cast<char>('a' + i)));
  for (const auto& shape : shapes) views.push_back(TensorView::contiguous(nullptr, DType::f32, shape));
  return bind_dims(types, names, views);
}

std::string why(const Result<DimBindings>& result) { return result ? "bound" : to_string(result.error()); }

TEST(Bind, SolvesNamedDims) {
  const auto dims = bind({{DType::f32, {kB, kSq}}, {DType::f32, {kB, kPast + kSq}}}, {{2, 3}, {2, 10}});
  ASSERT_TRUE(dims) << why(dims);
  EXPECT_EQ(*dims, (DimBindings{{"B", 2}, {"Past", 7}, {"Sq", 3}}));
}

TEST(Bind, SolvesInAnyOrder) {
  const auto dims = bind({{DType::f32, {kPast + kSq}}, {DType::f32, {kSq * 4}}}, {{10}, {12}});
  ASSERT_TRUE(dims) << why(dims);
  EXPECT_EQ((*dims).at("Past"), 7);
}

TEST(Bind, ZeroSizesBind) {
  const auto dims = bind({{DType::f32, {kB, kSq}}}, {{0, 0}});
  ASSERT_TRUE(dims) << why(dims);
}

TEST(Bind, NamesBothSidesOfAMismatch) {
  const auto two = bind({{DType::f32, {kB, kSq}}, {DType::f32, {kB, 8}}}, {{2, 3}, {5, 8}});
  EXPECT_EQ(why(two), "%b: axis 0 has size 5, expected B = 2 (B = 2 from axis 0 of %a)");
  const auto constant = bind({{DType::f32, {Dim(8)}}}, {{9}});
  EXPECT_EQ(why(constant), "%a: axis 0 has size 9, expected 8");
}

TEST(Bind, RefusesWhatCannotBe) {
  EXPECT_EQ(why(bind({{DType::f32, {kSq * 4}}}, {{10}})),
            "%a: axis 0 has size 10, which no size of Sq makes equal to 4*Sq");
  EXPECT_EQ(why(bind({{DType::f32, {kSq}}, {DType::f32, {kPast + kSq}}}, {{10}, {4}})),
            "%b: axis 0 has size 4, which no size of Past makes equal to Past+Sq (Sq = 10 from axis 0 of %a)");
  EXPECT_EQ(why(bind({{DType::f32, {kSq}}}, {{-1}})), "%a: axis 0 has the negative size -1");
  EXPECT_EQ(why(bind({{DType::f32, {kSq}}}, {{1, 2}})), "%a: rank is 2, expected 1 for f32[Sq]");
  EXPECT_EQ(why(bind({{DType::f16, {kSq}}}, {{1}})), "%a: dtype is f32, expected f16");
  EXPECT_EQ(why(bind({{DType::f32, {kSq + kB}}}, {{3}})),
            "%a: axis 0 is B+Sq, whose names no parameter's size determines");
}

}  // namespace
}  // namespace tilewright
