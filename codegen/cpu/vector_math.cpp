#include "codegen/cpu/vector_math.h"

#include <llvm/IR/Intrinsics.h>
#include <llvm/IR/IntrinsicsX86.h>

#include <limits>

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
  bool bounded() const { return !avx512(); }

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
  Value* add(Value* x, Value* y) { return b_.ir.CreateFAdd(x, y); }
  Value* sub(Value* x, Value* y) { return b_.ir.CreateFSub(x, y); }
  Value* mul(Value* x, Value* y) { return b_.ir.CreateFMul(x, y); }
  Value* div(Value* x, Value* y) { return b_.ir.CreateFDiv(x, y); }
  Value* neg(Value* x) { return b_.ir.CreateFNeg(x); }
  Value* less(Value* x, Value* y) { return b_.ir.CreateFCmpOLT(x, y); }
  Value* not_at_least(Value* x, Value* y) { return b_.ir.CreateFCmpULT(x, y); }
  Value* is_nan(Value* x) { return b_.ir.CreateFCmpUNO(x, x); }
  Value* select(Value* condition, Value* x, Value* y) { return b_.ir.CreateSelect(condition, x, y); }
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

  struct Parts {
    Value *exponent, *mantissa;
  };
  Parts split(Value* x) {
    auto& ir = b_.ir;
    Value* root_half = ci(0x3f3504f3, 0x3fe6a09e667f3bcd);
    Value* shifted = ir.CreateSub(bits(x), root_half);
    Value* exponent = ir.CreateAShr(shifted, ci(23, 52));
    if (!single_) exponent = ir.CreateTrunc(exponent, integers(32));
    Value* mantissa = ir.CreateAdd(ir.CreateAnd(shifted, ci(0x007fffff, 0x000fffffffffffff)), root_half);
    return {ir.CreateSIToFP(exponent, type_), from_bits(mantissa)};
  }

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

#include "codegen/elementary.h"

// Of exp2 for weights that are rounded to bf16: (2^f - 1) / f on [0, 1], relative error 8.6e-5.
constexpr double kExp2Coarse[] = {0x1.63e658p-1, 0x1.d2378ap-3, 0x1.3baaa6p-4};

}  // namespace

Value* exp2(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return elementary::exp2(v, x);
}

Value* exp2_for_bf16(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  TW_CHECK(v.single() && v.avx512());
  Value* f = v.fraction(x);
  return v.scale(v.fma(elementary::polynomial(v, f, kExp2Coarse), f, v.c(1)), x);
}

Value* exp(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return elementary::exp(v, x);
}

Value* log(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return elementary::log(v, x);
}

Value* logsumexp(LlvmBuilder& b, Value* max, Value* sum) {
  Lanes v(b, sum);
  return elementary::logsumexp(v, max, sum);
}

Value* tanh(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return elementary::tanh(v, x);
}

Value* sigmoid(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return elementary::sigmoid(v, x);
}

Value* erf(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return elementary::erf(v, x);
}

Value* sqrt(LlvmBuilder& b, Value* x) { return b.ir.CreateUnaryIntrinsic(Intrinsic::sqrt, x); }

Value* rsqrt(LlvmBuilder& b, Value* x) {
  Lanes v(b, x);
  return v.div(v.c(1), b.ir.CreateUnaryIntrinsic(Intrinsic::sqrt, x));
}

Value* floor(LlvmBuilder& b, Value* x) { return b.ir.CreateUnaryIntrinsic(Intrinsic::floor, x); }

}  // namespace tilewright::cpu::math
