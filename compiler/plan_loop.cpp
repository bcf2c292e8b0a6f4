#include "compiler/plan_loop.h"

#include <algorithm>

#include "compiler/arithmetic.h"
#include "compiler/contract_axes.h"
#include "compiler/plan_rules.h"

namespace tilewright {
namespace {

/// Up to so many rows, reading B from memory takes longer than multiplying it, however it is done.
constexpr int64_t kFewRows = 8;

CpuSchedule base(const LoopStep& step, const CpuTarget& target) {
  CpuSchedule s;
  s.isa = target.isa;
  s.lanes = target.vector_bytes() / size_of(step.accumulate);
  s.k_unroll = 2;
  return s;
}

/// Constant number of rows; -1 when it is not known.
int64_t known_rows(const LoopStep& step) {
  int64_t rows = 1;
  for (int axis : contract_axes(step).rows) {
    const Dim& extent = step.extents[static_cast<size_t>(axis)];
    if (!extent.is_constant()) return -1;
    rows *= extent.constant();
  }
  return rows;
}

CpuSchedule schedule_matmul(const LoopStep& step, const CpuTarget& target) {
  const int64_t element = size_of(step.accumulate);
  CpuSchedule s = base(step, target);
  s.kernel = CpuTemplate::matmul;
  s.mr = target.has_avx512() ? 13 : 6;
  s.nv = 2;
  s.reasons.push_back(fmt::format("a {}x{} micro-kernel keeps its sums in {} of {} vector registers", s.mr, s.nv,
                                  s.mr * s.nv, target.vector_registers()));
  s.block_k = round_up(target.l1_bytes * 5 / 8 / (s.nr() * element), s.lanes);
  s.reasons.push_back(fmt::format("a panel of B, {} deep and {} columns wide, takes {} KB of the {} KB L1", s.block_k,
                                  s.nr(), s.block_k * s.nr() * element >> 10, target.l1_bytes >> 10));
  s.block_m = 29 * s.mr;
  s.block_n = round_up(512, s.nr());
  const auto bytes = [&] { return s.block_m * (s.block_k + s.block_n) * element; };
  while (s.block_m > 4 * s.mr && bytes() > target.l2_bytes * 5 / 8) s.block_m -= s.mr;
  // Known sizes are cut evenly, and finer where that would leave cores without work.
  const int64_t rows = known_rows(step);
  if (rows > 0) {
    int64_t blocks = (rows + s.block_m - 1) / s.block_m;
    const Dim& columns = step.extents[static_cast<size_t>(contract_axes(step).column)];
    const int64_t across = columns.is_constant() ? std::max<int64_t>(1, columns.constant() / s.block_n) : 1;
    while (blocks * across < 2 * target.cores && rows / (blocks + 1) >= 8 * s.mr) ++blocks;
    s.block_m = round_up((rows + blocks - 1) / blocks, s.mr);
  }
  s.reasons.push_back(fmt::format("A and C of {} rows and {} columns take {} KB of the {} KB L2", s.block_m, s.block_n,
                                  bytes() >> 10, target.l2_bytes >> 10));
  return s;
}

CpuSchedule schedule_matvec(const LoopStep& step, const CpuTarget& target) {
  CpuSchedule s = base(step, target);
  s.kernel = CpuTemplate::matvec;
  s.mr = 1;
  s.nv = 2;
  s.block_m = kFewRows;
  s.block_n = 1024;
  s.block_k = 1024;
  s.reasons.push_back(fmt::format("up to {} rows wait for B from memory, which is read once, in place", kFewRows));
  return s;
}

}  // namespace

CpuPlan plan_loop(const LoopStep& step, const CpuTarget& target) {
  CpuPlan plan;
  if (step.kind != LoopKind::contract) {
    CpuSchedule s;
    s.kernel = CpuTemplate::loop;
    s.isa = target.isa;
    s.reasons.push_back("one loop nest over memory");
    plan.choices.push_back({s, always()});
    return plan;
  }
  const int64_t rows = known_rows(step);
  if (rows < 0 || rows <= kFewRows) {
    Expr few = extent_product(step, contract_axes(step).rows);
    few.set_root(few.op(Op::le, DType::boolean, {few.root(), few.constant_int(kFewRows, DType::i64)}));
    plan.choices.push_back({schedule_matvec(step, target), rows < 0 ? few : always()});
  } else {
    plan.refused.push_back({CpuTemplate::matvec, fmt::format("{} rows are more than {}", rows, kFewRows)});
  }
  if (rows < 0 || rows > kFewRows)
    plan.choices.push_back({schedule_matmul(step, target), always()});
  else
    plan.refused.push_back({CpuTemplate::matmul, fmt::format("{} rows are at most {}", rows, kFewRows)});
  for (CpuPlan::Choice& choice : plan.choices) choice.schedule.arithmetic = describe_products(step, choice.schedule);
  return plan;
}

}  // namespace tilewright
