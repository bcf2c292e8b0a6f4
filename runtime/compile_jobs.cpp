#include "runtime/compile_jobs.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "runtime/graph_key.h"
#include "runtime/kernel_entry.h"
#include "runtime/options.h"
#include "runtime/stopwatch.h"

namespace tilewright {
namespace {

CpuKernelSource generate(const CompileJob& job, const CpuTarget& target) {
  if (job.loop) return generate_loop(*job.loop, job.schedule, target, job.symbol_prefix);
  if (job.backward) return generate_backward(*job.backward, job.schedule, target, job.symbol_prefix);
  return generate_attention(*job.program, job.schedule, target, job.symbol_prefix);
}

/// False when a phase has no function.
bool find_functions(CompileJob& job, const LaunchInfo& launch) {
  job.functions.clear();
  for (const LaunchPhase& phase : launch.phases) {
    const auto function = job.code->find_as<KernelFunction>(phase.symbol);
    if (!function) return false;
    job.functions.push_back(function);
  }
  return true;
}

int64_t bytes_of(const std::vector<std::vector<char>>& objects) {
  int64_t bytes = 0;
  for (const auto& object : objects) bytes += static_cast<int64_t>(object.size());
  return bytes;
}

/// Modules of more IR instructions than this (a prefill on tiles with split operands, fused backward passes) are
/// compiled in two halves side by side: alone they take longer than all that compiles beside them.
constexpr int64_t kHalved = 1500;

/// The job's module as objects that link with each other.
Result<std::vector<std::vector<char>>> compile_objects(CompileJob& job, CpuModule module,
                                                       const CompileRequest& request) {
  const EmitOptions options{request.options.verify_modules, request.want_texts};
  const auto compile = [&](CpuModule& from) { return compile_module(std::move(from), request.target, options); };
  const bool halved =
      !request.want_texts && instruction_count(module) > kHalved && std::thread::hardware_concurrency() > 1;
  std::vector<Result<ObjectCode>> made(halved ? 2 : 1, invalid("not compiled"));
  std::thread other;
  if (halved) {
    other = std::thread([&] {
      CpuModule half = generate(job, request.target).module;
      keep_share(half, 1, 2);
      made[1] = compile(half);
    });
    keep_share(module, 0, 2);
  }
  made[0] = compile(module);
  if (halved) other.join();
  std::vector<std::vector<char>> objects;
  for (Result<ObjectCode>& object : made) {
    if (!object) return object.error();
    job.final_ir += object->final_ir;
    job.assembly += object->assembly;
    job.ir_instructions += object->ir_instructions;
    objects.push_back(std::move(object->bytes));
  }
  return objects;
}

/// Links the code of an entry. Errors: why it is no kernel.
Result<KernelEntry> load_entry(CompileJob& job, std::string_view payload) {
  auto entry = decode_kernel(payload);
  if (!entry) return invalid("what it holds is no kernel");
  auto code = JitCode::load(entry->objects);
  if (!code) return code.error();
  job.code = std::move(*code);
  if (!find_functions(job, entry->launch)) return invalid("its code lacks a function that it names");
  return std::move(*entry);
}

/// Takes the kernel from the disk; false when it is not there or not usable.
bool take_from_disk(CompileJob& job, const CompileRequest& request, const std::string& key) {
  DiskCache::Lookup found = request.disk->cache().find(key);
  if (!found.problem.empty()) say_verbose(found.problem);
  if (!found.payload) return false;
  auto entry = load_entry(job, *found.payload);
  if (!entry) {
    say_verbose(fmt::format("the kernel {} on disk is not used: {}", full_hex(hash_key(key)),
                            entry.error().list.front().message));
    return false;
  }
  job.code_bytes = bytes_of(entry->objects);
  job.ir_instructions = entry->ir_instructions;
  job.launch = std::move(entry->launch);
  job.launch->schedule = job.schedule;
  return job.from_disk = true;
}

void run_job(CompileJob& job, const CompileRequest& request) {
  const std::string label(to_string(job.schedule.kernel));
  Stopwatch watch;
  const bool on_disk = request.disk && request.link;
  if (on_disk) {
    if (job.key.empty()) job.key = kernel_key(job, request.target);
    const bool found = take_from_disk(job, request, job.key);
    watch.lap(job.stages, "disk " + label);
    if (found) return;
  }
  CpuKernelSource source = generate(job, request.target);
  watch.lap(job.stages, "emit " + label);
  job.launch = std::move(source.launch);
  if (request.want_texts) {
    job.emitted_ir = source.module.text();
    watch.lap(job.stages, "dump");
  }
  auto objects = compile_objects(job, std::move(source.module), request);
  watch.lap(job.stages, "llvm " + label);
  if (!objects) {
    job.errors = objects.error();
    return;
  }
  job.code_bytes = bytes_of(*objects);
  if (!request.link) return;
  auto code = JitCode::load(*objects);
  watch.lap(job.stages, "link " + label);
  if (!code) {
    job.errors = code.error();
    return;
  }
  job.code = *code;
  TW_CHECK(find_functions(job, *job.launch));
  if (on_disk)
    request.disk->store(std::move(job.key), encode_kernel({*job.launch, job.ir_instructions, std::move(*objects)}));
}

}  // namespace

bool generates_code() { return true; }

std::string problem_of_kernel(std::string_view payload) {
  CompileJob job;
  const auto entry = load_entry(job, payload);
  return entry ? "" : entry.error().list.front().message;
}

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
