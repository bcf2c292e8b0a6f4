// What the kinds of steps share. Internal to the tier.
#pragma once

#include <span>

#include "runtime/tier/lane_evaluator.h"
#include "runtime/tier/tier.h"

namespace tilewright::tier {

TierStep make_attention(const AttentionSpec& spec, CpuIsa isa);
TierStep make_loop(const LoopStep& step, CpuIsa isa);  ///< but contractions
TierStep make_contract(const LoopStep& step, CpuIsa isa);

/// Places in the scratch of one worker, each on a cache line of its own.
class ScratchLayout {
 public:
  int64_t place(int64_t bytes) {
    const int64_t at = size_;
    size_ += round_up(bytes, 64);
    return at;
  }
  int64_t size() const { return size_; }

 private:
  int64_t size_ = 0;
};

/// A program and where its registers lie in the scratch.
struct PlacedProgram {
  LaneProgram program;
  int64_t at = 0;

  PlacedProgram() = default;
  PlacedProgram(LaneProgram lane_program, ScratchLayout& scratch) : program(std::move(lane_program)) {
    at = scratch.place(program.bytes());
  }
  LaneEvaluator evaluator(const IsaOps& ops, std::byte* scratch) const { return {program, ops, scratch + at}; }
};

/// Not an axis of any expression: for programs whose roots are all the same on every lane.
constexpr auto kNoAxis = static_cast<Axis>(15);

/// The tensor indices of an access as one program, and what they reach.
struct PlacedAccess {
  int tensor = -1;
  DType dtype = DType::f32;
  int64_t stride_at = 0;  ///< in KernelArgs::meta
  PlacedProgram indices;

  PlacedAccess() = default;
  PlacedAccess(const Access& access, const std::vector<SpecTensor>& tensors, const ArgsLayout& layout,
               ScratchLayout& scratch);
};

/// Elements (s, d) of an operand lie at base + (s · seq + d · dim) elements.
struct Rows {
  std::byte* base = nullptr;
  DType dtype = DType::f32;
  int64_t seq = 0, dim = 0;

  std::byte* row(int64_t s) const { return base + s * seq * size_of(dtype); }
};
/// At the axes of the context; `seq` are the axes that stand for s, `dim` the one for d.
Rows resolve(const PlacedAccess& access, const LaneContext& context, const IsaOps& ops, std::byte* scratch,
             std::initializer_list<Axis> seq, Axis dim);

/// `count` elements at base, `step` elements apart, to T, and back with one rounding.
template <class T>
void read_row(DType dtype, const std::byte* base, int64_t step, int64_t count, T* to);
template <class T>
void write_row(DType dtype, std::byte* base, int64_t step, int64_t count, const T* from);

/// `count` lanes of a register's kind to base, `step` elements apart; integers keep their low bits.
void store_lanes(DType dtype, std::byte* base, int64_t step, int64_t count, Lane kind, const void* lanes);

/// Axes of a loop nest from the row-major flattening of some of them.
void decode(std::span<const int> axes, std::span<const DimFormula> extents, std::span<const int64_t> dims, int64_t flat,
            LaneContext& context);
/// In the lane kind of `accumulate`.
Expr accumulated(const Expr& value, DType accumulate);

/// For the report.
CpuSchedule tier_schedule(CpuIsa isa, DType accumulate);

/// A plan, and its items run one by one: Run is made of (plan, args, scratch) for each call and has item(number). Wide
/// is that of steps that accumulate in f64.
template <class Plan, class Run, class Wide = Run>
class ItemKernel final : public TierKernel {
 public:
  template <class Step>
  ItemKernel(const Step& step, CpuIsa isa) : plan_(step, isa), wide_(lane_of(step.accumulate) == Lane::f64) {}
  const Plan& plan() const { return plan_; }

  void run(const KernelArgs& args, int64_t begin, int64_t end, void* scratch) const override {
    if (wide_)
      run_items(Wide(plan_, args, static_cast<std::byte*>(scratch)), begin, end);
    else
      run_items(Run(plan_, args, static_cast<std::byte*>(scratch)), begin, end);
  }

 private:
  template <class AnyRun>
  static void run_items(AnyRun run, int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) run.item(item);
  }

  Plan plan_;
  bool wide_;
};

/// The step of a kernel that needs no memory but scratch.
template <class Kernel>
TierStep make_step(CpuSchedule schedule, Expr items, std::shared_ptr<const Kernel> kernel) {
  TierStep step;
  step.launch.schedule = std::move(schedule);
  step.launch.phases.push_back({"", std::move(items)});
  step.launch.scratch_bytes = kernel->plan().scratch.size();
  for (Expr* none : {&step.launch.workspace_bytes, &step.launch.packed_bytes})
    none->set_root(none->constant_int(0, DType::i64));
  step.kernel = std::move(kernel);
  return step;
}

}  // namespace tilewright::tier
