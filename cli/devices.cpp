// tilewright devices: what this machine can run, and the targets `emit` knows.
#include <fmt/format.h>

#include "cli/cuda.h"
#include "codegen/cpu/target_features.h"
#include "runtime/cpu_detect.h"
#include "runtime/limits.h"
#include "runtime/options.h"

namespace tilewright::cli {
namespace {

struct DevicesFlags {
  bool json = false, measure = false, conformance = false;
  std::string target = "cuda";
  int first = 0;
};

int devices_command(const DevicesFlags& options) {
  if (options.conformance) return run_conformance_cases(options.target, options.first, options.json);
  if (environment().max_isa_unreadable) return fail(kMaxIsaUnreadable, options.json);
  const CpuTarget cpu = detect_cpu();
  Json json = {{"device", "cpu"},
               {"isa", to_string(cpu.isa)},
               {"cores", cpu.cores},
               {"l1_bytes", cpu.l1_bytes},
               {"l2_bytes", cpu.l2_bytes},
               {"l3_bytes", cpu.l3_bytes},
               {"avx512_bf16", cpu.avx512_bf16},
               {"avx512_fp16", cpu.avx512_fp16},
               {"llvm_features", target_features(cpu)}};
  json["cuda"] = cuda_json();
  if (options.measure) {
    const auto one = make_thread_pool(1);
    json["fma_peak_gflops"] = {{"f32", measure_fma_peak(cpu.isa, DType::f32, *one, 0.2)},
                               {"f64", measure_fma_peak(cpu.isa, DType::f64, *one, 0.2)}};
  }
  if (options.json) {
    fmt::print("{}\n", json.dump(2));
    return kOk;
  }
  fmt::print("cpu     {}, {} cores; caches per core: L1d {}, L2 {}; shared L3 {}\n", to_string(cpu.isa), cpu.cores,
             bytes_text(cpu.l1_bytes), bytes_text(cpu.l2_bytes), bytes_text(cpu.l3_bytes));
  if (cpu.avx512_bf16) fmt::print("        avx512_bf16: used to narrow operands of tiles\n");
  if (cpu.avx512_fp16) fmt::print("        avx512_fp16: not used, its sums are of f16 (docs/decisions.md, 24)\n");
  if (environment().max_isa) fmt::print("        capped by TILEWRIGHT_MAX_ISA={}\n", to_string(*environment().max_isa));
  if (options.measure)
    fmt::print("        FMA peak of one thread, measured: f32 {:.0f} GFLOP/s, f64 {:.0f} GFLOP/s\n",
               json["fma_peak_gflops"]["f32"].get<double>(), json["fma_peak_gflops"]["f64"].get<double>());
  fmt::print("{}", cuda_text());
  fmt::print(
      "targets cpu-avx2, cpu-avx512, cpu-amx, cpu-amx-emulated, native (this CPU); cuda, cuda-emu, cuda:sm_90a\n");
  return kOk;
}

}  // namespace

void add_devices(CommandLine& line) {
  Command command = line.add("devices", "say what this machine can run");
  auto options = std::make_shared<DevicesFlags>();
  command.flag("--json", options->json, "print JSON");
  command.flag("--measure", options->measure, "measure the FMA peak, too");
  command.flag("--conformance", options->conformance,
               "run each GPU primitive on the GPU and on the emulator; exit code 1 when they disagree");
  command.option("--target", options->target, "of --conformance: cuda, cuda:1, cuda-emu:sm_90a");
  command.option("--from", options->first, "of --conformance: the case to begin with");
  command.action([options] { return devices_command(*options); });
}

}  // namespace tilewright::cli
