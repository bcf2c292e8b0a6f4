#include "codegen/cpu/prefill_phases.h"

#include "codegen/cpu/row_emitter.h"

namespace tilewright::cpu {
using llvm::Value;

void emit_pack_kernel(LlvmBuilder& builder, const AttentionSpec& spec, const ArgsLayout& layout, int64_t block_kv,
                      int64_t block_bytes, const std::string& symbol,
                      const std::function<void(const PackItem&)>& body) {
  LlvmBuilder& b = builder;
  b.begin_kernel(symbol);
  b.mark_cold();
  ArgsReader args(b, layout);
  Value* kv_len = args.dim(spec.kv_len);
  Value* blocks = b.ceil_div(kv_len, block_kv);
  Value* heads = b.ir.CreateUDiv(extent_product(b, args, spec.heads), b.i64(spec.head_group));
  Value* packed = args.packed();
  b.loop(b.argument(1), b.argument(2), 1, [&](Value* number) {
    Value* sequence = b.ir.CreateUDiv(number, blocks);
    Value* first = b.mul(b.sub(number, b.mul(sequence, blocks)), b.i64(block_kv));
    Value* batch = b.ir.CreateUDiv(sequence, heads);
    Value* head = b.mul(b.sub(sequence, b.mul(batch, heads)), b.i64(spec.head_group));
    const DotTerm& dot = spec.dots[0];
    body({resolve_stored(b, args, spec, dot.key, dot.key_row, batch, head),
          resolve_access(b, args, spec, spec.value, batch, head), first, b.min(b.sub(kv_len, first), b.i64(block_kv)),
          batch, head, b.byte_pointer(packed, b.mul(number, b.i64(block_bytes)))});
  });
  b.ret();
}

void for_query_blocks(LlvmBuilder& builder, ArgsReader& args, const AttentionSpec& spec, int64_t block_q,
                      const std::function<void(const Item& item, Value* kv_head)>& body) {
  LlvmBuilder& b = builder;
  ItemDecoder decoder(b, args, spec, block_q);
  Value* group = b.i64(spec.head_group);
  Value* kv_heads = b.ir.CreateUDiv(decoder.heads(), group);
  b.loop(b.argument(1), b.argument(2), 1, [&](Value* index) {
    Value* first = b.mul(b.ir.CreateUDiv(index, decoder.q_blocks()), decoder.q_blocks());
    Value* reversed = b.sub(b.add(b.add(first, first), b.sub(decoder.q_blocks(), b.i64(1))), index);
    const Item item = decoder.decode(reversed);
    body(item, b.add(b.mul(item.b, kv_heads), b.ir.CreateUDiv(item.h, group)));
  });
}

}  // namespace tilewright::cpu
