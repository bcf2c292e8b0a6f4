#include <limits>
#include <numbers>
#include <optional>

#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/prefill_pack.h"
#include "codegen/cpu/prefill_rows.h"
#include "codegen/cpu/templates.h"
#include "codegen/cpu/vector_math.h"
#include "compiler/passes.h"

namespace tilewright::cpu {
namespace {
using llvm::Value;

class PrefillEmitter {
 public:
  PrefillEmitter(LlvmBuilder& builder, const TileProgram& program, const PrefillLayout& layout)
      : b_(builder),
        spec_(program.spec),
        layout_(layout),
        args_layout_(args_layout(program.spec)),
        leading_(leading_scale(program.score)),
        scores_(builder, layout.dtype, layout.lanes, layout.score_tile, layout.k_unroll, "product"),
        rows_(builder, program, layout),
        packer_(builder, spec_, layout) {
    if (layout.output_tile.mr != layout.score_tile.mr || layout.output_tile.nv != layout.score_tile.nv)
      outputs_.emplace(builder, layout.dtype, layout.lanes, layout.output_tile, layout.k_unroll, "product_o");
  }

  void pack_kernel(const std::string& symbol);
  void main_kernel(const std::string& symbol);

 private:
  Value* at(Value* base, Value* elements) { return b_.element_pointer(layout_.dtype, base, elements); }
  Value* at(Value* base, int64_t elements) { return at(base, b_.i64(elements)); }
  Value* scratch(int64_t elements) { return at(b_.argument(3), elements); }
  TileProduct& outputs() { return outputs_ ? *outputs_ : scores_; }

  void item(ArgsReader& args, const Item& item, Value* kv_head);
  void strip(const Item& item, Value* row, Value* rows, Value* kv, Value* end, Value* block);
  void finish(ArgsReader& args, const Item& item);

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  const PrefillLayout& layout_;
  ArgsLayout args_layout_;
  LeadingScale leading_;
  TileProduct scores_;
  std::optional<TileProduct> outputs_;
  RowPass rows_;
  PrefillPacker packer_;
};

/// Items are (b, kv head, block of block_kv keys).
void PrefillEmitter::pack_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  ArgsReader args(b_, args_layout_);
  Value* kv_len = args.dim(spec_.kv_len);
  Value* blocks = b_.ceil_div(kv_len, layout_.block_kv);
  Value* heads = b_.ir.CreateUDiv(extent_product(b_, args, spec_.heads), b_.i64(spec_.head_group));
  Value* packed = args.packed();
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* item) {
    Value* sequence = b_.ir.CreateUDiv(item, blocks);
    Value* first = b_.mul(b_.sub(item, b_.mul(sequence, blocks)), b_.i64(layout_.block_kv));
    Value* batch = b_.ir.CreateUDiv(sequence, heads);
    Value* head = b_.mul(b_.sub(sequence, b_.mul(batch, heads)), b_.i64(spec_.head_group));
    const RowAccess key = resolve_access(b_, args, spec_, spec_.dots[0].key, batch, head);
    const RowAccess value = resolve_access(b_, args, spec_, spec_.value, batch, head);
    Value* count = b_.min(b_.sub(kv_len, first), b_.i64(layout_.block_kv));
    packer_.pack_block(key, value, first, count, batch, head, scratch(layout_.stage_at),
                       at(packed, b_.mul(item, b_.i64(layout_.packed_block()))));
  });
  b_.ret();
}

/// Items are (b, h, block of block_q rows), the last rows of a head first: under a causal mask they are the longest.
void PrefillEmitter::main_kernel(const std::string& symbol) {
  b_.begin_kernel(symbol);
  ArgsReader args(b_, args_layout_);
  ItemDecoder decoder(b_, args, spec_, layout_.block_q);
  Value* kv_heads = b_.ir.CreateUDiv(decoder.heads(), b_.i64(spec_.head_group));
  b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* index) {
    Value* head = b_.ir.CreateUDiv(index, decoder.q_blocks());
    Value* first = b_.mul(head, decoder.q_blocks());
    Value* reversed = b_.sub(b_.add(b_.add(first, first), b_.sub(decoder.q_blocks(), b_.i64(1))), index);
    const Item work = decoder.decode(reversed);
    item(args, work, b_.add(b_.mul(work.b, kv_heads), b_.ir.CreateUDiv(work.h, b_.i64(spec_.head_group))));
  });
  b_.ret();
}

void PrefillEmitter::item(ArgsReader& args, const Item& item, Value* kv_head) {
  const DType type = layout_.dtype;
  Value* rows = b_.sub(item.q_end, item.q_begin);
  Value* kv_len = args.dim(spec_.kv_len);
  Value* first_head = b_.mul(b_.ir.CreateUDiv(item.h, b_.i64(spec_.head_group)), b_.i64(spec_.head_group));
  const RowAccess query = resolve_access(b_, args, spec_, spec_.dots[0].query, item.b, item.h);
  const RowAccess key = resolve_access(b_, args, spec_, spec_.dots[0].key, item.b, first_head);
  const RowAccess value = resolve_access(b_, args, spec_, spec_.value, item.b, first_head);

  packer_.pack_queries(query, item.q_begin, rows, leading_.scale, scratch(layout_.q_at));
  auto fill = [&](int64_t region, int64_t per_row, double with) {
    b_.loop_nonempty(b_.i64(0), b_.mul(rows, b_.i64(per_row)), layout_.lanes, {}, [&](Value* i, const Values&) {
      b_.store_vector(type, b_.constant(type, with, layout_.lanes), at(scratch(region), i));
      return Values{};
    });
  };
  fill(layout_.o_at, layout_.padded_value_dim, 0);
  fill(layout_.sum_at, layout_.lanes, 0);
  fill(layout_.max_at, 1, -std::numeric_limits<double>::infinity());

  Value* packed = args.packed();
  Value* blocks = b_.ceil_div(kv_len, layout_.block_kv);
  b_.loop(b_.i64(0), kv_len, layout_.block_kv, [&](Value* kv) {
    Value* end = b_.min(b_.add(kv, b_.i64(layout_.block_kv)), kv_len);
    Value* number = b_.add(b_.mul(kv_head, blocks), b_.ir.CreateUDiv(kv, b_.i64(layout_.block_kv)));
    Value* block = b_.branch(
        b_.ir.CreateIsNull(packed),
        [&] {
          Value* here = scratch(layout_.block_at);
          packer_.pack_block(key, value, kv, b_.sub(end, kv), item.b, first_head, scratch(layout_.stage_at), here);
          return Values{here};
        },
        [&] { return Values{at(packed, b_.mul(number, b_.i64(layout_.packed_block())))}; })[0];
    b_.loop_nonempty(b_.i64(0), rows, layout_.strip_rows, {}, [&](Value* row, const Values&) {
      strip(item, row, b_.min(b_.sub(rows, row), b_.i64(layout_.strip_rows)), kv, end, block);
      return Values{};
    });
  });
  finish(args, item);
}

void PrefillEmitter::strip(const Item& item, Value* row, Value* rows, Value* kv, Value* end, Value* block) {
  const PrefillLayout& l = layout_;
  auto row_pointer = [&](int64_t region, int64_t per_row) { return at(scratch(region), b_.mul(row, b_.i64(per_row))); };
  Value* columns = b_.sub(end, kv);
  Value* scores = scratch(l.scores_at);
  Value* q = row_pointer(l.q_at, l.padded_head_dim);
  scores_.call({q, b_.i64(l.padded_head_dim), block, b_.i64(l.panel), b_.i64(l.panel * l.padded_head_dim), scores,
                b_.i64(l.score_stride), b_.i64(l.padded_head_dim), b_.ceil_div(columns, l.panel),
                b_.ceil_div(rows, l.score_tile.mr), llvm::ConstantPointerNull::get(b_.ir.getPtrTy())});
  const StripState state{item.b,  item.h,
                         b_.add(item.q_begin, row),
                         rows,    kv,
                         columns, scores,
                         row_pointer(l.max_at, 1),
                         row_pointer(l.sum_at, l.lanes),
                         row_pointer(l.factor_at, 1)};
  const int64_t step = l.row_step * l.lanes;
  Value* whole = b_.ir.CreateICmpEQ(b_.ir.CreateAnd(columns, b_.i64(step - 1)), b_.i64(0));
  b_.branch(
      whole,
      [&] {
        rows_.full(state);
        return Values{};
      },
      [&] {
        rows_.partial(state);
        return Values{};
      });
  Value* k = b_.mul(b_.ceil_div(columns, step), b_.i64(step));
  const int64_t width = l.output_tile.nv * l.lanes;
  outputs().call({scores, b_.i64(l.score_stride), at(block, l.packed_keys()), b_.i64(l.padded_value_dim), b_.i64(width),
                  row_pointer(l.o_at, l.padded_value_dim), b_.i64(l.padded_value_dim), k,
                  b_.i64(l.padded_value_dim / width), b_.ceil_div(rows, l.output_tile.mr), state.factor});
}

void PrefillEmitter::finish(ArgsReader& args, const Item& item) {
  const PrefillLayout& l = layout_;
  const DType type = l.dtype;
  const DType out_type = spec_.tensors[static_cast<size_t>(spec_.output.tensor)].type.dtype;
  const RowAccess out = resolve_access(b_, args, spec_, spec_.output, item.b, item.h);
  std::optional<RowAccess> lse;
  if (spec_.logsumexp) lse = resolve_access(b_, args, spec_, *spec_.logsumexp, item.b, item.h);
  Value* dense = b_.ir.CreateSelect(b_.ir.CreateICmpEQ(out.stride_dim, b_.i64(1)),
                                    b_.i64(l.value_dim / l.lanes * l.lanes), b_.i64(0));
  b_.loop(item.q_begin, item.q_end, 1, [&](Value* q) {
    Value* row = b_.sub(q, item.q_begin);
    Value* sums = b_.load_vector(type, at(scratch(l.sum_at), b_.mul(row, b_.i64(l.lanes))), l.lanes);
    Value* sum = b_.reduce_add(sums);
    Value* empty = b_.ir.CreateFCmpOEQ(sum, b_.constant(type, 0));
    Value* divisor = b_.ir.CreateSelect(empty, b_.constant(type, 1), sum);
    Value* o = at(scratch(l.o_at), b_.mul(row, b_.i64(l.padded_value_dim)));
    Value* dst = b_.element_pointer(out_type, out.base, b_.mul(q, out.stride_seq));
    auto divide = [&](Value* column, int64_t lanes) {
      Value* x = b_.load_vector(type, at(o, column), lanes);
      x = b_.ir.CreateSelect(empty, llvm::Constant::getNullValue(x->getType()), x);
      x = b_.ir.CreateFDiv(x, b_.splat(divisor, lanes));
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
      Value* m = b_.load(type, at(scratch(l.max_at), row));
      Value* log = b_.ir.CreateFMul(b_.ir.CreateFAdd(m, math::log2(b_, divisor)), b_.constant(type, std::numbers::ln2));
      log = b_.ir.CreateSelect(empty, b_.constant(type, -std::numeric_limits<double>::infinity()), log);
      b_.store(lse_type, log, b_.element_pointer(lse_type, lse->base, b_.mul(q, lse->stride_seq)));
    }
  });
}

Expr packed_items(const AttentionSpec& spec, int64_t block_kv, int64_t factor) {
  Expr expr;
  auto constant = [&](int64_t value) { return expr.constant_int(value, DType::i64); };
  ExprId product = constant(1);
  for (const auto* dims : {&spec.batch, &spec.heads})
    for (const Dim& dim : *dims) product = expr.op(Op::mul, DType::i64, {product, expr.dim(dim)});
  product = expr.op(Op::div, DType::i64, {product, constant(spec.head_group)});
  const ExprId keys = expr.op(Op::add, DType::i64, {expr.dim(spec.kv_len), constant(block_kv - 1)});
  product = expr.op(Op::mul, DType::i64, {product, expr.op(Op::div, DType::i64, {keys, constant(block_kv)})});
  expr.set_root(expr.op(Op::mul, DType::i64, {product, constant(factor)}));
  return expr;
}

}  // namespace

CpuKernelSource generate_prefill(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                 const std::string& prefix) {
  CpuModule module = make_cpu_module(prefix + "_prefill");
  LlvmBuilder builder(module.state(), target);
  const PrefillLayout layout(program.spec, schedule, target);
  PrefillEmitter emitter(builder, program, layout);
  LaunchInfo launch;
  launch.schedule = schedule;
  launch.phases.push_back({prefix + "_pack", packed_items(program.spec, layout.block_kv, 1), true});
  launch.phases.push_back({prefix + "_main", item_count(program.spec, layout.block_q), false});
  emitter.pack_kernel(launch.phases[0].symbol);
  emitter.main_kernel(launch.phases[1].symbol);
  launch.scratch_bytes = layout.scratch_elements * layout.element;
  launch.workspace_bytes = packed_items(program.spec, layout.block_kv, 0);
  launch.packed_bytes = packed_items(program.spec, layout.block_kv, layout.packed_block() * layout.element);
  return {std::move(module), std::move(launch)};
}

}  // namespace tilewright::cpu
