#include "bench/gpu_compile.h"

#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>
#include <thread>

#include "compiler/cuda_schedule_space.h"
#include "compiler/gradient.h"
#include "compiler/passes.h"
#include "ir/text.h"
#include "layers/graph_parts.h"
#include "runtime/cuda/cuda_program.h"

namespace tilewright::bench {
namespace {

/// One query head dim and one value dim, 8 query heads on 2 K/V heads; 16-bit P where the operands are.
std::string graph_text(DType dtype, int64_t dqk, int64_t dv, bool causal) {
  const std::string type(to_string(dtype));
  const bool narrow = dtype == DType::bf16 || dtype == DType::f16;
  return fmt::format(
      R"(
graph @gate(%q: {0}[B,8,Sq,{1}], %k: {0}[B,2,Sk,{1}], %v: {0}[B,2,Sk,{2}]) -> {0}[B,8,Sq,{2}] {{
  %kh = repeat_heads %k, times=4          : {0}[B,8,Sk,{1}]
  %vh = repeat_heads %v, times=4          : {0}[B,8,Sk,{2}]
  %s = matmul_nt %q, %kh                  : {3}[B,8,Sq,Sk]
  %a = mul %s, 0.125                      : {3}[B,8,Sq,Sk]
  {6}
  %p = softmax %{7}, axis=3                 : {3}[B,8,Sq,Sk]
  {4}
  %o = matmul %{5}, %vh                   : {0}[B,8,Sq,{2}]
  return %o
}})",
      type, dqk, dv, narrow ? "f32" : type, narrow ? fmt::format("%c = cast %p : {}[B,8,Sq,Sk]", type) : "",
      narrow ? "c" : "p",
      causal ? fmt::format("%e = mask_causal %a, align=bottom_right : {}[B,8,Sq,Sk]", narrow ? "f32" : type) : "",
      causal ? "e" : "a");
}

/// Keys of the query's document up to its own position.
constexpr const char* kDocuments = R"(
graph @documents(%q: bf16[B,8,S,128], %k: bf16[B,8,S,128], %v: bf16[B,8,S,128], %doc: i32[S]) -> bf16[B,8,S,128] {
  %s    = matmul_nt %q, %k        : f32[B,8,S,S]
  %a    = mul %s, 0.125           : f32[B,8,S,S]
  %i    = index axis=2            : i64[1,1,S,1]
  %j    = index axis=3            : i64[1,1,1,S]
  %di   = load %doc[%i]           : i32[1,1,S,1]
  %dj   = load %doc[%j]           : i32[1,1,1,S]
  %same = eq %di, %dj             : bool[1,1,S,S]
  %past = le %j, %i               : bool[1,1,S,S]
  %keep = logical_and %same, %past : bool[1,1,S,S]
  %e    = select %keep, %a, -inf  : f32[B,8,S,S]
  %p    = softmax %e, axis=3      : f32[B,8,S,S]
  %c    = cast %p                 : bf16[B,8,S,S]
  %o    = matmul %c, %v           : bf16[B,8,S,128]
  return %o
})";

/// Rows of Q and K that a phase of their own computes: normalised and turned in f32, rounded before the product.
Graph computed_rows_graph(DType dtype, int64_t head_dim) {
  GraphBuilder g("rows");
  const Dim batch = Dim::named("B"), length = Dim::named("S");
  const ValueId cos = g.param("cos", {DType::f32, {length, head_dim / 2}});
  const ValueId sin = g.param("sin", {DType::f32, {length, head_dim / 2}});
  const auto rows = [&](const std::string& name) {
    const ValueId stored = g.param(name, {dtype, {batch, 8, length, head_dim}});
    const ValueId weight = g.param("w" + name, {DType::f32, {head_dim}});
    return g.cast(rope(g, rms_norm(g, g.cast(stored, DType::f32), weight), cos, sin, RopeLayout::rotate_half), dtype);
  };
  AttentionForm form;
  form.scale = 0.125;
  form.causal = true;
  const ValueId q = rows("q"), k = rows("k"), v = g.param("v", {dtype, {batch, 8, length, head_dim}});
  g.result(g.named(attention(g, q, k, v, form).output, "o"));
  return g.take();
}

Result<AttentionSpec> spec_of(const Graph& graph) {
  auto canonical = canonicalize(graph);
  if (!canonical) return canonical.error();
  auto program = fuse(*canonical);
  if (!program) return program.error();
  for (const Step& step : program->steps)
    if (const auto* attention = std::get_if<AttentionStep>(&step.what)) return attention->spec;
  return invalid("the gate's graph does not fuse");
}

/// A product with an epilogue, a folded row and a pointwise chain.
constexpr const char* kLoops = R"(
graph @loops(%x: {0}[N,K], %w: {0}[M,K], %b: {0}[M]) -> ({0}[N,M], {0}[N,1]) {{
  %y = matmul_nt %x, %w : {0}[N,M]
  %a = add %y, %b       : {0}[N,M]
  %g = tanh %a          : {0}[N,M]
  %s = reduce_sum %g, axis=1 : {0}[N,1]
  return %g, %s
}})";

int64_t steps_of_16(int64_t columns) { return (columns + 15) / 16; }

/// 16-byte copies of a thread for a tile of rows: a power of two of threads, up to 8, shares a row.
int64_t copies_of_tile(int64_t rows, int64_t columns, int64_t threads) {
  const int64_t chunks = 2 * steps_of_16(columns), sharers = std::gcd(chunks, int64_t{8}), step = threads / sharers;
  return (rows + step - 1) / step * (chunks / sharers);
}

/// Matrix products and what feeds them, of one unrolled loop body, by the geometry of the tiles: a body has all of both
/// products, and there are at most two. Empty when the counts are as expected.
std::string complain_of_count(const GpuCompileCase& compiled, const CudaCompileReport& report) {
  const CudaSchedule& schedule = report.schedule;
  const auto found = [&](std::string_view opcode) {
    int64_t count = 0;
    for (const CudaPhaseReport& phase : report.phases) count += phase.facts.count(opcode);
    return count;
  };
  const int64_t query_steps = steps_of_16(compiled.head_dim), value_steps = steps_of_16(compiled.value_dim),
                key_steps = schedule.block_kv / 16;
  std::string_view opcode;
  int64_t body = 0, bands = 1;
  if (compiled.head_dim > 0 && schedule.kernel == CudaTemplate::sm90_prefill) {
    opcode = "HGMMA";  // 64 rows by all columns, 16 deep
    body = query_steps + key_steps;
  } else if (compiled.head_dim > 0 && schedule.products == 1 &&
             (schedule.kernel == CudaTemplate::sm80_prefill || schedule.kernel == CudaTemplate::decode)) {
    opcode = "HMMA";  // 16 rows by 8 columns, 16 deep
    if (schedule.kernel == CudaTemplate::sm80_prefill) bands = schedule.block_q / (16 * schedule.warps);
    body = bands * 2 * (query_steps + value_steps) * key_steps;
  }
  if (body == 0) return {};
  const int64_t products = found(opcode);
  if (products != body && products != 2 * body)
    return fmt::format("{} {} are neither one nor two bodies of {}", products, opcode, body);
  if (opcode != "HMMA") return {};
  // 16 keys of 16 columns each; Q once, or in every body where its registers are too many.
  const int64_t bodies = products / body, tiles = bodies * (query_steps + value_steps) * key_steps,
                queries = bands * query_steps, loads = found("LDSM");
  if (loads != tiles + queries && loads != tiles + bodies * queries)
    return fmt::format("{} LDSM are not {} for K and V and {} for Q, in {} bodies", loads, tiles, queries, bodies);
  // Each tile is copied in one place of the text or in two, Q in one. (Operands that are split are stored, not copied:
  // that 16-bit ones are copied at all is report_compile's to say.)
  const bool decodes = schedule.kernel == CudaTemplate::decode;
  const int64_t threads = decodes ? 32 : 32 * schedule.warps, copies = found("LDGSTS"),
                q = decodes ? 0 : copies_of_tile(schedule.block_q, compiled.head_dim, threads),
                kv = copies_of_tile(schedule.block_kv, compiled.head_dim, threads) +
                     copies_of_tile(schedule.block_kv, compiled.value_dim, threads);
  if (copies != 0 && copies != q + kv && copies != q + 2 * kv)
    return fmt::format("{} LDGSTS are neither one nor two times {} for K and V and {} for Q", copies, kv, q);
  return {};
}

}  // namespace

GpuCompileOptions whole_compile_gate() {
  GpuCompileOptions options;
  for (const int64_t head_dim : {8, 16, 32, 64, 80, 96, 128, 160, 192, 256})
    options.head_dims.emplace_back(head_dim, head_dim);
  options.head_dims.emplace_back(192, 128);
  options.targets.assign(cuda_targets().begin(), cuda_targets().end());
  options.graphs = gate_graphs();
  return options;
}

std::vector<Graph> gate_graphs() {
  std::vector<Graph> graphs;
  const auto add = [&](Result<Graph> graph, const std::string& name) {
    TW_CHECK(graph && "the gate's graph is right");
    graph->name = name;
    graphs.push_back(std::move(*graph));
  };
  for (const auto& [dtype, head_dim] :
       {std::pair<DType, int64_t>{DType::bf16, 128}, {DType::f32, 64}, {DType::f64, 64}}) {
    const std::string type(to_string(dtype));
    const auto forward = parse_graph(graph_text(dtype, head_dim, head_dim, true));
    TW_CHECK(forward && "the gate's graph is right");
    auto made = gradient(*forward, {{}, true});
    TW_CHECK(made && "the gate's graph has a gradient");
    add(std::move(made->backward), fmt::format("backward_{}_{}", type, head_dim));
    add(parse_graph(fmt::format(fmt::runtime(kLoops), type)), fmt::format("loops_{}", type));
  }
  return graphs;
}

Result<std::vector<GpuCompileCase>> gpu_compile_cases(const GpuCompileOptions& options) {
  std::vector<GpuCompileCase> cases;
  std::set<std::string> known;  // text and architecture
  const auto add = [&](const TileProgram& program, const CudaTarget& target, const std::string& name,
                       bool force_generic) -> Result<Done> {
    for (const CudaPlan::Choice& choice : plan_cuda(program, target, {.force_generic = force_generic}).choices) {
      std::vector<CudaSchedule> schedules = {choice.schedule};
      if (options.every_schedule) schedules = legal_cuda_schedules(choice.schedule, &program, target);
      for (const CudaSchedule& schedule : schedules) {
        auto source = generate_cuda(program, schedule, target, "kernel");
        if (!source) return source.error();
        if (!known.insert(target.architecture() + nvrtc_text(*source)).second) continue;
        cases.push_back({options.every_schedule ? fmt::format("{} {}", name, print(schedule))
                                                : fmt::format("{} {}", to_string(schedule.kernel), name),
                         target, std::move(*source), program.spec.dots.front().head_dim, program.spec.value_dim});
      }
    }
    return Done{};
  };
  for (const DType dtype : options.dtypes)
    for (const auto& [dqk, dv] : options.head_dims)
      for (const PrecisionPolicy precision : {PrecisionPolicy::f32, PrecisionPolicy::f32_x3}) {
        if (precision != PrecisionPolicy::f32 && dtype != DType::f32) continue;
        auto graph = parse_graph(graph_text(dtype, dqk, dv, options.causal));
        if (!graph) return graph.error();
        graph->precision = precision;
        const auto spec = spec_of(*graph);
        if (!spec) return spec.error();
        const TileProgram program = build_tile_program(*spec);
        const std::string name =
            fmt::format("{} {}{}", to_string(dtype), dqk == dv ? std::to_string(dqk) : fmt::format("{}/{}", dqk, dv),
                        precision == PrecisionPolicy::f32 ? "" : fmt::format(" {}", to_string(precision)));
        for (const CudaTarget& target : options.targets)
          for (const bool generic : {false, true})
            if (auto ok = add(program, target, name, generic); !ok) return ok.error();
      }
  // One dtype and head dim each, on the architectures that spill first: the phase that computes rows is the same before
  // every template, and of masks those that read tables leave the fewest registers.
  const auto documents = parse_graph(kDocuments);
  if (!documents) return documents.error();
  for (const auto& [name, graph] :
       {std::pair{"bf16 64 computed rows", computed_rows_graph(DType::bf16, 64)}, {"bf16 128 documents", *documents}}) {
    const auto spec = spec_of(graph);
    if (!spec) return spec.error();
    for (const CudaTarget& target : options.targets)
      if (target.capability == 90 || target.capability == 100)
        if (auto ok = add(build_tile_program(*spec), target, name, false); !ok) return ok.error();
  }
  for (const Graph& graph : options.graphs)
    for (const CudaTarget& target : options.targets) {
      const auto program = compile_cuda_program(graph, target);
      if (!program) return program.error();
      for (size_t i = 0; i < (*program)->steps.size(); ++i) {
        const CudaStep& step = (*program)->steps[i];
        const auto* attention = std::get_if<AttentionStep>(&(*program)->compiled.program.steps[i].what);
        for (const CudaChoice& choice : step.choices)
          if (known.insert(target.architecture() + nvrtc_text(choice.source)).second)
            cases.push_back(
                {fmt::format("{} {} %{}", to_string(choice.source.launch.schedule.kernel), graph.name, step.name),
                 target, choice.source, attention ? attention->spec.dots.front().head_dim : 0,
                 attention ? attention->spec.value_dim : 0});
      }
    }
  return cases;
}

std::vector<GpuCompiled> compile_all(const std::vector<GpuCompileCase>& cases, const Nvrtc& compiler, int threads) {
  std::vector<GpuCompiled> out;
  for (const GpuCompileCase& one : cases) out.push_back({&one, invalid("not compiled")});
  std::atomic<size_t> next{0};
  const auto work = [&] {
    for (size_t i = next.fetch_add(1); i < cases.size(); i = next.fetch_add(1)) {
      const auto binary = compile_cuda_text(nvrtc_text(cases[i].source), cases[i].target, compiler);
      out[i].report = binary ? report_compile(*binary, cases[i].source.launch, cases[i].target) : binary.error();
      if (!out[i].report) continue;
      if (std::string why = complain_of_count(cases[i], *out[i].report); !why.empty())
        out[i].report->complaints.push_back(std::move(why));
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < std::min<int>(threads, static_cast<int>(cases.size())); ++i) helpers.emplace_back(work);
  work();
  for (std::thread& helper : helpers) helper.join();
  return out;
}

std::string compile_table(const std::vector<GpuCompiled>& compiled) {
  std::string text = fmt::format("{:<36}{:<9}{:>7}{:>6}{:>9}{:>7}{:>6}{:>7}  {}\n", "kernel", "arch", "ms", "regs",
                                 "shared", "spills", "local", "blocks", "instructions");
  for (const GpuCompiled& one : compiled) {
    const std::string architecture = one.compiled->target.architecture();
    if (!one.report) {
      text += fmt::format("{:<36}{:<9}  failed: {}\n", one.compiled->name, architecture, to_string(one.report.error()));
      continue;
    }
    for (const CudaPhaseReport& phase : one.report->phases)
      text += fmt::format("{:<36}{:<9}{:>7.0f}{:>6}{:>9}{:>7}{:>6}{:>7}  {}: {}\n", one.compiled->name, architecture,
                          one.report->milliseconds, phase.facts.registers,
                          phase.facts.static_shared + phase.dynamic_shared, phase.spill_bytes, phase.facts.local_bytes,
                          phase.occupancy.blocks, phase.facts.instructions, print_census(phase.facts));
    for (const std::string& complaint : one.report->complaints) text += fmt::format("    wrong: {}\n", complaint);
  }
  return text;
}

}  // namespace tilewright::bench
