// The end of a work item: O divided by l, the sink joined, LSE in natural units, stores narrowed and strided.
#include "codegen/cpu/prefill_emitter.h"
#include "codegen/cpu/softmax_end.h"

namespace tilewright::cpu {
using llvm::Value;

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
    Value* sums = b_.load_vector(type, at(scratch(l.sum_at), b_.mul(row, b_.i64(l.lanes))), l.lanes);
    if (sink) sink->set_axis(Axis::q, q);
    SoftmaxEnd end(b_, b_.load(type, at(scratch(l.max_at), row)), b_.reduce_add(sums), sink ? sink->emit() : nullptr);
    Value* o = at(scratch(l.o_at), b_.mul(row, b_.i64(l.padded_value_dim)));
    Value* dst = b_.element_pointer(out_type, out.base, b_.mul(q, out.stride_seq));
    auto divide = [&](Value* column, int64_t lanes) {
      Value* x = b_.load_vector(type, at(o, column), lanes);
      if (softmax) x = end.normalise(x);
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
      b_.store(lse_type, end.logsumexp(), b_.element_pointer(lse_type, lse->base, b_.mul(q, lse->stride_seq)));
    }
  });
}

}  // namespace tilewright::cpu
