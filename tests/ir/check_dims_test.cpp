#include <gtest/gtest.h>

#include "ir/bind.h"
#include "tests/ir/spec_text_case.h"

namespace tilewright {
namespace {

using testing::kB;
using testing::kPast;
using testing::kS;

TEST(UnsolvableDims, AreTheOnesInSumsOfUnknowns) {
  EXPECT_EQ(unsolvable_dims(std::vector<TensorType>{{DType::f32, {kB, kPast + kS}}}),
            (std::vector<std::string>{"Past", "S"}));
  EXPECT_TRUE(unsolvable_dims(std::vector<TensorType>{{DType::f32, {kS, kPast + kS}}}).empty());
}

TEST(CheckDims, FindsSlicesOutsideTheirOperand) {
  GraphBuilder b("slices");
  const ValueId x = b.param("x", {DType::f32, {kB, kS}});
  b.result(b.named(b.slice(x, 1, kB, kS - 1), "y"));
  EXPECT_EQ(to_string(check_dims(b.graph(), {{"B", 1}, {"S", 4}})), "");
  EXPECT_EQ(to_string(check_dims(b.graph(), {{"B", 5}, {"S", 4}})),
            "%y: axis 1 of f32[B,-B+S-1] has the negative size -2\n"
            "%y: slice [B, S-1) = [5, 3) is not a range within axis 1 of %x, whose size is 4");
}

}  // namespace
}  // namespace tilewright
