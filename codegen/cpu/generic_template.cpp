// The loops around the ops, and the kernel.
#include "codegen/cpu/generic_template.h"

#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/templates.h"
#include "compiler/schedule.h"
#include "ir/result.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {
bool is_constant(const Expr& expr, int64_t value) {
  return expr.root_node().kind == ExprKind::constant && expr.root_node().literal.integer == value;
}
}  // namespace

GenericTemplate::GenericTemplate(const TileProgram& program, const CpuSchedule& schedule, LlvmBuilder& builder,
                                 ArgsReader& args, const std::vector<DotRows>& rows)
    : program_(program),
      spec_(program.spec),
      b_(builder),
      args_(args),
      type_(program.spec.accumulate),
      lanes_(schedule.lanes),
      block_q_(schedule.block_q),
      block_kv_(round_up(schedule.block_kv, schedule.lanes)),
      computed_(rows),
      items_(builder, args, program.spec, schedule.block_q),
      kv_len_(args.dim(program.spec.kv_len)),
      score_(builder, args, program.spec.tensors, program.score, schedule.lanes, Axis::kv),
      keep_(builder, args, program.spec.tensors, program.spec.keep, schedule.lanes, Axis::kv) {
  const auto scalar = [&](std::optional<ExprEmitter>& emitter, const Expr& expr) {
    emitter.emplace(builder, args, spec_.tensors, expr, 1, Axis::kv);
  };
  if (!is_constant(spec_.keep_kv, 1)) scalar(keep_kv_, spec_.keep_kv);
  if (!is_constant(spec_.kv_range.begin, 0)) scalar(begin_, spec_.kv_range.begin);
  scalar(end_, spec_.kv_range.end);
  if (!is_constant(spec_.kv_range.skip, 0)) scalar(skip_, spec_.kv_range.skip);
  if (spec_.sink) scalar(sink_, *spec_.sink);
  if (spec_.weight_factor)
    weight_.emplace(builder, args, spec_.tensors, *spec_.weight_factor, schedule.lanes, Axis::kv);
  const int64_t value_width = round_up(spec_.value_dim, lanes_);
  for (const TileValue& value : program.values) {
    switch (value.shape) {
      case TileShape::column: tiles_.push_back(place(value.shape, 1, round_up(block_q_, lanes_))); break;
      case TileShape::tile_qk: tiles_.push_back(place(value.shape, block_q_, block_kv_)); break;
      case TileShape::tile_qv: tiles_.push_back(place(value.shape, block_q_, value_width)); break;
    }
  }
  queries_ = place(TileShape::tile_qk, block_q_, round_up(total_head_dim(), lanes_));
  keys_ = place(TileShape::tile_qk, total_head_dim(), block_kv_);
  values_ = place(TileShape::tile_qv, block_kv_, value_width);
  row_ = place(TileShape::tile_qk, 1, round_up(total_head_dim(), lanes_));
}

GenericTemplate::Tile GenericTemplate::place(TileShape shape, int64_t rows, int64_t width) {
  const Tile tile{shape, scratch_bytes_, width};
  scratch_bytes_ = round_up(scratch_bytes_ + rows * width * size_of(type_), 64);
  return tile;
}

void GenericTemplate::emit_items(Value* begin, Value* end) {
  b_.loop(begin, end, 1, [&](Value* item) { emit_item(item); });
}

void GenericTemplate::emit_item(Value* number) {
  item_ = items_.decode(number);
  rows_ = b_.sub(item_.q_end, item_.q_begin);
  const auto resolve = [&](const Access& access) { return resolve_access(b_, args_, spec_, access, item_.b, item_.h); };
  query_rows_.clear();
  key_rows_.clear();
  for (const DotTerm& dot : spec_.dots) {
    query_rows_.push_back(resolve_stored(b_, args_, spec_, dot.query, dot.query_row, item_.b, item_.h));
    key_rows_.push_back(resolve_stored(b_, args_, spec_, dot.key, dot.key_row, item_.b, item_.h));
  }
  value_rows_ = resolve(spec_.value);
  output_rows_ = resolve(spec_.output);
  if (spec_.logsumexp) lse_rows_ = resolve(*spec_.logsumexp);

  for (ExprEmitter* expr : {&score_, &keep_, &*end_}) enter_item(*expr);
  for (auto* expr : {&keep_kv_, &begin_, &skip_, &sink_, &weight_})
    if (*expr) enter_item(**expr);

  load_queries();
  for (const TileInst& inst : program_.init) emit_op(inst);
  Value* first = begin_ ? b_.max(begin_->emit(), b_.i64(0)) : b_.i64(0);
  Value* last = b_.min(end_->emit(), kv_len_);
  b_.loop(first, last, block_kv_, [&](Value* kv) {
    kv_begin_ = kv;
    kv_end_ = b_.min(b_.add(kv, b_.i64(block_kv_)), last);
    emit_block();
  });
  for (const TileInst& inst : program_.finish) emit_op(inst);
}

void GenericTemplate::enter_item(ExprEmitter& expr) {
  expr.set_axis(Axis::b, item_.b);
  expr.set_axis(Axis::h, item_.h);
  expr.set_axis(Axis::q_lo, item_.q_begin);
  expr.set_axis(Axis::q_hi, b_.sub(item_.q_end, b_.i64(1)));
  expr.hoist();
}

void GenericTemplate::emit_block() {
  const auto step = [&] {
    load_keys_and_values();
    for (const TileInst& inst : program_.step) emit_op(inst);
  };
  if (!skip_) return step();
  skip_->set_axis(Axis::kv_lo, kv_begin_);
  skip_->set_axis(Axis::kv_hi, b_.sub(kv_end_, b_.i64(1)));
  b_.when(b_.ir.CreateNot(skip_->emit()), step);
}

void GenericTemplate::emit_op(const TileInst& inst) {
  switch (inst.op) {
    case TileOp::dot: return dot(inst);
    case TileOp::map_score: return map_score(inst);
    case TileOp::mask: return mask(inst);
    case TileOp::map_weight: return map_weight(inst);
    case TileOp::row_max:
    case TileOp::row_sum: return row_reduce(inst);
    case TileOp::dot_value: return dot_value(inst);
    case TileOp::load_sink: return load_sink(inst);
    case TileOp::store_output: return store_output(inst);
    case TileOp::store_lse: return store_lse(inst);
    case TileOp::fill:
    case TileOp::max:
    case TileOp::finite_or_zero:
    case TileOp::exp2_sub:
    case TileOp::mul:
    case TileOp::add:
    case TileOp::div_or_zero:
    case TileOp::log2_add: return elementwise(inst);
  }
}

CpuKernelSource generate_generic(const TileProgram& program, const CpuSchedule& schedule, const CpuTarget& target,
                                 const std::string& prefix) {
  const std::string symbol = prefix + "_generic";
  CpuModule module = make_cpu_module(symbol);
  LlvmBuilder b(module.state(), target);
  const ArgsLayout layout = args_layout(program.spec);
  std::vector<DotRows> rows;
  for (const DotTerm& dot : program.spec.dots)
    rows.push_back(emit_rows(b, program.spec, layout, dot, schedule.lanes, fmt::format("rows_{}", rows.size())));
  b.begin_kernel(symbol);
  ArgsReader args(b, layout);
  GenericTemplate kernel(program, schedule, b, args, rows);
  kernel.emit_items(b.argument(1), b.argument(2));
  b.ret();

  LaunchInfo launch;
  launch.schedule = schedule;
  launch.phases.push_back({symbol, item_count(program.spec, schedule.block_q), false});
  launch.scratch_bytes = kernel.scratch_bytes();
  for (Expr* none : {&launch.workspace_bytes, &launch.packed_bytes}) none->set_root(none->constant_int(0, DType::i64));
  return {std::move(module), std::move(launch)};
}

}  // namespace tilewright::cpu
