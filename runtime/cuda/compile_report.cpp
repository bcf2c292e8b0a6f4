#include "runtime/cuda/compile_report.h"

#include <algorithm>

#include "runtime/cuda/ptxas_log.h"

namespace tilewright {
namespace {

/// wgmma made serial (C7510, C7511, C7517, C7519), setmaxnreg left out (C7504, C7508), waits put in (C7520).
constexpr std::string_view kBadCodes[] = {"C7504", "C7508", "C7510", "C7511", "C7517", "C7519", "C7520"};

/// Instructions without which a template is not what it says. Those of 16-bit operands alone: split operands are taken
/// apart on their way to shared memory.
struct Needed {
  CudaTemplate kernel;
  std::string_view opcode;
  bool only_16_bit;
};
constexpr Needed kNeeded[] = {
    {CudaTemplate::sm80_prefill, "HMMA", false},    {CudaTemplate::sm80_prefill, "LDSM", false},
    {CudaTemplate::sm80_prefill, "LDGSTS", true},   {CudaTemplate::sm90_prefill, "HGMMA", false},
    {CudaTemplate::sm90_prefill, "UTMALDG", false}, {CudaTemplate::sm90_prefill, "USETMAXREG", false}};

void check_phase(const CudaPhaseReport& phase, const CudaTarget& target, std::vector<std::string>& complaints) {
  const KernelFacts& facts = phase.facts;
  const auto complain = [&]<class... Args>(fmt::format_string<Args...> text, Args&&... args) {
    complaints.push_back(facts.symbol + " " + fmt::format(text, std::forward<Args>(args)...));
  };
  if (phase.spill_bytes > 0) complain("spills {} bytes per thread", phase.spill_bytes);
  if (facts.local_bytes > 0) complain("has {} bytes of local memory per thread", facts.local_bytes);
  for (const std::string_view opcode : {"LDL", "STL"})
    if (facts.count(opcode) > 0) complain("has {} {} instructions", facts.count(opcode), opcode);
  if (phase.occupancy.blocks == 0)
    complain(
        "does not fit a multiprocessor: {} registers for {} threads, {} bytes of shared memory; the limit are its {}",
        facts.registers, phase.threads, facts.static_shared + phase.dynamic_shared, phase.occupancy.limited_by);
  if (phase.dynamic_shared + facts.static_shared > target.shared_bytes_per_block)
    complain("has {} bytes of shared memory per block, and {} are to be had",
             phase.dynamic_shared + facts.static_shared, target.shared_bytes_per_block);
}

}  // namespace

Result<CudaCompileReport> report_compile(const CudaBinary& binary, const CudaLaunch& launch, const CudaTarget& target) {
  auto kernels = read_cubin(binary.cubin);
  if (!kernels) return kernels.error();
  const PtxasLog log = parse_ptxas_log(binary.log);
  CudaCompileReport report{launch.schedule, binary.architecture, binary.milliseconds, {}, {}};
  for (const PtxasLog::Warning& warning : log.warnings)
    if (std::ranges::find(kBadCodes, warning.code) != std::end(kBadCodes)) report.complaints.push_back(warning.line);
  for (const CudaPhase& phase : launch.phases) {
    const auto facts =
        std::ranges::find_if(*kernels, [&](const KernelFacts& kernel) { return kernel.symbol == phase.symbol; });
    if (facts == kernels->end()) return invalid("the cubin holds no kernel {}", phase.symbol);
    CudaPhaseReport out{*facts, occupancy(*facts, phase.threads, phase.shared_bytes, target), phase.threads,
                        phase.shared_bytes, 0};
    for (const PtxasLog::Kernel& said : log.kernels)
      if (said.symbol == phase.symbol) out.spill_bytes = said.spill_store_bytes + said.spill_load_bytes;
    check_phase(out, target, report.complaints);
    report.phases.push_back(std::move(out));
  }
  for (const Needed& needed : kNeeded) {
    if (needed.kernel != launch.schedule.kernel || (needed.only_16_bit && launch.schedule.products > 1)) continue;
    if (std::ranges::none_of(report.phases,
                             [&](const CudaPhaseReport& phase) { return phase.facts.count(needed.opcode) > 0; }))
      report.complaints.push_back(
          fmt::format("{} has no {} instruction", to_string(launch.schedule.kernel), needed.opcode));
  }
  return report;
}

std::string print(const CudaCompileReport& report) {
  std::string text;
  for (const CudaPhaseReport& phase : report.phases)
    text += fmt::format(
        "{}: {} registers, {} + {} bytes of shared memory, {} bytes spilled, {} local, {} blocks of {} "
        "threads a multiprocessor (limit: {}); {}\n",
        phase.facts.symbol, phase.facts.registers, phase.facts.static_shared, phase.dynamic_shared, phase.spill_bytes,
        phase.facts.local_bytes, phase.occupancy.blocks, phase.threads, phase.occupancy.limited_by,
        print_census(phase.facts));
  for (const std::string& complaint : report.complaints) text += fmt::format("wrong: {}\n", complaint);
  return text;
}

}  // namespace tilewright
