// How codegen/elementary.h's formulas are spelled over Highway's vectors; included once per target.
#if defined(TILEWRIGHT_FORMULAS_TOGGLE) == defined(HWY_TARGET_TOGGLE)
#ifdef TILEWRIGHT_FORMULAS_TOGGLE
#undef TILEWRIGHT_FORMULAS_TOGGLE
#else
#define TILEWRIGHT_FORMULAS_TOGGLE
#endif

#include <hwy/highway.h>

#include <limits>

HWY_BEFORE_NAMESPACE();
namespace tilewright::tier::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#include "codegen/elementary.h"

template <class D>
struct Formula {
  using T = hn::TFromD<D>;
  using V = hn::Vec<D>;
  using DI = hn::RebindToSigned<D>;
  using TI = hn::TFromD<DI>;

  static constexpr bool single() { return sizeof(T) == 4; }
  static constexpr bool bounded() { return true; }

  HWY_INLINE V c(double x) const { return hn::Set(D(), static_cast<T>(x)); }
  HWY_INLINE V c(double for_single, double for_double) const { return c(single() ? for_single : for_double); }
  HWY_INLINE V add(V x, V y) const { return hn::Add(x, y); }
  HWY_INLINE V sub(V x, V y) const { return hn::Sub(x, y); }
  HWY_INLINE V mul(V x, V y) const { return hn::Mul(x, y); }
  HWY_INLINE V div(V x, V y) const { return hn::Div(x, y); }
  HWY_INLINE V neg(V x) const { return hn::Neg(x); }
  HWY_INLINE V abs(V x) const { return hn::Abs(x); }
  HWY_INLINE V fma(V a, V x, V y) const { return hn::MulAdd(a, x, y); }
  HWY_INLINE V round_down(V x) const { return hn::Floor(x); }
  HWY_INLINE V nearest(V x) const { return hn::Round(x); }
  HWY_INLINE V with_sign_of(V magnitude, V sign) const { return hn::CopySign(magnitude, sign); }
  HWY_INLINE V at_most(V x, double bound) const { return hn::IfThenElse(hn::Lt(c(bound), x), c(bound), x); }
  HWY_INLINE V at_least(V x, double bound) const { return hn::IfThenElse(hn::Gt(c(bound), x), c(bound), x); }
  HWY_INLINE V fraction(V x) const { return hn::Sub(x, hn::Floor(x)); }
  HWY_INLINE V scale(V p, V n) const { return hn::Mul(p, power(hn::Floor(n))); }
  /// The exponent is moved into place from the low mantissa bits of n + bias + 1.5·2^mantissa.
  HWY_INLINE V power(V n) const {
    const auto moved = hn::BitCast(DI(), hn::Add(n, c(0x1.8p23 + 127, 0x1.8p52 + 1023)));
    return hn::BitCast(D(), hn::ShiftLeft<single() ? 23 : 52>(moved));
  }
  HWY_INLINE V quotient(V a, V d) const { return hn::Div(a, d); }
  struct Parts {
    V exponent, mantissa;
  };
  HWY_INLINE Parts split(V x) const {
    const DI di;
    const auto root_half = hn::Set(di, static_cast<TI>(single() ? 0x3f3504f3 : 0x3fe6a09e667f3bcd));
    const auto fraction_bits = hn::Set(di, static_cast<TI>(single() ? 0x007fffff : 0x000fffffffffffff));
    const auto shifted = hn::Sub(hn::BitCast(di, x), root_half);
    const auto mantissa = hn::Add(hn::And(shifted, fraction_bits), root_half);
    return {hn::ConvertTo(D(), hn::ShiftRight<single() ? 23 : 52>(shifted)), hn::BitCast(D(), mantissa)};
  }
  HWY_INLINE auto less(V x, V y) const { return hn::Lt(x, y); }
  HWY_INLINE auto not_at_least(V x, V y) const { return hn::Not(hn::Ge(x, y)); }
  HWY_INLINE auto is_nan(V x) const { return hn::IsNaN(x); }
  template <class M>
  HWY_INLINE V select(M condition, V x, V y) const {
    return hn::IfThenElse(condition, x, y);
  }
};

}  // namespace tilewright::tier::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
