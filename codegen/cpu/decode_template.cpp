// The decode template: few query rows per KV head, K and V streamed once from memory. Phase one computes partial states
// per split of the keys, phase two merges them in the order of the splits.
#include <limits>
#include <numbers>
#include <optional>

#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/decode_split.h"
#include "codegen/cpu/templates.h"
#include "codegen/cpu/vector_math.h"

namespace tilewright::cpu {
namespace {
using llvm::Value;

/// Items are (b, h, q), q fastest.
class DecodeMerge {
 public:
  DecodeMerge(LlvmBuilder& builder, const TileProgram& program, const DecodeLayout& layout)
      : b_(builder), spec_(program.spec), l_(layout), args_layout_(args_layout(program.spec)) {}

  void kernel(const std::string& symbol) {
    auto& ir = b_.ir;
    b_.begin_kernel(symbol);
    b_.mark_cold();  // one pass over the partial states, a thousandth of the keys' bytes
    ArgsReader args(b_, args_layout_);
    std::optional<ExprEmitter> sink;
    if (spec_.sink) sink.emplace(b_, args, spec_.tensors, *spec_.sink, 1, Axis::kv);
    Value* splits = b_.ceil_div(args.dim(spec_.kv_len), l_.split_kv);
    Value* heads = extent_product(b_, args, spec_.heads);
    Value* q_len = args.dim(spec_.q_len);
    Value* group = b_.i64(spec_.head_group);
    Value* workspace = args.workspace();
    b_.loop(b_.argument(1), b_.argument(2), 1, [&](Value* index) {
      Value* sequence = ir.CreateUDiv(index, q_len);
      Value* q = b_.sub(index, b_.mul(sequence, q_len));
      Value* batch = ir.CreateUDiv(sequence, heads);
      Value* head = b_.sub(sequence, b_.mul(batch, heads));
      Value* kv_head = ir.CreateUDiv(sequence, group);  // of all batches
      Value* row = b_.add(b_.mul(q, group), b_.sub(sequence, b_.mul(kv_head, group)));
      Value* rows = b_.mul(q_len, group);
      Value* first = b_.add(b_.mul(b_.mul(kv_head, splits), rows), row);
      Value* step = b_.mul(rows, b_.i64(l_.record()));
      if (sink) {
        sink->set_axis(Axis::b, batch);
        sink->set_axis(Axis::h, head);
        sink->set_axis(Axis::q, q);
      }
      merge(args, at(workspace, b_.mul(first, b_.i64(l_.record()))), step, splits, batch, head, q,
            sink ? &*sink : nullptr);
    });
    b_.ret();
  }

 private:
  Value* at(Value* base, Value* elements) { return b_.element_pointer(l_.dtype, base, elements); }
  Value* at(Value* base, int64_t elements) { return at(base, b_.i64(elements)); }
  bool softmax() const { return spec_.normaliser == Normaliser::softmax; }

  void merge(ArgsReader& args, Value* record, Value* step, Value* splits, Value* batch, Value* head, Value* q,
             ExprEmitter* sink) {
    auto& ir = b_.ir;
    const DType type = l_.dtype;
    auto c = [&](double value) { return b_.constant(type, value); };
    Value* sums = at(b_.argument(3), l_.sums_at);
    for_columns([&](Value* column) { b_.store_vector(type, b_.constant(type, 0, l_.lanes), at(sums, column)); });
    Value* reference = c(0);
    Value* start = c(0);
    if (softmax()) {
      Value* sink_value = c(kMinusInfinity);
      if (sink) {
        sink_value = ir.CreateFPCast(sink->emit(), b_.value_type(type));
        sink_value = ir.CreateFMul(sink_value, c(std::numbers::log2e));
      }
      // Stored and read back, so that what is subtracted below is this very number and not a fused product.
      Value* slot = at(b_.argument(3), l_.max_at);
      b_.store(type, sink_value, slot);
      sink_value = b_.load(type, slot);
      Value* top = b_.loop(b_.i64(0), splits, 1, {b_.max_ignoring_nan(sink_value, c(kMinusInfinity))},
                           [&](Value* split, const Values& carried) {
                             Value* part = at(record, b_.mul(split, step));
                             Value* used = ir.CreateFCmpUNE(b_.load(type, at(part, l_.value_stride + 1)), c(0));
                             Value* m =
                                 ir.CreateSelect(used, b_.load(type, at(part, l_.value_stride)), c(kMinusInfinity));
                             return Values{b_.max_ignoring_nan(m, carried[0])};
                           })[0];
      reference = ir.CreateSelect(ir.CreateFCmpOEQ(top, c(kMinusInfinity)), c(0), top);
      start = math::exp2(b_, ir.CreateFSub(sink_value, reference));
    }
    Value* total = b_.loop(b_.i64(0), splits, 1, {start}, [&](Value* split, const Values& carried) {
      Value* part = at(record, b_.mul(split, step));
      Value* sum = b_.load(type, at(part, l_.value_stride + 1));
      return b_.branch(
          ir.CreateFCmpUNE(sum, c(0)),
          [&] {
            Value* m = b_.load(type, at(part, l_.value_stride));
            Value* weight = softmax() ? math::exp2(b_, ir.CreateFSub(m, reference)) : c(1);
            for_columns([&](Value* column) {
              Value* x = b_.load_vector(type, at(part, column), l_.lanes);
              b_.store_vector(type,
                              b_.fma(x, b_.splat(weight, l_.lanes), b_.load_vector(type, at(sums, column), l_.lanes)),
                              at(sums, column));
            });
            return Values{b_.fma(sum, weight, carried[0])};
          },
          [&] { return carried; });
    })[0];
    finish(args, sums, total, reference, batch, head, q);
  }

  void for_columns(const std::function<void(Value*)>& body) {
    b_.loop_nonempty(b_.i64(0), b_.i64(l_.value_stride), l_.lanes, {}, [&](Value* column, const Values&) {
      body(column);
      return Values{};
    });
  }

  void finish(ArgsReader& args, Value* sums, Value* total, Value* reference, Value* batch, Value* head, Value* q) {
    auto& ir = b_.ir;
    const DType type = l_.dtype;
    const DType out_type = spec_.tensors[static_cast<size_t>(spec_.output.tensor)].type.dtype;
    auto c = [&](double value) { return b_.constant(type, value); };
    Value* empty = softmax() ? ir.CreateFCmpOEQ(total, c(0)) : ir.getFalse();
    Value* divisor = softmax() ? static_cast<Value*>(ir.CreateSelect(empty, c(1), total)) : c(1);
    const RowAccess out = resolve_access(b_, args, spec_, spec_.output, batch, head);
    Value* to = b_.element_pointer(out_type, out.base, b_.mul(q, out.stride_seq));
    // Written as vectors where it belongs, or into scratch and from there one by one where the stride is not 1.
    Value* natural = ir.CreateICmpEQ(out.stride_dim, b_.i64(1));
    Value* row = ir.CreateSelect(natural, to, at(b_.argument(3), l_.value_copy_at));
    auto put = [&](Value* x, Value* column, Value* mask) {
      const int64_t width = LlvmBuilder::lanes_of(x);
      x = ir.CreateSelect(empty, llvm::Constant::getNullValue(x->getType()), x);
      x = ir.CreateFPCast(ir.CreateFDiv(x, b_.splat(divisor, width)), b_.vector_type(out_type, width));
      b_.store_vector(out_type, x, b_.element_pointer(out_type, row, column), mask);
    };
    const int64_t lanes = l_.lanes;
    if (l_.value.pairs) {
      b_.loop_nonempty(b_.i64(0), b_.i64(l_.value.dim), 2 * lanes, {}, [&](Value* column, const Values&) {
        Value* even = b_.load_vector(type, at(sums, column), lanes);
        Value* odd = b_.load_vector(type, at(sums, b_.add(column, b_.i64(lanes))), lanes);
        std::vector<int> zip(static_cast<size_t>(2 * lanes));
        for (int64_t i = 0; i < 2 * lanes; ++i) zip[static_cast<size_t>(i)] = static_cast<int>(i / 2 + i % 2 * lanes);
        put(ir.CreateShuffleVector(even, odd, zip), column, nullptr);
        return Values{};
      });
    } else {
      b_.loop(b_.i64(0), b_.i64(l_.value.vectors * lanes), lanes,
              [&](Value* column) { put(b_.load_vector(type, at(sums, column), lanes), column, nullptr); });
      if (l_.value.tail) {
        Value* column = b_.i64(l_.value.vectors * lanes);
        put(b_.load_vector(type, at(sums, column), lanes), column, b_.lane_mask(b_.i64(l_.value.tail), lanes));
      }
    }
    b_.when(ir.CreateNot(natural), [&] {
      llvm::Type* raw = b_.memory_type(out_type);
      const llvm::Align align(static_cast<uint64_t>(size_of(out_type)));
      b_.loop(b_.i64(0), b_.i64(l_.value.dim), 1, [&](Value* column) {
        Value* x = ir.CreateAlignedLoad(raw, b_.element_pointer(out_type, row, column), align);
        ir.CreateAlignedStore(x, b_.element_pointer(out_type, to, b_.mul(column, out.stride_dim)), align);
      });
    });
    if (!spec_.logsumexp) return;
    const DType lse_type = spec_.tensors[static_cast<size_t>(spec_.logsumexp->tensor)].type.dtype;
    const RowAccess lse = resolve_access(b_, args, spec_, *spec_.logsumexp, batch, head);
    Value* log = ir.CreateSelect(empty, c(kMinusInfinity), math::logsumexp(b_, reference, divisor));
    log = ir.CreateFPCast(log, b_.value_type(lse_type));
    b_.store(lse_type, log, b_.element_pointer(lse_type, lse.base, b_.mul(q, lse.stride_seq)));
  }

  LlvmBuilder& b_;
  const AttentionSpec& spec_;
  const DecodeLayout& l_;
  ArgsLayout args_layout_;
};

/// batch · heads / per · (extra dims), as an i64 Expr over dims.
struct Counts {
  Expr expr;
  ExprId constant(int64_t value) { return expr.constant_int(value, DType::i64); }
  ExprId op(Op op, ExprId a, ExprId b) { return expr.op(op, DType::i64, {a, b}); }
  ExprId sequences(const AttentionSpec& spec, int64_t head_group) {
    ExprId heads = constant(1), all;
    for (const Dim& dim : spec.heads) heads = op(Op::mul, heads, expr.dim(dim));
    all = op(Op::div, heads, constant(head_group));
    for (const Dim& dim : spec.batch) all = op(Op::mul, all, expr.dim(dim));
    return all;
  }
  /// Sequences times splits; 0 without queries.
  ExprId splits(const AttentionSpec& spec, int64_t split_kv) {
    const ExprId keys = op(Op::add, expr.dim(spec.kv_len), constant(split_kv - 1));
    const ExprId each = op(Op::mul, sequences(spec, spec.head_group), op(Op::div, keys, constant(split_kv)));
    return op(Op::mul, each, op(Op::min, expr.dim(spec.q_len), constant(1)));
  }
  Expr done(ExprId root) {
    expr.set_root(root);
    return expr.pruned();
  }
};

}  // namespace

CpuKernelSource generate_decode(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                const std::string& prefix) {
  const AttentionSpec& spec = program.spec;
  CpuModule module = make_cpu_module(prefix + "_decode", InstructionOrder::emitted);
  LlvmBuilder builder(module.state(), target);
  const DecodeLayout layout(spec, schedule, target);
  LaunchInfo launch;
  launch.schedule = schedule;
  launch.native_tiles = layout.tiles.columns > 0 && target.isa == CpuIsa::amx;
  Counts items, rows, workspace, nothing;
  launch.phases.push_back({prefix + "_split", items.done(items.splits(spec, layout.split_kv)), false});
  launch.phases.push_back(
      {prefix + "_merge", rows.done(rows.op(Op::mul, rows.sequences(spec, 1), rows.expr.dim(spec.q_len))), false});
  const ExprId states = workspace.op(Op::mul, workspace.splits(spec, layout.split_kv), workspace.expr.dim(spec.q_len));
  launch.workspace_bytes = workspace.done(
      workspace.op(Op::mul, states, workspace.constant(spec.head_group * layout.record() * layout.element)));
  launch.packed_bytes = nothing.done(nothing.constant(0));
  launch.scratch_bytes = layout.scratch_elements * layout.element;
  DecodeSplit(builder, program, layout).kernel(launch.phases[0].symbol);
  DecodeMerge(builder, program, layout).kernel(launch.phases[1].symbol);
  return {std::move(module), std::move(launch)};
}

}  // namespace tilewright::cpu
