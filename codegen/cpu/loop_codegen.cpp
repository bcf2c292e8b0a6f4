// generate_loop: the unfused path. Any LoopStep becomes one kernel with one phase.
#include <llvm/IR/Constants.h>

#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/loop_frame.h"

namespace tilewright {

CpuKernelSource generate_loop(const LoopStep& step, const CpuTarget& target, const std::string& symbol_prefix) {
  CpuKernelSource source{make_cpu_module(symbol_prefix), {}};
  LaunchInfo& launch = source.launch;
  CpuSchedule& s = launch.schedule;
  s.isa = target.isa;
  s.lanes = target.vector_bytes() / std::max<int64_t>(4, size_of(step.accumulate));
  s.nv = target.isa == CpuIsa::avx512 ? 4 : 2;
  s.block_q = step.kind == LoopKind::contract ? cpu::kContractRows : 1;
  s.reasons.push_back("an unfused step: one loop nest over memory");

  const auto constant = [](int64_t value, DType dtype) {
    Expr expr;
    expr.set_root(expr.constant_int(value, dtype));
    return expr;
  };
  launch.use_when = constant(1, DType::boolean);
  launch.workspace_bytes = launch.packed_bytes = constant(0, DType::i64);

  cpu::LlvmBuilder builder(source.module.state(), target);
  const std::string symbol = symbol_prefix + "_loop";
  builder.begin_kernel(symbol);
  const ArgsLayout layout = args_layout(step);
  cpu::ArgsReader args(builder, layout);
  const int rank = static_cast<int>(step.extents.size());
  switch (step.kind) {
    case LoopKind::pointwise:
      launch.phases.push_back({symbol, cpu::loop_items(step, {rank - 1})});
      emit_pointwise(builder, args, step);
      break;
    case LoopKind::reduce:
    case LoopKind::softmax:
      launch.phases.push_back({symbol, cpu::loop_items(step, {step.axis})});
      emit_reduce(builder, args, step);
      break;
    case LoopKind::scatter:
      launch.phases.push_back({symbol, cpu::scatter_items(step)});
      emit_scatter(builder, args, step);
      break;
    case LoopKind::contract:
      launch.phases.push_back(
          {symbol, cpu::loop_items(step, {rank - 3, rank - 2, rank - 1}, rank - 3, cpu::kContractRows)});
      launch.scratch_bytes = cpu::contract_scratch_bytes(step, s);
      emit_contract(builder, args, step, s);
      break;
  }
  builder.ret();
  return source;
}

}  // namespace tilewright
