#include "tests/support/random_program.h"

#include <cmath>
#include <random>

namespace tilewright::testing {
namespace {

class RandomProgram {
 public:
  explicit RandomProgram(uint64_t seed) : b_("random"), random_(seed) {}

  Graph generate() {
    const Dim n = Dim::named("N"), m = Dim::named("M");
    floats_ = {b_.param("a", {DType::f64, {n, 4, 4}}), b_.param("b", {DType::f64, {4, 4}}),
               b_.param("c", {DType::f64, {n, 1, 4}}), b_.param("d", {DType::f64, {2, m, 4}}),
               b_.param("e", {DType::f64, {m, 4}}),    b_.param("s", {DType::f64, {}})};
    table_ = b_.param("t", {DType::f64, {5, 4}});
    conditions_ = {b_.param("x", {DType::boolean, {m}})};
    for (int i = 0; i < 20; ++i) step();
    for (int i = 0; i < 3; ++i) b_.result(floats_[floats_.size() - 1 - below(std::min<size_t>(floats_.size(), 4))]);
    return b_.take();
  }

 private:
  size_t below(size_t n) { return random_() % n; }
  ValueId pick(const std::vector<ValueId>& from) { return from[below(from.size())]; }
  Shape shape(ValueId id) const { return b_.graph().type(id).shape; }
  bool broadcasts(ValueId x, ValueId y) const { return broadcast(shape(x), shape(y)).has_value(); }

  void step() {
    // Mostly what was made last, so that chains grow.
    const ValueId x = below(3) ? floats_.back() : pick(floats_), y = pick(floats_);
    switch (below(9)) {
      case 0: return pointwise(x, y);
      case 1: return pointwise(y, x);
      case 2: return view(x);
      case 3: return reshape(x);
      case 4: return reduce(x);
      case 5:
      case 7: return product(x, y);
      case 6: return indices(x);
      default: return compare(x, y);
    }
  }

  void pointwise(ValueId x, ValueId y) {
    static constexpr Op kUnary[] = {Op::tanh, Op::sigmoid, Op::abs, Op::neg};
    static constexpr Op kBinary[] = {Op::add, Op::sub, Op::mul, Op::max};
    if (below(3) == 0) return keep(b_.unary(kUnary[below(4)], x));
    if (broadcasts(x, y)) keep(b_.binary(kBinary[below(4)], x, y));
  }

  void compare(ValueId x, ValueId y) {
    if (below(2) == 0 && broadcasts(x, y)) conditions_.push_back(b_.binary(Op::lt, x, y));
    const ValueId c = pick(conditions_);
    if (!broadcasts(c, x)) return;
    const ValueId other = b_.constant(below(2) ? 0.0 : -HUGE_VAL, DType::f64);
    if (below(2) == 0) return keep(b_.unary(Op::sigmoid, b_.select(c, x, other)));
    keep(b_.select(c, x, b_.constant(0, DType::f64)));
  }

  void view(ValueId x) {
    const auto rank = static_cast<int64_t>(shape(x).size());
    if (rank == 0) return;
    const auto axis = static_cast<int64_t>(below(static_cast<size_t>(rank)));
    const Dim size = shape(x)[static_cast<size_t>(axis)];
    switch (below(5)) {
      case 0: {
        std::vector<int64_t> perm;
        for (int64_t i = 0; i < rank; ++i) perm.push_back((i + axis) % rank);
        return keep(b_.transpose(x, perm));
      }
      case 1:
        if (size.is_constant() && size.constant() > 1) keep(b_.slice(x, axis, 1, size));
        return;
      case 2: return keep(b_.concat({x, x}, axis));
      case 3: {  // the last rows over the first ones, or wherever the position is clamped to
        const ValueId rows = b_.slice(x, axis, size - (size.is_constant(0) ? 0 : 1), size);
        return keep(b_.update(x, rows, b_.constant_int(static_cast<int64_t>(below(5)) - 1, DType::i64), axis));
      }
      default:
        if (rank >= 3) keep(b_.repeat_heads(x, 2));
    }
  }

  void reshape(ValueId x) {
    Shape to = shape(x);
    for (size_t i = 0; i + 1 < to.size(); ++i) {
      const auto merged = tilewright::product({to[i], to[i + 1]});
      if (!merged || below(2) == 0) continue;
      to[i] = *merged;
      to.erase(to.begin() + static_cast<int64_t>(i) + 1);
      break;
    }
    for (size_t i = 0; i < to.size(); ++i) {
      if (!to[i].is_constant() || to[i].constant() % 2 != 0 || below(2) == 0) continue;
      to[i] = to[i].constant() / 2;
      to.insert(to.begin() + static_cast<int64_t>(i + below(2)), Dim(2));
      break;
    }
    if (to.size() < 6) keep(b_.reshape(x, to));
  }

  void reduce(ValueId x) {
    const size_t rank = shape(x).size();
    if (rank == 0) return;
    const auto axis = static_cast<int64_t>(below(rank));
    switch (below(4)) {
      case 0: return keep(b_.reduce(Op::reduce_mean, x, axis, below(2) == 0));
      case 1: return keep(b_.softmax(x, axis));
      case 2: return keep(b_.logsumexp(x, axis, below(2) == 0));
      default: return keep(b_.reduce(Op::reduce_max, x, axis, below(2) == 0));
    }
  }

  void product(ValueId x, ValueId y) {
    const Shape a = shape(x), c = shape(y);
    if (a.size() < 2 || c.size() < 2 || a.size() > 5 || c.size() > 5) return;
    if (!broadcast(Shape(a.begin(), a.end() - 2), Shape(c.begin(), c.end() - 2))) return;
    if (a.back() == c.back() && below(2)) return attend(x, y);
    if (a.back() == c.back()) keep(b_.matmul_nt(x, y));
    if (a.back() == c[c.size() - 2]) keep(b_.matmul(x, y));
  }

  /// Weights of x over y's rows times y, with something or other done to the scores.
  void attend(ValueId x, ValueId y) {
    ValueId s = b_.matmul_nt(x, y);
    for (size_t i = below(3); i > 0; --i) {
      const ValueId other = pick(floats_), c = pick(conditions_);
      switch (below(4)) {
        case 0: s = b_.unary(Op::tanh, s); break;
        case 1:
          if (broadcast(shape(s), shape(other)) == shape(s)) s = b_.binary(Op::add, s, other);
          break;
        case 2:
          if (broadcast(shape(s), shape(c)) == shape(s)) s = b_.select(c, s, b_.constant(-HUGE_VAL, DType::f64));
          break;
        default: s = b_.binary(Op::mul, s, b_.constant(below(2) ? 0.5 : -0.5, DType::f64));
      }
    }
    const auto axis = static_cast<int64_t>(shape(s).size()) - 1;
    const ValueId p = below(3) ? b_.softmax(s, axis) : b_.unary(below(2) ? Op::sigmoid : Op::exp, s);
    if (below(3) == 0) keep(p);
    if (below(4) == 0) keep(b_.logsumexp(s, axis, below(2) == 0));
    keep(b_.matmul(p, y));
  }

  void indices(ValueId x) {
    const size_t rank = shape(x).size();
    if (rank == 0) return;
    const auto axis = static_cast<int64_t>(below(rank));
    Shape only(rank, Dim(1));
    only[static_cast<size_t>(axis)] = shape(x)[static_cast<size_t>(axis)];
    const ValueId i = b_.index(axis, only);
    const ValueId j =
        b_.binary(Op::mod, b_.binary(Op::mul, i, b_.constant_int(3, DType::i64)), b_.constant_int(7, DType::i64));
    if (below(4) == 0) return keep(b_.scatter_add(x, {j, i}, {5, 4}));
    const ValueId table = below(2) ? table_ : b_.unary(Op::neg, b_.transpose(table_, {1, 0}));
    keep(b_.binary(Op::add, x, b_.load(table, {j, i})));
  }

  void keep(ValueId id) {
    // Small enough for the oracle.
    int64_t count = 1;
    for (const Dim& dim : shape(id)) count *= dim.evaluate({{"N", 2}, {"M", 3}}).value_or(1000);
    if (count <= 2000) floats_.push_back(id);
  }

  GraphBuilder b_;
  std::mt19937_64 random_;
  std::vector<ValueId> floats_, conditions_;
  ValueId table_ = kNoValue;
};

}  // namespace

Graph random_program(uint64_t seed) { return RandomProgram(seed).generate(); }

}  // namespace tilewright::testing
