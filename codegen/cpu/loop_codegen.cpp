// generate_loop: what is not attention. Contractions have templates of their own; any other LoopStep becomes one kernel
// with one phase.
#include "codegen/cpu/cpu_module.h"
#include "codegen/cpu/loop_frame.h"
#include "codegen/cpu/matmul_templates.h"

namespace tilewright {

CpuKernelSource generate_loop(const LoopStep& step, const CpuSchedule& schedule, const CpuTarget& target,
                              const std::string& symbol_prefix) {
  CpuKernelSource source{make_cpu_module(symbol_prefix), {}};
  cpu::LlvmBuilder builder(source.module.state(), target);
  if (step.kind == LoopKind::contract) {
    source.launch = schedule.kernel == CpuTemplate::matvec ? cpu::emit_matvec(builder, step, schedule, symbol_prefix)
                                                           : cpu::emit_matmul(builder, step, schedule, symbol_prefix);
    return source;
  }

  LaunchInfo& launch = source.launch;
  launch.schedule = schedule;
  launch.workspace_bytes.set_root(launch.workspace_bytes.constant_int(0, DType::i64));
  launch.packed_bytes = launch.workspace_bytes;
  const std::string symbol = symbol_prefix + "_loop";
  builder.begin_kernel(symbol);
  const ArgsLayout layout = args_layout(step);
  cpu::ArgsReader args(builder, layout);
  if (step.kind == LoopKind::pointwise) {
    launch.phases.push_back({symbol, cpu::loop_items(step, static_cast<int>(step.extents.size()) - 1)});
    emit_pointwise(builder, args, step);
  } else if (step.kind == LoopKind::scatter) {
    launch.phases.push_back({symbol, cpu::scatter_items(step)});
    emit_scatter(builder, args, step);
  } else {
    launch.phases.push_back({symbol, cpu::loop_items(step, step.axis)});
    emit_reduce(builder, args, step);
  }
  builder.ret();
  return source;
}

}  // namespace tilewright
