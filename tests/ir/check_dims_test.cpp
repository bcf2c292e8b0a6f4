#include <gtest/gtest.h>

#include "ir/bind.h"

namespace tilewright {
namespace {

const Dim B = Dim::named("B"), S = Dim::named("S"), Past = Dim::named("Past");

TEST(UnsolvableDims, AreTheOnesInSumsOfUnknowns) {
  EXPECT_EQ(unsolvable_dims(std::vector<TensorType>{{DType::f32, {B, Past + S}}}),
            (std::vector<std::string>{"Past", "S"}));
  EXPECT_TRUE(unsolvable_dims(std::vector<TensorType>{{DType::f32, {S, Past + S}}}).empty());
}

TEST(CheckDims, FindsSlicesOutsideTheirOperand) {
  GraphBuilder b("slices");
  const ValueId x = b.param("x", {DType::f32, {B, S}});
  b.result(b.named(b.slice(x, 1, B, S - 1), "y"));
  EXPECT_EQ(to_string(check_dims(b.graph(), {{"B", 1}, {"S", 4}})), "");
  EXPECT_EQ(to_string(check_dims(b.graph(), {{"B", 5}, {"S", 4}})),
            "%y: axis 1 of f32[B,-B+S-1] has the negative size -2\n"
            "%y: slice [B, S-1) = [5, 3) is not a range within axis 1 of %x, whose size is 4");
}

}  // namespace
}  // namespace tilewright
