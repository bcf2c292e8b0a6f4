// The formulas of the elementary functions, said once: generated code and the ahead-of-time tier compute the same.
// No include guard: every user includes it into a namespace of its own, once per instruction set where it must, and has
// <limits> included before. `v` spells the operations on values of one element type, float (single()) or double:
//
//   c(x)  c(for_single, for_double)  add  sub  mul  div  neg  abs  fma(a, b, c)  round_down  nearest  with_sign_of(m,
//   s) at_most(x, bound), at_least(x, bound)   keep a NaN in x fraction(x)      x - floor(x), 0 for infinities scale(p,
//   n)      p · 2^floor(n) for p in [1, 2]; any n where bounded() is false, else n in [-bias, bias + 1] power(n) 2^n
//   for an integral n in [-bias, bias + 1]: 0 at -bias and infinity at bias + 1 quotient(a, d)   for d of ordinary size
//   split(x)         {e, m} as reals: x = 2^e · m, m in [√½, √2)
//   less(a, b)  not_at_least(a, b)  is_nan(x)  select(condition, a, b)
//
// float is within 2.5 ulp (tanh 5, and relative to the result also near 0), double within 3. Subnormal inputs may count
// as zero. With FTZ and DAZ set, results below the normal range are 0. NaN gives NaN; domain errors give NaN; poles
// give infinities.

namespace elementary {

// Minimax coefficients, relative error, leading ones rounded to the format before the rest was fitted.
// (2^f - 1) / f on [0, 1].
constexpr double kExp2Fast[] = {0x1.62e4e2p-1, 0x1.ebd524p-3, 0x1.c969bcp-5, 0x1.260324p-7,
                                0x1.ee51c6p-10};  // 1.2e-7, absolute
constexpr double kExp2Single[] = {0x1.62e42cp-1, 0x1.ebfd3ap-3,  0x1.c68af6p-5,
                                  0x1.3cfd82p-7, 0x1.47373ep-10, 0x1.c4454ap-13};  // 2e-9
constexpr double kExp2Double[] = {0x1.62e42fefa39f5p-1,  0x1.ebfbdff82c01bp-3,  0x1.c6b08d7066659p-5,
                                  0x1.3b2ab6f7136c5p-7,  0x1.5d87ff5281ce8p-10, 0x1.4308f99304fc6p-13,
                                  0x1.ffcfd8729e136p-17, 0x1.628e7bcaba7dbp-20, 0x1.b8689a41d61cep-24,
                                  0x1.c280e628cc365p-28, 0x1.58bf71178cd28p-31};
// (2^f - 1) / f on [-1/2, 1/2].
constexpr double kExpm1Double[] = {0x1.62e42fefa39efp-1,  0x1.ebfbdff82c58fp-3,  0x1.c6b08d704a0c6p-5,
                                   0x1.3b2ab6fba4e60p-7,  0x1.5d87fe78a3fe6p-10, 0x1.430912f874171p-13,
                                   0x1.ffcbfc6d8d04fp-17, 0x1.62c0221b5d65cp-20, 0x1.b524ec0c70948p-24,
                                   0x1.e4cfae6f28f65p-28, 0x1.e9ebc11897f8cp-32, 0x1.c3bd3ac474ceep-36};
// (log(1 + f) - f + f²/2) / f³ on [√½ - 1, √2 - 1].
constexpr double kLogSingle[] = {0x1.555554p-2, -0x1.000228p-2, 0x1.99a036p-3, -0x1.547226p-3,
                                 0x1.22d5dcp-3, -0x1.0d8144p-3, 0x1.057548p-3, -0x1.3909b2p-4};
// (2·atanh(s) - 2s) / s³ in s², s = f / (2 + f).
constexpr double kLogDouble[] = {0x1.5555555555555p-1, 0x1.9999999999d10p-2, 0x1.24924924399a7p-2,
                                 0x1.c71c724b442a8p-3, 0x1.745ce1d3fe49ep-3, 0x1.3b20229206202p-3,
                                 0x1.0f676fb67e7b9p-3, 0x1.0f0c49a8fc175p-3};
// tanh(x) = x · P(x²) / Q(x²) on |x| <= 8.7, where the result is 1 to the last bit.
constexpr double kTanhBound = 8.7;
constexpr double kTanhP[] = {0x1.ffffff8096c7dp-1, 0x1.127110f302e45p-3, 0x1.cd35a8bf36adep-9, 0x1.6038357c2215fp-16,
                             0x1.dd85c32840afbp-27};
constexpr double kTanhQ[] = {1, 0x1.de8dd5052da6ep-2, 0x1.a968c1c23f065p-6, 0x1.5c82bff00e139p-12,
                             0x1.ad5013bb8b3abp-21};
// erf(x) / x in x² on |x| <= 1; log2(erfc) in |x| - 1, up to |x| = 4 (single) and 5.9 (double).
constexpr double kErfSingle[] = {0x1.20dd74p+0, -0x1.81262cp-2,  0x1.cdfc6ep-4,  -0x1.b4cdc2p-6,
                                 0x1.3bf6acp-8, -0x1.f61a98p-12, -0x1.d15daap-16};
constexpr double kErfcSingle[] = {-0x1.558eaep+1, -0x1.e7531ap+1, -0x1.3763dep+0, -0x1.ea1682p-5,
                                  0x1.cd0e2ap-7,  -0x1.2d6e08p-9, 0x1.091efep-15, 0x1.e77b46p-15};
constexpr double kErfDouble[] = {0x1.20dd750429b6dp+0,   -0x1.812746b03798bp-2,  0x1.ce2f21a03dd0fp-4,
                                 -0x1.b82ce310de2dcp-6,  0x1.565bccc353d55p-8,   -0x1.c02da43e590adp-11,
                                 0x1.f9a106f5dbad7p-14,  -0x1.f4a1276533113p-17, 0x1.b6da61a73379cp-20,
                                 -0x1.3e3e3173429c9p-23, 0x1.3ff5c71a9ac13p-31,  0x1.efedb60185888p-28,
                                 -0x1.84bcb8beb9180p-29, 0x1.e5c91cdcc15c8p-32};
constexpr double kErfcDouble[] = {
    -0x1.558eada6637f3p+1,  -0x1.e75328fe78c54p+1,  -0x1.37627e9b5c640p+0,  -0x1.eb3136892bb35p-5,
    0x1.da5764a84173fp-7,   -0x1.7603ea50c1e8dp-9,  0x1.67040187e14ecp-12,  0x1.3e0511dfa2879p-15,
    -0x1.48af6d4067826p-15, 0x1.d1295e2832dc7p-17,  -0x1.8ee44e1aa4d94p-19, 0x1.bb823f1981918p-23,
    0x1.2d90f5e2470e8p-23,  -0x1.41c0899e0a7f5p-24, 0x1.708da92175ffcp-26,  -0x1.1ae22ba7b6719p-28,
    0x1.22a26101797b1p-31,  -0x1.6b60b9560f1c6p-35, 0x1.a2abd1cdcd856p-40};

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLog2e = 0x1.71547652b82fep+0;
constexpr double kLn2 = 0x1.62e42fefa39efp-1;

/// coefficients[I] + coefficients[I + 1]·x + …
template <size_t I = 0, class Lanes, class Value, size_t N>
inline Value polynomial(Lanes& v, Value x, const double (&coefficients)[N]) {
  if constexpr (I + 1 == N)
    return v.c(coefficients[I]);
  else
    return v.fma(polynomial<I + 1>(v, x, coefficients), x, v.c(coefficients[I]));
}

/// 2^x; exactly 1 at 0. -inf and anything below the normal range give 0, +inf gives +inf.
template <class Lanes, class Value>
inline Value exp2(Lanes& v, Value x) {
  if (v.bounded()) x = v.at_least(v.at_most(x, v.single() ? 128 : 1024), v.single() ? -127 : -1023);
  Value f = v.fraction(x);
  Value q = v.single() ? polynomial(v, f, kExp2Fast) : polynomial(v, f, kExp2Double);
  return v.scale(v.fma(q, f, v.c(1)), x);
}

template <class Lanes, class Value>
inline Value exp(Lanes& v, Value x) {
  // Bounds outside of which the result is 0 or infinity all the same, and inside of which `scale` works.
  const double low = v.bounded() ? (v.single() ? -88 : -709) : (v.single() ? -105 : -747);
  x = v.at_least(v.at_most(x, v.single() ? 89 : 710), low);
  const double log2e_high = v.single() ? 0x1.715476p+0 : kLog2e;
  const double log2e_low = v.single() ? 0x1.4ae0bfp-26 : 0x1.777d0ffda0d24p-56;
  Value y = v.mul(x, v.c(log2e_high));
  if (v.bounded()) y = v.at_most(y, v.single() ? 128 : 1024);
  Value n = v.round_down(y);
  Value f = v.fma(x, v.c(log2e_low), v.fma(x, v.c(log2e_high), v.neg(n)));
  Value q = v.single() ? polynomial(v, f, kExp2Single) : polynomial(v, f, kExp2Double);
  return v.scale(v.fma(q, f, v.c(1)), n);
}

template <class Lanes, class Value>
inline Value log(Lanes& v, Value x) {
  // log(x) = exponent · log(2) + log(1 + f); correction = log(1 + f) - f.
  const auto parts = v.split(x);
  const Value exponent = parts.exponent;
  Value f = v.sub(parts.mantissa, v.c(1));
  Value half_square = v.mul(v.mul(f, f), v.c(0.5));
  Value correction = half_square;
  if (v.single()) {
    Value cubic = v.mul(v.mul(f, f), f);
    correction = v.fma(cubic, polynomial(v, f, kLogSingle), v.neg(half_square));
  } else {
    Value s = v.div(f, v.add(f, v.c(2)));
    Value z = v.mul(s, s);
    Value rest = v.fma(z, polynomial(v, z, kLogDouble), half_square);
    correction = v.sub(v.mul(s, rest), half_square);
  }
  // log(2) in two parts; the first has trailing zeros, so that its product with the exponent is exact.
  const double high = v.single() ? 0x1.63p-1 : 0x1.62e42feep-1;
  const double low = v.single() ? -0x1.bd0105p-13 : 0x1.a39ef35793c76p-33;
  Value tail = v.fma(exponent, v.c(low), correction);
  Value result = v.fma(exponent, v.c(high), v.add(f, tail));
  // What the formula does not cover: zero and subnormals, negatives, +inf and NaN.
  result = v.select(v.less(x, v.c(0x1p-126, 0x1p-1022)), v.c(-kInfinity), result);
  result = v.select(v.less(x, v.c(-0x1p-126, -0x1p-1022)), v.c(std::numeric_limits<double>::quiet_NaN()), result);
  return v.select(v.not_at_least(x, v.c(kInfinity)), v.select(v.is_nan(x), x, result), x);
}

/// max · ln 2 + ln(sum), rounded once at its own size: the logsumexp of scores whose maximum is in base 2.
template <class Lanes, class Value>
inline Value logsumexp(Lanes& v, Value max, Value sum) {
  return v.fma(max, v.c(kLn2), log(v, sum));
}

/// Relative accuracy also near 0.
template <class Lanes, class Value>
inline Value tanh(Lanes& v, Value x) {
  if (v.single()) {
    Value bounded = v.at_least(v.at_most(x, kTanhBound), -kTanhBound);
    Value square = v.mul(bounded, bounded);
    Value p = v.mul(bounded, polynomial(v, square, kTanhP));
    return v.quotient(p, polynomial(v, square, kTanhQ));
  }
  // (e^2|x| - 1) / (e^2|x| + 1) with e^2|x| - 1 = 2^n · (2^f - 1) + (2^n - 1), which keeps small results exact.
  Value twice = v.mul(v.at_most(v.abs(x), 20), v.c(2));
  Value n = v.nearest(v.mul(twice, v.c(kLog2e)));
  Value f = v.fma(twice, v.c(0x1.777d0ffda0d24p-56), v.fma(twice, v.c(kLog2e), v.neg(n)));
  Value fraction = v.mul(f, polynomial(v, f, kExpm1Double));
  Value power = v.power(n);
  Value expm1 = v.fma(power, fraction, v.sub(power, v.c(1)));
  return v.with_sign_of(v.div(expm1, v.add(expm1, v.c(2))), x);
}

template <class Lanes, class Value>
inline Value sigmoid(Lanes& v, Value x) {
  Value power = exp(v, v.neg(x));
  return v.div(v.c(1), v.add(power, v.c(1)));
}

template <class Lanes, class Value>
inline Value erf(Lanes& v, Value x) {
  Value magnitude = v.abs(x);
  Value square = v.mul(x, x);
  Value inner = v.mul(x, v.single() ? polynomial(v, square, kErfSingle) : polynomial(v, square, kErfDouble));
  Value u = v.sub(v.at_most(magnitude, v.single() ? 4 : 5.9), v.c(1));
  Value exponent = v.single() ? polynomial(v, u, kErfcSingle) : polynomial(v, u, kErfcDouble);
  Value outer = v.with_sign_of(v.sub(v.c(1), exp2(v, exponent)), x);
  return v.select(v.less(magnitude, v.c(1)), inner, outer);
}

}  // namespace elementary
