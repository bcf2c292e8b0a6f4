// The end of a work item: O divided by l, the sink joined, LSE in natural units, stores narrowed and strided.
#include <limits>
#include <numbers>

#include "codegen/cpu/prefill_emitter.h"
#include "codegen/cpu/vector_math.h"

namespace tilewright::cpu {
using llvm::Value;

PrefillEmitter::Normalised PrefillEmitter::sums(Value* row) {
  const PrefillLayout& l = layout_;
  Value* lanes = b_.load_vector(l.dtype, at(scratch(l.sum_at), b_.mul(row, b_.i64(l.lanes))), l.lanes);
  return {b_.load(l.dtype, at(scratch(l.max_at), row)), b_.reduce_add(lanes), nullptr};
}

/// One more score, `sink` (base 2), that no value row belongs to.
void PrefillEmitter::add_sink(Normalised& n, Value* sink) {
  const DType type = layout_.dtype;
  Value* top = b_.max_ignoring_nan(n.max, sink);
  Value* reference =
      b_.ir.CreateSelect(b_.ir.CreateFCmpOEQ(top, b_.constant(type, kMinusInfinity)), b_.constant(type, 0), top);
  n.factor = math::exp2(b_, b_.ir.CreateFSub(n.max, reference));
  Value* extra = math::exp2(b_, b_.ir.CreateFSub(sink, reference));
  n.sum = b_.fma(n.sum, n.factor, extra);
  n.max = top;
}

void PrefillEmitter::finish(ArgsReader& args, const Item& item) {
  const PrefillLayout& l = layout_;
  const DType type = l.dtype;
  const DType out_type = spec_.tensors[static_cast<size_t>(spec_.output.tensor)].type.dtype;
  const RowAccess out = resolve_access(b_, args, spec_, spec_.output, item.b, item.h);
  const bool softmax = spec_.normaliser == Normaliser::softmax;
  std::optional<RowAccess> lse;
  if (spec_.logsumexp) lse = resolve_access(b_, args, spec_, *spec_.logsumexp, item.b, item.h);
  Value* dense = b_.ir.CreateSelect(b_.ir.CreateICmpEQ(out.stride_dim, b_.i64(1)),
                                    b_.i64(l.value_dim / l.lanes * l.lanes), b_.i64(0));
  std::optional<ExprEmitter> sink;
  if (spec_.sink) {
    sink.emplace(b_, args, spec_.tensors, *spec_.sink, 1, Axis::kv);
    sink->set_axis(Axis::b, item.b);
    sink->set_axis(Axis::h, item.h);
  }
  b_.loop(item.q_begin, item.q_end, 1, [&](Value* q) {
    Value* row = b_.sub(q, item.q_begin);
    Normalised n = sums(row);
    if (sink) {
      sink->set_axis(Axis::q, q);
      add_sink(n, b_.ir.CreateFMul(sink->emit(), b_.constant(type, std::numbers::log2e)));
    }
    Value* empty = b_.ir.CreateFCmpOEQ(n.sum, b_.constant(type, 0));
    Value* divisor = b_.ir.CreateSelect(empty, b_.constant(type, 1), n.sum);
    Value* o = at(scratch(l.o_at), b_.mul(row, b_.i64(l.padded_value_dim)));
    Value* dst = b_.element_pointer(out_type, out.base, b_.mul(q, out.stride_seq));
    auto divide = [&](Value* column, int64_t lanes) {
      Value* x = b_.load_vector(type, at(o, column), lanes);
      if (softmax) {
        if (sink) x = b_.ir.CreateFMul(x, b_.splat(n.factor, lanes));
        x = b_.ir.CreateSelect(empty, llvm::Constant::getNullValue(x->getType()), x);
        x = b_.ir.CreateFDiv(x, b_.splat(divisor, lanes));
      }
      if (type != DType::f64 || out_type == DType::f64) return x;
      return b_.ir.CreateFPTrunc(x, b_.vector_type(out_type, lanes));
    };
    b_.loop(b_.i64(0), dense, l.lanes, [&](Value* column) {
      b_.store_vector(out_type, divide(column, l.lanes), b_.element_pointer(out_type, dst, column));
    });
    b_.loop(dense, b_.i64(l.value_dim), 1, [&](Value* column) {
      b_.store(out_type, divide(column, 1), b_.element_pointer(out_type, dst, b_.mul(column, out.stride_dim)));
    });
    if (lse) {
      const DType lse_type = spec_.tensors[static_cast<size_t>(spec_.logsumexp->tensor)].type.dtype;
      Value* log = b_.ir.CreateSelect(empty, b_.constant(type, kMinusInfinity), math::logsumexp(b_, n.max, divisor));
      b_.store(lse_type, log, b_.element_pointer(lse_type, lse->base, b_.mul(q, lse->stride_seq)));
    }
  });
}

}  // namespace tilewright::cpu
