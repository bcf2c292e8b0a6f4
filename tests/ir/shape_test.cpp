#include "ir/shape.h"

#include <gtest/gtest.h>

namespace tilewright {
namespace {

TEST(Dim, PrintsAffineSumsInNameOrder) {
  const Dim dim = Dim::named("Sq") + Dim::named("Past", 2) + 3;
  EXPECT_EQ(to_string(dim), "2*Past+Sq+3");
  EXPECT_EQ(to_string(Dim::named("Sk") - Dim::named("Sq")), "Sk-Sq");
  EXPECT_EQ(to_string(Dim(0)), "0");
  EXPECT_EQ(to_string(Dim::named("B") - Dim::named("B")), "0");
}

TEST(Dim, EvaluationReportsUnboundAndOverflow) {
  const Dim dim = Dim::named("S", 4) + 1;
  EXPECT_EQ(dim.evaluate({{"S", 10}}), 41);
  EXPECT_EQ(dim.evaluate({}), std::nullopt);
  EXPECT_EQ(dim.evaluate({{"S", INT64_MAX / 2}}), std::nullopt);
}

TEST(Shape, BroadcastsRightAligned) {
  const Shape scores{Dim::named("B"), 8, Dim::named("Sq"), Dim::named("Sk")};
  EXPECT_EQ(broadcast(scores, {Dim::named("Sk")}), scores);
  EXPECT_EQ(broadcast({8, 1, 1}, scores), scores);
  EXPECT_EQ(broadcast(scores, {7}), std::nullopt);
}

}  // namespace
}  // namespace tilewright
