#include "runtime/compile_jobs.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "runtime/stopwatch.h"

namespace tilewright {
namespace {

CpuKernelSource generate(const CompileJob& job, const CpuTarget& target) {
  if (job.loop) return generate_loop(*job.loop, job.schedule, target, job.symbol_prefix);
  if (job.backward) return generate_backward(*job.backward, job.schedule, target, job.symbol_prefix);
  return generate_attention(*job.program, job.schedule, target, job.symbol_prefix);
}

void run_job(CompileJob& job, const CompileRequest& request) {
  const std::string label(to_string(job.schedule.kernel));
  Stopwatch watch;
  CpuKernelSource source = generate(job, request.target);
  watch.lap(job.stages, "emit " + label);
  job.launch = std::move(source.launch);
  if (request.want_texts) {
    job.emitted_ir = source.module.text();
    watch.lap(job.stages, "dump");
  }
  auto object =
      compile_module(std::move(source.module), request.target, {request.options.verify_modules, request.want_texts});
  watch.lap(job.stages, "llvm " + label);
  if (!object) {
    job.errors = object.error();
    return;
  }
  job.final_ir = std::move(object->final_ir);
  job.assembly = std::move(object->assembly);
  job.code_bytes = static_cast<int64_t>(object->bytes.size());
  job.ir_instructions = object->ir_instructions;
  if (!request.link) return;
  auto code = JitCode::load(object->bytes);
  watch.lap(job.stages, "link " + label);
  if (code)
    job.code = *code;
  else
    job.errors = code.error();
}

}  // namespace

void run_jobs(std::vector<CompileJob>& jobs, const CompileRequest& request) {
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next.fetch_add(1); i < jobs.size(); i = next.fetch_add(1)) run_job(jobs[i], request);
  };
  std::vector<std::thread> helpers;
  const size_t threads = std::min<size_t>(jobs.size(), std::max(1u, std::thread::hardware_concurrency()));
  for (size_t i = 1; i < threads; ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
}

}  // namespace tilewright
