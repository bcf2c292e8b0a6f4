#include "tests/support/random_rows.h"

namespace tilewright::testing {
namespace {

class RowSpeller {
 public:
  RowSpeller(RandomParts& parts, std::string name, ValueId x, std::mt19937_64& dice)
      : p_(parts), b_(parts.b), name_(std::move(name)), x_(x), dice_(dice), narrow_(type().dtype) {}

  ValueId run() {
    const int64_t width = type().shape[3].constant();
    const bool up = compute_type(narrow_) != narrow_;
    if (up) x_ = b_.cast(x_, compute_type(narrow_));
    switch (dice_() % 6) {
      case 0: norm(false); break;
      case 1: norm(true); break;
      case 2:
        norm(false);
        rotate(width);
        break;
      case 3: rotate(width / 2); break;
      default: rotate(width);
    }
    return up ? b_.cast(x_, narrow_) : x_;
  }

 private:
  const TensorType& type() const { return b_.graph().type(x_); }
  ValueId mul(ValueId a, ValueId b) { return b_.binary(Op::mul, a, b); }
  void note(const std::string& what) { p_.spellings.insert("rows " + name_ + ": " + what); }

  ValueId table(const std::string& what, Shape shape) {
    return p_.param(name_ + "_" + what, {type().dtype, std::move(shape)}, {});
  }

  void norm(bool centre) {
    note(centre ? "layer norm" : "rms norm");
    if (centre) x_ = b_.binary(Op::sub, x_, b_.reduce(Op::reduce_mean, x_, 3));
    const ValueId mean = b_.reduce(Op::reduce_mean, mul(x_, x_), 3);
    const ValueId epsilon = b_.constant(1e-3, type().dtype);
    x_ = mul(x_, b_.unary(Op::rsqrt, b_.binary(Op::add, mean, epsilon)));
    x_ = mul(x_, table("weight", {type().shape[3]}));
  }

  /// cos or sin of the positions, [S, half] or [1, 1, S, half], plus a last axis of 1 for `paired`.
  ValueId angles(const std::string& what, int64_t half, bool paired) {
    const Dim length = type().shape[2];
    ValueId at;
    if (dice_() % 2) {
      at = table(what, {length, half});
    } else {
      note("table at positions");
      const ValueId position = b_.binary(Op::add, b_.index(2, {1, 1, length, 1}), b_.constant_int(3, DType::i64));
      at = b_.load(table(what, {Dim(50), half}), {position, b_.index(3, {1, 1, 1, half})});
    }
    if (!paired) return at;
    Shape shape = b_.graph().type(at).shape;
    shape.push_back(1);
    return b_.reshape(at, shape);
  }

  /// The first `width` columns, the last one left out when they are odd.
  void rotate(int64_t width) {
    const Shape shape = type().shape;
    const int64_t half = width / 2, turned = 2 * half, all = shape[3].constant();
    if (half == 0) return norm(false);
    const bool paired = dice_() % 2 == 0;
    note(paired ? "rope interleaved" : "rope half");
    if (turned < all) note("some columns");
    const ValueId rest = turned < all ? b_.slice(x_, 3, turned, all) : kNoValue;
    const ValueId part = turned < all ? b_.slice(x_, 3, 0, turned) : x_;
    const int64_t axis = paired ? 4 : 3, step = paired ? 1 : half;
    const ValueId pairs = paired ? b_.reshape(part, {shape[0], shape[1], shape[2], half, 2}) : part;
    const ValueId c = angles("cos", half, paired), s = angles("sin", half, paired);
    ValueId out;
    if (!paired && dice_() % 2) {  // x · cos + rotate_half(x) · sin
      note("rotate_half");
      const ValueId a = b_.slice(pairs, 3, 0, half), b = b_.slice(pairs, 3, half, turned);
      const ValueId other = b_.concat({b_.unary(Op::neg, b), a}, 3);
      const auto twice = [&](ValueId t) { return b_.concat({t, t}, b_.graph().type(t).rank() - 1); };
      out = b_.binary(Op::add, mul(pairs, twice(c)), mul(other, twice(s)));
    } else {
      const ValueId a = b_.slice(pairs, axis, 0, step), b = b_.slice(pairs, axis, step, 2 * step);
      out = b_.concat({b_.binary(Op::sub, mul(a, c), mul(b, s)), b_.binary(Op::add, mul(b, c), mul(a, s))}, axis);
    }
    if (paired) out = b_.reshape(out, {shape[0], shape[1], shape[2], turned});
    x_ = rest == kNoValue ? out : b_.concat({out, rest}, 3);
  }

  RandomParts& p_;
  GraphBuilder& b_;
  std::string name_;
  ValueId x_;
  std::mt19937_64& dice_;
  DType narrow_;
};

}  // namespace

ValueId random_rows(RandomParts& parts, const std::string& name, ValueId x, std::mt19937_64& dice) {
  if (dice() % 4 != 0) return x;
  return RowSpeller(parts, name, x, dice).run();
}

}  // namespace tilewright::testing
