#include "compiler/plan_cuda_decode.h"

#include <algorithm>

#include "compiler/passes.h"
#include "compiler/plan_cuda_rules.h"
#include "compiler/schedule.h"

namespace tilewright {
namespace {

constexpr int64_t kDecodeWarps[] = {4, 2, 8};
constexpr int64_t kLargestSplit = 1 << 20;

/// Bytes that all tiles of one key take: K and V are as they lie in memory.
int64_t stage_bytes(const AttentionSpec& spec, const CudaSchedule& s) {
  return s.warps * s.block_kv * sm80_key_bytes(spec, {});
}

CudaSchedule schedule_cuda_decode(const TileProgram& program, const CudaTarget& target) {
  const AttentionSpec& spec = program.spec;
  CudaSchedule s;
  s.kernel = CudaTemplate::decode;
  s.block_q = kCudaDecodeRows;
  s.pack_gqa = 1;
  s.warps = 4;
  s.stages = 2;
  // A tile of a warp is about 8 KB: long enough for its latencies, short enough for several in flight.
  const int64_t key_bytes = sm80_key_bytes(spec, {});
  s.block_kv = std::clamp<int64_t>(8192 / key_bytes / 16 * 16, 16, 64);
  if (cuda_decode_shared_bytes(spec, s) > target.shared_bytes_per_block) s.warps = 2;
  // Two thread blocks to a multiprocessor where they fit.
  const int64_t half = target.shared_bytes_per_multiprocessor / 2 - 1024;
  while (s.stages < 4) {
    ++s.stages;
    if (cuda_decode_shared_bytes(spec, s) <= std::min(half, target.shared_bytes_per_block)) continue;
    --s.stages;
    break;
  }
  s.split_kv = round_up(256, s.warps * s.block_kv);  // whole rounds of the warps
  s.reasons.push_back(fmt::format("{} warps stream {} keys at a time through rings of {}: {} KB in flight", s.warps,
                                  s.block_kv, s.stages, (s.stages - 1) * stage_bytes(spec, s) >> 10));
  s.reasons.push_back(fmt::format("splits of {} keys and more, as many as make {} thread blocks, at most {}",
                                  s.split_kv, kCudaBlocksWanted, kCudaMaxSplits));
  s.reasons.push_back(fmt::format("{} query heads share K and V and are rows of one tile", spec.head_group));
  return s;
}

struct SizeWriter {
  const AttentionSpec& spec;
  Expr expr = {};

  ExprId constant(int64_t value) { return expr.constant_int(value, DType::i64); }
  ExprId op(Op op, ExprId a, ExprId b) { return expr.op(op, DType::i64, {a, b}); }
  ExprId ceil_div(ExprId a, ExprId b) { return op(Op::div, op(Op::sub, op(Op::add, a, b), constant(1)), b); }

  ExprId product(const std::vector<Dim>& dims) {
    ExprId all = constant(1);
    for (const Dim& dim : dims) all = op(Op::mul, all, expr.dim(dim));
    return all;
  }
  ExprId rows() { return op(Op::mul, op(Op::mul, product(spec.batch), product(spec.heads)), expr.dim(spec.q_len)); }
  ExprId tiles() {
    const ExprId kv_heads = op(Op::div, product(spec.heads), constant(spec.head_group));
    const ExprId row_tiles = ceil_div(expr.dim(spec.q_len * spec.head_group), constant(kCudaDecodeRows));
    return op(Op::mul, op(Op::mul, product(spec.batch), kv_heads), row_tiles);
  }
  /// As count_splits of device/decode.cuh has it.
  ExprId splits(const CudaSchedule& s) {
    const ExprId wanted = ceil_div(constant(kCudaBlocksWanted), tiles());
    const ExprId most = ceil_div(expr.dim(spec.kv_len), constant(s.split_kv));
    return op(Op::max, constant(1), op(Op::min, constant(kCudaMaxSplits), op(Op::min, wanted, most)));
  }
  /// `value` where there are several splits, else 0.
  Expr where_split(const CudaSchedule& s, ExprId value) {
    const ExprId several = expr.op(Op::gt, DType::boolean, {splits(s), constant(1)});
    expr.set_root(expr.op(Op::select, DType::i64, {several, value, constant(0)}));
    return std::move(expr);
  }
};

Expr rows_within_limit(const AttentionSpec& spec) {
  if (spec.q_len.is_constant()) return always_cuda();
  Expr expr;
  const ExprId rows = expr.dim(spec.q_len * spec.head_group);
  expr.set_root(expr.op(Op::le, DType::boolean, {rows, expr.constant_int(kCudaDecodeRowLimit, DType::i64)}));
  return expr;
}

}  // namespace

int64_t cuda_decode_shared_bytes(const AttentionSpec& spec, const CudaSchedule& s) {
  const int64_t loop = kCudaDecodeRows * sm80_query_row_bytes(spec, {}) + s.stages * stage_bytes(spec, s);
  const int64_t join = s.warps * kCudaDecodeRows * (12 + 4 * (sm80_columns(spec.value_dim) + 8));
  return std::max(loop, join);
}

Expr cuda_decode_blocks(const AttentionSpec& spec, const CudaSchedule& schedule) {
  SizeWriter w{spec};
  w.expr.set_root(w.op(Op::mul, w.tiles(), w.splits(schedule)));
  return std::move(w.expr);
}

Expr cuda_decode_combined_rows(const AttentionSpec& spec, const CudaSchedule& schedule) {
  SizeWriter w{spec};
  return w.where_split(schedule, w.rows());
}

Expr cuda_decode_workspace_bytes(const AttentionSpec& spec, const CudaSchedule& schedule) {
  SizeWriter w{spec};
  const ExprId states = w.op(Op::mul, w.rows(), w.splits(schedule));
  return w.where_split(schedule, w.op(Op::mul, states, w.constant(4 * (2 + spec.value_dim))));
}

Result<Done> validate_cuda_decode(const TileProgram& program, const CudaSchedule& s, const CudaTarget& target) {
  if (std::find(std::begin(kDecodeWarps), std::end(kDecodeWarps), s.warps) == std::end(kDecodeWarps))
    return invalid("warps {} is none of 2, 4 and 8", s.warps);
  if (s.block_q != kCudaDecodeRows) return invalid("block_q {} is not {}", s.block_q, kCudaDecodeRows);
  if (s.pack_gqa != 1) return invalid("pack_gqa {} is not 1, and this template always packs", s.pack_gqa);
  if (s.products != 1) return invalid("products {} is not 1, and this template takes no f32", s.products);
  if (s.block_kv <= 0 || s.block_kv % 16 != 0 || s.block_kv > 64)
    return invalid("block_kv {} is no multiple of 16 up to 64", s.block_kv);
  if (s.stages < 2 || s.stages > 6) return invalid("stages {} is not between 2 and 6", s.stages);
  if (s.split_kv <= 0 || s.split_kv > kLargestSplit || s.split_kv % (s.warps * s.block_kv) != 0)
    return invalid("split_kv {} is no multiple of the {} keys that {} warps take at a time, up to {}", s.split_kv,
                   s.warps * s.block_kv, s.warps, kLargestSplit);
  const int64_t bytes = cuda_decode_shared_bytes(program.spec, s);
  if (bytes > target.shared_bytes_per_block)
    return invalid("{} stages of {} keys and {} warps take {} bytes of shared memory, and {} has {}", s.stages,
                   s.block_kv, s.warps, bytes, target.architecture(), target.shared_bytes_per_block);
  return Done{};
}

CudaOffer plan_cuda_decode(const TileProgram& program, const CudaTarget& target) {
  const AttentionSpec& spec = program.spec;
  const auto refuse = [](std::string reason) { return CudaPlan::Refusal{CudaTemplate::decode, std::move(reason)}; };
  if (std::string reason = refuse_sm80_operands(program); !reason.empty()) return refuse(std::move(reason));
  for (const Access* operand : {&spec.dots[0].query, &spec.dots[0].key, &spec.value}) {
    const SpecTensor& tensor = spec.tensors[static_cast<size_t>(operand->tensor)];
    if (tensor.type.dtype == DType::f32)
      return refuse(fmt::format("%{} is f32, and this template multiplies what it streams as it is", tensor.name));
  }
  if (hides_keys_by_head(spec)) return refuse("which keys are hidden differs between query heads that share K and V");
  const Dim rows = spec.q_len * spec.head_group;
  if (rows.is_constant() && rows.constant() > kCudaDecodeRowLimit)
    return refuse(fmt::format("{} query rows share one KV head, more than the {} that decode takes", rows.constant(),
                              kCudaDecodeRowLimit));
  if (spec.head_group > kCudaDecodeRowLimit)
    return refuse(fmt::format("{} query heads share one KV head, more than the {} rows that decode takes",
                              spec.head_group, kCudaDecodeRowLimit));
  CudaSchedule schedule = schedule_cuda_decode(program, target);
  if (auto legal = validate_cuda_decode(program, schedule, target); !legal) return refuse(to_string(legal.error()));
  return CudaPlan::Choice{std::move(schedule), rows_within_limit(spec)};
}

}  // namespace tilewright
