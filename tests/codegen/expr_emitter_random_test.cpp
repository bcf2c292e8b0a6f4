// The emitter on random expressions whose values are exact.
#include <gtest/gtest.h>

#include "tests/support/expr_scene.h"

namespace tilewright::testing {
namespace {

/// Random integer and bool expressions, with floats that hold small whole numbers.
class RandomExpr {
 public:
  explicit RandomExpr(uint64_t seed) : random_(seed) {
    scene_.scores.assign(kExtent, 0);
    for (DType dtype : {DType::i64, DType::i32, DType::i8, DType::boolean, DType::f32}) {
      tables_.push_back(scene_.add(dtype, {3, 1 + static_cast<int64_t>(random_() % 40)},
                                   static_cast<Layout>(random_() % 4), random_));
      TestTensor& t = scene_.tensors.back();
      for (int64_t i = 0; i < t.size(); ++i)
        t.set(i, dtype == DType::boolean ? random_() % 2 : static_cast<double>(random_() % 255) - 127);
    }
  }
  Scene build() {
    const int kind = static_cast<int>(random_() % 4);
    scene_.expr.set_root(kind == 0   ? boolean(4)
                         : kind == 3 ? real(3)
                                     : integer(kind == 1 ? DType::i64 : DType::i32, 4));
    return std::move(scene_);
  }

 private:
  Expr& e() { return scene_.expr; }
  int pick(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }

  ExprId integer(DType dtype, int depth) {
    if (depth == 0 || pick(6) == 0) {
      switch (pick(6)) {
        case 0: return e().index(Axis::kv, dtype);
        case 1: return e().index(static_cast<Axis>(pick(3)), dtype);
        case 2: return e().constant_int(pick(40) - 20, dtype);
        case 3:
          return dtype == DType::i64 ? e().dim(Dim::named("Sk", pick(3) - 1) + Dim(pick(9)))
                                     : e().constant_int(1 << pick(31), dtype);
        case 4:
          return e().constant_int(static_cast<int64_t>(random_()) >> (dtype == DType::i64 ? pick(63) : 33 + pick(30)),
                                  dtype);
        default: return e().index(Axis::kv, dtype);
      }
    }
    static constexpr Op kOps[] = {Op::add, Op::sub, Op::mul,         Op::div,        Op::mod,         Op::min, Op::max,
                                  Op::shl, Op::shr, Op::logical_and, Op::logical_or, Op::logical_xor, Op::add, Op::sub};
    switch (pick(10)) {
      case 0: return e().op(pick(2) ? Op::neg : Op::abs, dtype, {integer(dtype, depth - 1)});
      case 1:
        return e().op(Op::select, dtype, {boolean(depth - 1), integer(dtype, depth - 1), integer(dtype, depth - 1)});
      case 2: {
        static constexpr DType kFrom[] = {DType::i64, DType::i32};
        return e().op(Op::cast, dtype, {integer(kFrom[pick(2)], depth - 1)});
      }
      case 3: {
        static constexpr DType kTypes[] = {DType::i64, DType::i32, DType::i8};
        const int table = pick(3);
        ExprId loaded =
            e().load(tables_[static_cast<size_t>(table)], kTypes[table],
                     {integer(DType::i64, depth - 1), integer(pick(2) ? DType::i64 : DType::i64, depth - 1)}, false);
        return kTypes[table] == dtype ? loaded : e().op(Op::cast, dtype, {loaded});
      }
      case 4: return e().op(Op::cast, dtype, {real(depth - 1)});
      default: return e().op(kOps[pick(14)], dtype, {integer(dtype, depth - 1), integer(dtype, depth - 1)});
    }
  }

  ExprId boolean(int depth) {
    static constexpr Op kCompare[] = {Op::eq, Op::ne, Op::lt, Op::le, Op::gt, Op::ge};
    static constexpr Op kLogic[] = {Op::logical_and, Op::logical_or, Op::logical_xor};
    if (depth == 0) return e().op(Op::le, DType::boolean, {e().index(Axis::kv), e().index(Axis::q)});
    switch (pick(6)) {
      case 0: return e().op(Op::logical_not, DType::boolean, {boolean(depth - 1)});
      case 1: return e().op(kLogic[pick(3)], DType::boolean, {boolean(depth - 1), boolean(depth - 1)});
      case 2:
        return e().load(tables_[3], DType::boolean, {integer(DType::i64, depth - 1), integer(DType::i64, depth - 1)},
                        false);
      case 3: return e().op(kCompare[pick(6)], DType::boolean, {real(depth - 1), real(depth - 1)});
      default: {
        const DType dtype = pick(3) ? DType::i64 : DType::i32;
        return e().op(kCompare[pick(6)], DType::boolean, {integer(dtype, depth - 1), integer(dtype, depth - 1)});
      }
    }
  }

  /// Whole numbers below 2^20 in size.
  ExprId real(int depth) {
    if (depth <= 0 || pick(3) == 0) {
      if (pick(2))
        return e().op(Op::cast, DType::f64,
                      {e().load(tables_[4], DType::f32,
                                {integer(DType::i64, depth > 0 ? depth - 1 : 0), integer(DType::i64, 0)}, false)});
      ExprId small =
          e().op(Op::mod, DType::i64,
                 {integer(DType::i64, depth > 0 ? depth - 1 : 0), e().constant_int(1 + pick(1000), DType::i64)});
      return e().op(Op::cast, DType::f64, {small});
    }
    static constexpr Op kOps[] = {Op::add, Op::sub, Op::min, Op::max};
    if (pick(4) == 0) return e().op(Op::select, DType::f64, {boolean(depth - 1), real(depth - 1), real(depth - 1)});
    return e().op(kOps[pick(4)], DType::f64, {real(depth - 1), real(depth - 1)});
  }

  std::mt19937_64 random_;
  Scene scene_;
  std::vector<int> tables_;
};

TEST(ExprEmitter, RandomExpressions) {
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Scene scene = RandomExpr(seed).build();
    check_scene(scene, 0, seed % 4 == 0);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace tilewright::testing
