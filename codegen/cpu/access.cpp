#include "codegen/cpu/access.h"

#include "ir/result.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {

/// base + seq · (q or kv) + dim · d, with constant coefficients (the contract of Access).
struct Affine {
  Value* base;
  int64_t seq = 0, dim = 0;
  bool not_negative = false;  ///< of base
};

class AffineWalker {
 public:
  AffineWalker(LlvmBuilder& builder, ArgsReader& args, Value* b, Value* h)
      : b_(builder), args_(args), batch_(b), head_(h) {}

  Affine walk(const Expr& expr) {
    std::vector<Affine> done;
    for (const ExprNode& node : expr.nodes()) done.push_back(visit(node, done));
    return done[static_cast<size_t>(raw(expr.root()))];
  }

 private:
  Affine visit(const ExprNode& node, const std::vector<Affine>& done) {
    auto arg = [&](size_t i) -> const Affine& { return done[static_cast<size_t>(raw(node.args[i]))]; };
    switch (node.kind) {
      case ExprKind::constant: return {b_.i64(node.literal.integer), 0, 0, node.literal.integer >= 0};
      case ExprKind::dim: return {args_.dim(node.dim), 0, 0, not_negative(node.dim)};
      case ExprKind::index: return index(node.axis);
      case ExprKind::op: break;
      default: TW_CHECK(!"accesses hold no loads and no scores");
    }
    switch (node.op) {
      case Op::cast: return arg(0);
      case Op::add:
        return {b_.add(arg(0).base, arg(1).base), arg(0).seq + arg(1).seq, arg(0).dim + arg(1).dim,
                arg(0).not_negative && arg(1).not_negative};
      case Op::sub: return {b_.sub(arg(0).base, arg(1).base), arg(0).seq - arg(1).seq, arg(0).dim - arg(1).dim, false};
      case Op::neg: return {b_.sub(b_.i64(0), arg(0).base), -arg(0).seq, -arg(0).dim, false};
      case Op::mul: return multiply(arg(0), arg(1));
      case Op::div:
      case Op::mod: return divide(arg(0), arg(1), node.op == Op::div);
      case Op::min:
      case Op::max: {
        TW_CHECK(uniform(arg(0)) && uniform(arg(1)));
        Value* result = node.op == Op::min ? b_.min(arg(0).base, arg(1).base) : b_.max(arg(0).base, arg(1).base);
        return {result, 0, 0, arg(0).not_negative && arg(1).not_negative};
      }
      default: TW_CHECK(!"op that an access may not hold");
    }
    return {};
  }

  Affine index(Axis axis) {
    switch (axis) {
      case Axis::b: return {batch_, 0, 0, true};
      case Axis::h: return {head_, 0, 0, true};
      case Axis::q:
      case Axis::kv: return {b_.i64(0), 1, 0, true};
      case Axis::d: return {b_.i64(0), 0, 1, true};
      default: TW_CHECK(!"axis that an access may not hold");
    }
    return {};
  }

  Affine multiply(const Affine& x, const Affine& y) {
    const bool both = x.not_negative && y.not_negative;
    if (uniform(x) && uniform(y)) return {b_.mul(x.base, y.base), 0, 0, both};
    const Affine& varying = uniform(x) ? y : x;
    const auto* factor = llvm::dyn_cast<llvm::ConstantInt>(uniform(x) ? x.base : y.base);
    TW_CHECK(factor && "q, kv and d have constant coefficients");
    const int64_t by = factor->getSExtValue();
    return {b_.mul(x.base, y.base), varying.seq * by, varying.dim * by, both};
  }

  /// Floor division; by zero gives 0.
  Affine divide(const Affine& x, const Affine& y, bool quotient) {
    TW_CHECK(uniform(x) && uniform(y) && "q, kv and d enter affinely");
    auto& ir = b_.ir;
    Value* zero = b_.i64(0);
    Value* by_zero = ir.CreateICmpEQ(y.base, zero);
    Value* divisor = ir.CreateSelect(by_zero, b_.i64(1), y.base);
    Value* result;
    if (x.not_negative && y.not_negative) {
      result = quotient ? ir.CreateUDiv(x.base, divisor) : ir.CreateURem(x.base, divisor);
    } else {
      Value* remainder = ir.CreateSRem(x.base, divisor);
      Value* off =
          ir.CreateAnd(ir.CreateICmpNE(remainder, zero), ir.CreateICmpSLT(ir.CreateXor(remainder, divisor), zero));
      result = quotient ? b_.sub(ir.CreateSDiv(x.base, divisor), ir.CreateZExt(off, b_.i64_type()))
                        : b_.add(remainder, ir.CreateSelect(off, divisor, zero));
    }
    return {ir.CreateSelect(by_zero, zero, result), 0, 0, x.not_negative && y.not_negative};
  }

  static bool uniform(const Affine& a) { return a.seq == 0 && a.dim == 0; }
  /// A named dim is never negative; a difference of dims may be.
  static bool not_negative(const Dim& dim) {
    if (dim.constant() < 0) return false;
    for (const auto& [name, coefficient] : dim.terms())
      if (coefficient < 0) return false;
    return true;
  }

  LlvmBuilder& b_;
  ArgsReader& args_;
  Value *batch_, *head_;
};

}  // namespace

RowAccess resolve_access(LlvmBuilder& b, ArgsReader& args, const ScoreSpace& spec, const Access& access, Value* batch,
                         Value* head) {
  AffineWalker walker(b, args, batch, head);
  Value *offset = b.i64(0), *seq = b.i64(0), *dim = b.i64(0);
  for (size_t axis = 0; axis < access.axes.size(); ++axis) {
    const Affine at = walker.walk(access.axes[axis]);
    Value* stride = args.stride(access.tensor, static_cast<int>(axis));
    offset = b.add(offset, b.mul(at.base, stride));
    if (at.seq) seq = b.add(seq, b.mul(stride, b.i64(at.seq)));
    if (at.dim) dim = b.add(dim, b.mul(stride, b.i64(at.dim)));
  }
  const DType dtype = spec.tensors[static_cast<size_t>(access.tensor)].type.dtype;
  return {b.element_pointer(dtype, args.tensor(access.tensor), offset), seq, dim};
}

Value* extent_product(LlvmBuilder& b, ArgsReader& args, const std::vector<Dim>& dims) {
  Value* product = b.i64(1);
  for (const Dim& dim : dims) product = b.mul(product, args.dim(dim));
  return product;
}

ItemDecoder::ItemDecoder(LlvmBuilder& builder, ArgsReader& args, const ScoreSpace& spec, int64_t block_q,
                         int64_t head_step)
    : b_(builder), block_q_(block_q), head_step_(head_step) {
  q_len_ = args.dim(spec.q_len);
  q_blocks_ = b_.ceil_div(q_len_, block_q);
  heads_ = extent_product(b_, args, spec.heads);
  if (head_step > 1) heads_ = b_.ir.CreateUDiv(heads_, b_.i64(head_step));
  per_batch_ = b_.mul(q_blocks_, heads_);
}

Item ItemDecoder::decode(Value* item) {
  auto& ir = b_.ir;
  Value* batch = ir.CreateUDiv(item, per_batch_);
  Value* within = b_.sub(item, b_.mul(batch, per_batch_));
  Value* head = ir.CreateUDiv(within, q_blocks_);
  Value* block = b_.sub(within, b_.mul(head, q_blocks_));
  Value* q_begin = b_.mul(block, b_.i64(block_q_));
  Value* q_end = b_.min(b_.add(q_begin, b_.i64(block_q_)), q_len_);
  return {batch, b_.mul(head, b_.i64(head_step_)), q_begin, q_end};
}

}  // namespace tilewright::cpu
