#include "codegen/cpu/vector_math.h"

#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/IntrinsicsX86.h>

#include <limits>
#include <numeric>
#include <span>

#include "ir/result.h"

namespace tilewright::cpu::math {
namespace {

using llvm::FixedVectorType;
using llvm::Type;
using llvm::Value;
namespace Intrinsic = llvm::Intrinsic;

/// Constants and small operations on one element type and lane count. Contraction is switched off while it lives: fused
/// operations are written out, and error terms must stay as written.
class Lanes {
 public:
  Lanes(LlvmBuilder& b, Value* x)
      : b_(b),
        guard_(b.ir),
        type_(x->getType()),
        lanes_(LlvmBuilder::lanes_of(x)),
        single_(type_->getScalarType()->isFloatTy()) {
    b.ir.setFastMathFlags({});
  }

  bool single() const { return single_; }
  bool avx512() const { return b_.target().has_avx512(); }

  Value* c(double value) { return llvm::ConstantFP::get(type_, value); }
  Value* c(double for_single, double for_double) { return c(single_ ? for_single : for_double); }
  Type* integers(unsigned bits) {
    Type* scalar = b_.ir.getIntNTy(bits);
    return lanes_ == 1 ? scalar : FixedVectorType::get(scalar, static_cast<unsigned>(lanes_));
  }
  Type* same_width_integers() { return integers(single_ ? 32 : 64); }
  Value* ci(uint64_t for_single, uint64_t for_double) {
    return llvm::ConstantInt::get(same_width_integers(), single_ ? for_single : for_double);
  }
  Value* bits(Value* x) { return b_.ir.CreateBitCast(x, same_width_integers()); }
  Value* from_bits(Value* x) { return b_.ir.CreateBitCast(x, type_); }

  Value* fma(Value* a, Value* x, Value* y) { return b_.fma(a, x, y); }
  /// coefficients[0] + coefficients[1]·x + …
  Value* polynomial(Value* x, std::span<const double> coefficients) {
    Value* sum = c(coefficients.back());
    for (size_t i = coefficients.size() - 1; i-- > 0;) sum = fma(sum, x, c(coefficients[i]));
    return sum;
  }
  /// min and max that keep a NaN in x: vminps and vmaxps return their second operand then.
  Value* at_most(Value* x, double bound) { return b_.ir.CreateSelect(b_.ir.CreateFCmpOLT(c(bound), x), c(bound), x); }
  Value* at_least(Value* x, double bound) { return b_.ir.CreateSelect(b_.ir.CreateFCmpOGT(c(bound), x), c(bound), x); }
  Value* abs(Value* x) { return b_.ir.CreateUnaryIntrinsic(Intrinsic::fabs, x); }
  Value* with_sign_of(Value* magnitude, Value* sign) {
    return b_.ir.CreateBinaryIntrinsic(Intrinsic::copysign, magnitude, sign);
  }
  Value* round_down(Value* x) { return b_.ir.CreateUnaryIntrinsic(Intrinsic::floor, x); }
  Value* nearest(Value* x) { return b_.ir.CreateUnaryIntrinsic(Intrinsic::roundeven, x); }

  /// x - floor(x), 0 for infinities.
  Value* fraction(Value* x) {
    if (!avx512()) return b_.ir.CreateFSub(x, round_down(x));
    return in_registers({x}, [&](const Values& v) {
      const bool wide = bytes(v[0]) == 64;
      Values args = {v[0], b_.ir.getInt32(0x09), v[0], all_lanes(v[0])};
      if (wide) args.push_back(b_.ir.getInt32(4));
      const Intrinsic::ID ps[] = {Intrinsic::x86_avx512_mask_reduce_ps_128, Intrinsic::x86_avx512_mask_reduce_ps_256,
                                  Intrinsic::x86_avx512_mask_reduce_ps_512};
      const Intrinsic::ID pd[] = {Intrinsic::x86_avx512_mask_reduce_pd_128, Intrinsic::x86_avx512_mask_reduce_pd_256,
                                  Intrinsic::x86_avx512_mask_reduce_pd_512};
      return b_.ir.CreateIntrinsic((single_ ? ps : pd)[width_index(v[0])], {}, args);
    });
  }

  /// p · 2^floor(n) for p in [1, 2]; n is within [-bias, bias + 1] where AVX-512 is missing (see clamped).
  Value* scale(Value* p, Value* n) {
    if (!avx512()) return b_.ir.CreateFMul(p, power(round_down(n)));
    return in_registers({p, n}, [&](const Values& v) {
      const bool wide = bytes(v[0]) == 64;
      Values args = {v[0], v[1], v[0], all_lanes(v[0])};
      if (wide) args.push_back(b_.ir.getInt32(4));
      const Intrinsic::ID ps[] = {Intrinsic::x86_avx512_mask_scalef_ps_128, Intrinsic::x86_avx512_mask_scalef_ps_256,
                                  Intrinsic::x86_avx512_mask_scalef_ps_512};
      const Intrinsic::ID pd[] = {Intrinsic::x86_avx512_mask_scalef_pd_128, Intrinsic::x86_avx512_mask_scalef_pd_256,
                                  Intrinsic::x86_avx512_mask_scalef_pd_512};
      return b_.ir.CreateIntrinsic((single_ ? ps : pd)[width_index(v[0])], {}, args);
    });
  }

  /// 2^n for an integral n in [-bias, bias + 1]: 0 at -bias and infinity at bias + 1. The exponent is moved into place
  /// from the low mantissa bits of n + bias + 1.5·2^mantissa.
  Value* power(Value* n) {
    Value* moved = b_.ir.CreateFAdd(n, c(0x1.8p23 + 127, 0x1.8p52 + 1023));
    return from_bits(b_.ir.CreateShl(bits(moved), ci(23, 52)));
  }

  /// a / d for d of ordinary size (neither subnormal nor huge).
  Value* quotient(Value* a, Value* d) {
    if (!avx512() || !single_) return b_.ir.CreateFDiv(a, d);
    Value* r = in_registers({d}, [&](const Values& v) {
      const Intrinsic::ID ps[] = {Intrinsic::x86_avx512_rcp14_ps_128, Intrinsic::x86_avx512_rcp14_ps_256,
                                  Intrinsic::x86_avx512_rcp14_ps_512};
      return b_.ir.CreateIntrinsic(ps[width_index(v[0])], {}, {v[0], v[0], all_lanes(v[0])});
    });
    Value* error = fma(b_.ir.CreateFNeg(d), r, c(1));
    return b_.ir.CreateFMul(a, fma(r, error, r));
  }

  llvm::IRBuilder<>& ir() { return b_.ir; }
  int64_t lanes() const { return lanes_; }

 private:
  static unsigned bytes(Value* x) { return static_cast<unsigned>(x->getType()->getPrimitiveSizeInBits()) / 8; }
  static size_t width_index(Value* x) { return bytes(x) == 64 ? 2 : bytes(x) == 32 ? 1 : 0; }
  Value* all_lanes(Value* x) {
    return llvm::ConstantInt::getAllOnesValue(b_.ir.getIntNTy(LlvmBuilder::lanes_of(x) == 16 ? 16 : 8));
  }

  Value* slice(Value* x, int64_t begin, int64_t count) {
    if (LlvmBuilder::lanes_of(x) == 1) return b_.splat(x, count);
    std::vector<int> mask(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i)
      mask[static_cast<size_t>(i)] = static_cast<int>(std::min(begin + i, LlvmBuilder::lanes_of(x) - 1));
    return b_.ir.CreateShuffleVector(x, mask);
  }

  /// Calls `body` on registers of 128, 256 or 512 bits that cover the operands, and puts the pieces together.
  template <class Body>
  Value* in_registers(const Values& operands, const Body& body) {
    const int64_t unit = single_ ? 4 : 2, widest = 4 * unit;
    int64_t width = unit;
    while (width < lanes_ && width < widest) width *= 2;
    if (width == lanes_) return body(operands);
    Value* whole = nullptr;
    for (int64_t begin = 0; begin < lanes_; begin += width) {
      Values pieces;
      for (Value* operand : operands) pieces.push_back(slice(operand, begin, width));
      Value* piece = body(pieces);
      if (lanes_ == 1) return b_.ir.CreateExtractElement(piece, uint64_t{0});
      std::vector<int> widened(static_cast<size_t>(lanes_)), merged(static_cast<size_t>(lanes_));
      for (int64_t i = 0; i < lanes_; ++i) {
        const bool inside = i >= begin && i < begin + width;
        widened[static_cast<size_t>(i)] = inside ? static_cast<int>(i - begin) : -1;
        merged[static_cast<size_t>(i)] = static_cast<int>(inside ? lanes_ + i : i);
      }
      Value* spread = b_.ir.CreateShuffleVector(piece, widened);
      whole = whole ? b_.ir.CreateShuffleVector(whole, spread, merged) : spread;
    }
    return whole;
  }

  LlvmBuilder& b_;
  llvm::IRBuilder<>::FastMathFlagGuard guard_;
  Type* type_;
  int64_t lanes_;
  bool single_;
};

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

Value* exp2(Lanes& v, Value* x) {
  if (!v.avx512()) x = v.at_least(v.at_most(x, v.single() ? 128 : 1024), v.single() ? -127 : -1023);
  Value* f = v.fraction(x);
  Value* q = v.single() ? v.polynomial(f, kExp2Fast) : v.polynomial(f, kExp2Double);
  return v.scale(v.fma(q, f, v.c(1)), x);
}

Value* exp(Lanes& v, Value* x) {
  // Bounds outside of which the result is 0 or infinity all the same, and inside of which `scale` works.
  const double low = v.avx512() ? (v.single() ? -105 : -747) : (v.single() ? -88 : -709);
  x = v.at_least(v.at_most(x, v.single() ? 89 : 710), low);
  const double log2e_high = v.single() ? 0x1.715476p+0 : kLog2e;
  const double log2e_low = v.single() ? 0x1.4ae0bfp-26 : 0x1.777d0ffda0d24p-56;
  Value* y = v.ir().CreateFMul(x, v.c(log2e_high));
  if (!v.avx512()) y = v.at_most(y, v.single() ? 128 : 1024);
  Value* n = v.round_down(y);
  Value* f = v.fma(x, v.c(log2e_low), v.fma(x, v.c(log2e_high), v.ir().CreateFNeg(n)));
  Value* q = v.single() ? v.polynomial(f, kExp2Single) : v.polynomial(f, kExp2Double);
  return v.scale(v.fma(q, f, v.c(1)), n);
}

/// log(x) = exponent · log(2) + log(1 + f), 1 + f in [√½, √2).
struct Logarithm {
  Value* exponent;
  Value* f;
  Value* correction;  ///< log(1 + f) - f
};

Logarithm split_log(Lanes& v, Value* x) {
  auto& ir = v.ir();
  Value* root_half = v.ci(0x3f3504f3, 0x3fe6a09e667f3bcd);
  Value* shifted = ir.CreateSub(v.bits(x), root_half);
  Value* exponent = ir.CreateAShr(shifted, v.ci(23, 52));
  Value* exponent32 = v.single() ? exponent : ir.CreateTrunc(exponent, v.integers(32));
  Value* mantissa = ir.CreateAdd(ir.CreateAnd(shifted, v.ci(0x007fffff, 0x000fffffffffffff)), root_half);
  Value* f = ir.CreateFSub(v.from_bits(mantissa), v.c(1));
  Value* half_square = ir.CreateFMul(ir.CreateFMul(f, f), v.c(0.5));
  Value* correction;
  if (v.single()) {
    Value* cubic = ir.CreateFMul(ir.CreateFMul(f, f), f);
    correction = v.fma(cubic, v.polynomial(f, kLogSingle), ir.CreateFNeg(half_square));
  } else {
    Value* s = ir.CreateFDiv(f, ir.CreateFAdd(f, v.c(2)));
    Value* z = ir.CreateFMul(s, s);
    Value* rest = v.fma(z, v.polynomial(z, kLogDouble), half_square);
    correction = ir.CreateFSub(ir.CreateFMul(s, rest), half_square);
  }
  return {ir.CreateSIToFP(exponent32, x->getType()), f, correction};
}

/// Puts in what the formula does not cover: zero and subnormals, negatives, +inf and NaN.
Value* log_domain(Lanes& v, Value* x, Value* result) {
  auto& ir = v.ir();
  Value* tiny = ir.CreateFCmpOLT(x, v.c(0x1p-126, 0x1p-1022));
  result = ir.CreateSelect(tiny, v.c(-kInfinity), result);
  result = ir.CreateSelect(ir.CreateFCmpOLT(x, v.c(v.single() ? -0x1p-126 : -0x1p-1022)),
                           v.c(std::numeric_limits<double>::quiet_NaN()), result);
  return ir.CreateSelect(ir.CreateFCmpULT(x, v.c(kInfinity)), ir.CreateSelect(ir.CreateFCmpUNO(x, x), x, result), x);
}

Value* erf(Lanes& v, Value* x) {
  auto& ir = v.ir();
  Value* magnitude = v.abs(x);
  Value* square = ir.CreateFMul(x, x);
  Value* inner = ir.CreateFMul(x, v.single() ? v.polynomial(square, kErfSingle) : v.polynomial(square, kErfDouble));
  Value* u = ir.CreateFSub(v.at_most(magnitude, v.single() ? 4 : 5.9), v.c(1));
  Value* exponent = v.single() ? v.polynomial(u, kErfcSingle) : v.polynomial(u, kErfcDouble);
  Value* outer = v.with_sign_of(ir.CreateFSub(v.c(1), exp2(v, exponent)), x);
  return ir.CreateSelect(ir.CreateFCmpOLT(magnitude, v.c(1)), inner, outer);
}

}  // namespace

Value* exp2(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return exp2(v, x);
}

Value* exp(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return exp(v, x);
}

Value* log(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  const Logarithm l = split_log(v, x);
  // log(2) in two parts; the first has trailing zeros, so that its product with the exponent is exact.
  const double high = v.single() ? 0x1.63p-1 : 0x1.62e42feep-1;
  const double low = v.single() ? -0x1.bd0105p-13 : 0x1.a39ef35793c76p-33;
  Value* tail = v.fma(l.exponent, v.c(low), l.correction);
  Value* sum = v.fma(l.exponent, v.c(high), v.ir().CreateFAdd(l.f, tail));
  return log_domain(v, x, sum);
}

Value* logsumexp(LlvmBuilder& b, Value* max, Value* sum) {
  Lanes v(b, sum);
  return v.fma(max, v.c(kLn2), log(b, sum));
}

Value* tanh(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  auto& ir = v.ir();
  if (v.single()) {
    Value* bounded = v.at_least(v.at_most(x, kTanhBound), -kTanhBound);
    Value* square = ir.CreateFMul(bounded, bounded);
    Value* p = ir.CreateFMul(bounded, v.polynomial(square, kTanhP));
    return v.quotient(p, v.polynomial(square, kTanhQ));
  }
  // (e^2|x| - 1) / (e^2|x| + 1) with e^2|x| - 1 = 2^n · (2^f - 1) + (2^n - 1), which keeps small results exact.
  Value* twice = ir.CreateFMul(v.at_most(v.abs(x), 20), v.c(2));
  Value* n = v.nearest(ir.CreateFMul(twice, v.c(kLog2e)));
  Value* f = v.fma(twice, v.c(0x1.777d0ffda0d24p-56), v.fma(twice, v.c(kLog2e), ir.CreateFNeg(n)));
  Value* fraction = ir.CreateFMul(f, v.polynomial(f, kExpm1Double));
  Value* power = v.power(n);
  Value* expm1 = v.fma(power, fraction, ir.CreateFSub(power, v.c(1)));
  return v.with_sign_of(ir.CreateFDiv(expm1, ir.CreateFAdd(expm1, v.c(2))), x);
}

Value* sigmoid(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  Value* power = exp(v, v.ir().CreateFNeg(x));
  return v.ir().CreateFDiv(v.c(1), v.ir().CreateFAdd(power, v.c(1)));
}

Value* erf(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return erf(v, x);
}

Value* sqrt(LlvmBuilder& b, Value* x) { return b.ir.CreateUnaryIntrinsic(Intrinsic::sqrt, x); }

Value* rsqrt(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return v.ir().CreateFDiv(v.c(1), v.ir().CreateUnaryIntrinsic(Intrinsic::sqrt, x));
}

Value* floor(LlvmBuilder& b, Value* x) { return b.ir.CreateUnaryIntrinsic(Intrinsic::floor, x); }

}  // namespace tilewright::cpu::math
