// The end of a work item on tiles: Oᵀ divided by l with queries as lanes, transposed, narrowed, stored with strides;
// the LSE in natural units.
#include "codegen/cpu/amx_prefill_emitter.h"
#include "codegen/cpu/softmax_end.h"

namespace tilewright::cpu {
using llvm::Value;

void AmxPrefillEmitter::finish(ArgsReader& args, const Item& item) {
  const AmxPrefillLayout& l = layout_;
  const bool softmax = spec_.normaliser == Normaliser::softmax;
  const RowAccess out = resolve_access(b_, args, spec_, spec_.output, item.b, item.h);
  std::optional<RowAccess> lse;
  if (spec_.logsumexp) lse = resolve_access(b_, args, spec_, *spec_.logsumexp, item.b, item.h);
  std::optional<ExprEmitter> sink;
  if (spec_.sink) {
    sink.emplace(b_, args, spec_.tensors, *spec_.sink, kLanes, Axis::q);
    sink->set_axis(Axis::b, item.b);
    sink->set_axis(Axis::h, item.h);
    sink->hoist();
  }
  b_.loop(item.q_begin, item.q_end, kLanes, [&](Value* q) {
    Value* row = b_.sub(q, item.q_begin);
    Value* exists = b_.lane_mask(b_.sub(item.q_end, q), kLanes);
    const auto per_lane = [&](int64_t at) {
      return b_.load_vector(DType::f32, b_.element_pointer(DType::f32, place(at), row), kLanes);
    };
    SoftmaxEnd end(b_, per_lane(l.max_at), per_lane(l.sum_at),
                   sink ? b_.splat(sink->emit(q, nullptr, exists), kLanes) : nullptr);
    Value* outputs = per_row(l.outputs_at, row, l.unit_outputs());
    b_.loop_nonempty(b_.i64(0), b_.i64(l.padded_value_dim), kLanes, {}, [&](Value* block, const Values&) {
      b_.loop_nonempty(b_.i64(0), b_.i64(kLanes), 1, {}, [&](Value* column, const Values&) {
        Value* x = b_.load_vector(
            DType::f32, b_.element_pointer(DType::f32, outputs, b_.mul(b_.add(block, column), b_.i64(kLanes))), kLanes);
        b_.store_vector(DType::f32, softmax ? end.normalise(x) : x,
                        b_.element_pointer(DType::f32, place(l.tile_at), b_.mul(column, b_.i64(kLanes))));
        return Values{};
      });
      packer_.transpose(place(l.tile_at), kLanes, b_.element_pointer(DType::f32, place(l.stage_at), block),
                        l.stage_width);
      return Values{};
    });
    store_rows(out, q, b_.min(b_.sub(item.q_end, q), b_.i64(kLanes)));
    if (lse) {
      const DType type = spec_.tensors[static_cast<size_t>(spec_.logsumexp->tensor)].type.dtype;
      b_.store_strided(type, end.logsumexp(), b_.element_pointer(type, lse->base, b_.mul(q, lse->stride_seq)),
                       lse->stride_seq, exists);
    }
  });
}

/// Staged rows to rows [q, q + count) of the output.
void AmxPrefillEmitter::store_rows(const RowAccess& out, Value* q, Value* count) {
  const AmxPrefillLayout& l = layout_;
  const DType type = spec_.tensors[static_cast<size_t>(spec_.output.tensor)].type.dtype;
  Value* dense = b_.ir.CreateSelect(b_.ir.CreateICmpEQ(out.stride_dim, b_.i64(1)),
                                    b_.i64(l.value_dim / kLanes * kLanes), b_.i64(0));
  b_.loop(b_.i64(0), count, 1, [&](Value* row) {
    Value* from = b_.element_pointer(DType::f32, place(l.stage_at), b_.mul(row, b_.i64(l.stage_width)));
    Value* to = b_.element_pointer(type, out.base, b_.mul(b_.add(q, row), out.stride_seq));
    b_.loop(b_.i64(0), dense, kLanes, [&](Value* column) {
      b_.store_vector(type, b_.load_vector(DType::f32, b_.element_pointer(DType::f32, from, column), kLanes),
                      b_.element_pointer(type, to, column));
    });
    b_.loop(dense, b_.i64(l.value_dim), 1, [&](Value* column) {
      b_.store(type, b_.load(DType::f32, b_.element_pointer(DType::f32, from, column)),
               b_.element_pointer(type, to, b_.mul(column, out.stride_dim)));
    });
  });
}

}  // namespace tilewright::cpu
