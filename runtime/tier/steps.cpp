#include "runtime/tier/steps.h"

#include <algorithm>

#include "runtime/convert.h"
#include "runtime/tier/lane_loads.h"

namespace tilewright {
namespace tier {

PlacedAccess::PlacedAccess(const Access& access, const std::vector<SpecTensor>& tensors, const ArgsLayout& layout,
                           ScratchLayout& scratch)
    : tensor(access.tensor) {
  const auto index = static_cast<size_t>(tensor);
  dtype = tensors[index].type.dtype;
  stride_at = layout.stride_offset[index];
  Expr all;
  std::vector<ExprId> roots;
  for (const Expr& axis : access.axes) roots.push_back(all.import(axis));
  indices = PlacedProgram(LaneProgram(all, roots, kNoAxis, tensors, layout), scratch);
}

Rows resolve(const PlacedAccess& access, const LaneContext& context, const IsaOps& ops, std::byte* scratch,
             std::initializer_list<Axis> seq, Axis dim) {
  const LaneEvaluator indices = access.indices.evaluator(ops, scratch);
  LaneContext at = context;
  indices.start(at);
  const auto offset = [&](int64_t s, int64_t d) {
    for (const Axis axis : seq) at.axis(axis) = s;
    at.axis(dim) = d;
    indices.row(at);
    int64_t sum = 0;
    for (size_t i = 0; i < access.indices.program.roots.size(); ++i)
      sum += indices.root<int64_t>(i)[0] * context.args->meta[access.stride_at + static_cast<int64_t>(i)];
    return sum;
  };
  const int64_t first = offset(0, 0);
  auto* base = static_cast<std::byte*>(context.args->tensors[access.tensor]) + first * size_of(access.dtype);
  return {base, access.dtype, offset(1, 0) - first, offset(0, 1) - first};
}

template <class T>
void read_row(DType dtype, const std::byte* base, int64_t step, int64_t count, T* to) {
  constexpr Lane kOwn = sizeof(T) == 4 ? Lane::f32 : Lane::f64;
  if (step == 1 && lane_of(dtype) == kOwn) return widen(dtype, base, to, count);
  alignas(64) std::byte packed[kRegisterBytes];
  alignas(64) std::byte lanes[kRegisterBytes];
  const auto cast = [&](const auto* from, int64_t n, T* out) {
    for (int64_t i = 0; i < n; ++i) out[i] = static_cast<T>(from[i]);
  };
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t n = std::min(kLanes, count - i);
    gather_run(dtype, base + i * step * size_of(dtype), step, n, packed);
    widen(dtype, packed, lanes, n);
    switch (lane_of(dtype)) {
      case Lane::f32: cast(reinterpret_cast<const float*>(lanes), n, to + i); break;
      case Lane::f64: cast(reinterpret_cast<const double*>(lanes), n, to + i); break;
      case Lane::integer: cast(reinterpret_cast<const int64_t*>(lanes), n, to + i); break;
    }
  }
}

template <class T>
void write_row(DType dtype, std::byte* base, int64_t step, int64_t count, const T* from) {
  if constexpr (sizeof(T) == 4)
    if (step == 1) {
      if (dtype == DType::f32) {
        std::memcpy(base, from, static_cast<size_t>(count) * sizeof(float));
        return;
      }
      if (dtype == DType::bf16) return convert_f32_to_bf16(from, reinterpret_cast<uint16_t*>(base), count);
      if (dtype == DType::f16) return convert_f32_to_f16(from, reinterpret_cast<uint16_t*>(base), count);
    }
  for (int64_t i = 0; i < count; ++i)
    write_element(dtype, base + i * step * size_of(dtype), static_cast<double>(from[i]));
}

template void read_row(DType, const std::byte*, int64_t, int64_t, float*);
template void read_row(DType, const std::byte*, int64_t, int64_t, double*);
template void write_row(DType, std::byte*, int64_t, int64_t, const float*);
template void write_row(DType, std::byte*, int64_t, int64_t, const double*);

void store_lanes(DType dtype, std::byte* base, int64_t step, int64_t count, Lane kind, const void* lanes) {
  if (kind == Lane::f32) return write_row(dtype, base, step, count, static_cast<const float*>(lanes));
  if (kind == Lane::f64) return write_row(dtype, base, step, count, static_cast<const double*>(lanes));
  const int64_t size = size_of(dtype);
  const auto* from = static_cast<const int64_t*>(lanes);
  for (int64_t i = 0; i < count; ++i) std::memcpy(base + i * step * size, from + i, static_cast<size_t>(size));
}

void decode(std::span<const int> axes, std::span<const DimFormula> extents, std::span<const int64_t> dims, int64_t flat,
            LaneContext& context) {
  for (size_t i = axes.size(); i-- > 0;) {
    const int64_t extent = std::max<int64_t>(1, extents[static_cast<size_t>(axes[i])].evaluate(dims));
    context.axes[static_cast<size_t>(axes[i])] = i ? flat % extent : flat;
    flat /= extent;
  }
}

Expr accumulated(const Expr& value, DType accumulate) {
  Expr expr = value;
  if (lane_of(expr.root_node().dtype) != lane_of(accumulate))
    expr.set_root(expr.op(Op::cast, accumulate, {expr.root()}));
  return expr;
}

CpuSchedule tier_schedule(CpuIsa isa, DType accumulate) {
  CpuSchedule schedule;
  schedule.kernel = CpuTemplate::ahead_of_time;
  schedule.isa = isa;
  schedule.lanes = (isa == CpuIsa::avx512 ? 64 : 32) / std::max<int64_t>(4, size_of(compute_type(accumulate)));
  schedule.mr = 6;
  schedule.nv = isa == CpuIsa::avx512 ? 4 : 2;
  schedule.k_unroll = 1;
  schedule.reasons.push_back("compiled with the library: it runs at once, and slower than generated code");
  return schedule;
}

}  // namespace tier

Result<TierStep> make_tier_step(const Step& step, const CpuTarget& target) {
  TW_CHECK(target.isa != CpuIsa::baseline);
  const CpuIsa isa = target.has_avx512() ? CpuIsa::avx512 : CpuIsa::avx2;
  if (const auto* attention = std::get_if<AttentionStep>(&step.what)) return tier::make_attention(attention->spec, isa);
  if (const auto* loop = std::get_if<LoopStep>(&step.what))
    return loop->kind == LoopKind::contract ? tier::make_contract(*loop, isa) : tier::make_loop(*loop, isa);
  return unsupported("the ahead-of-time tier takes no fused backward pass");
}

}  // namespace tilewright
