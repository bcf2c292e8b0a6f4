// Random graphs on the emulator against the oracle: attention in every spelling with whatever stays outside of it, on a
// random legal schedule of a template that takes it, and programs of loops alone.
#include <gtest/gtest.h>

#include <atomic>

#include "compiler/cuda_schedule_space.h"
#include "compiler/gradient.h"
#include "ir/accuracy.h"
#include "ir/text.h"
#include "tests/emulator/emulated_program.h"
#include "tests/support/conditioning.h"
#include "tests/support/random_graph.h"
#include "tests/support/random_program.h"
#include "tests/support/random_run.h"

namespace tilewright::testing {
namespace {

constexpr uint64_t kGraphs = 200, kGradients = 20, kPrograms = 12;

/// How many attentions each template ran, by its number.
using Tally = std::array<std::atomic<int>, 8>;

/// A random legal schedule of a fast template that takes the program, each of them the first to be asked in a third of
/// the seeds; else generic.
struct DrawnSchedule {
  explicit DrawnSchedule(uint64_t seed) : random(seed), first(seed) {}

  CudaSchedule operator()(const TileProgram& program, const CudaTarget& target) {
    constexpr CudaTemplate kFast[] = {CudaTemplate::sm80_prefill, CudaTemplate::sm90_prefill, CudaTemplate::decode};
    const TileProgram stored = with_stored_rows(program).program;
    for (size_t i = 0; i < std::size(kFast); ++i) {
      const auto rules = schedule_of(kFast[(first + i) % std::size(kFast)], program, target);
      if (!rules) continue;
      const std::vector<CudaSchedule> legal = legal_cuda_schedules(*rules, &stored, target);
      taken.push_back(rules->kernel);
      return legal[random() % legal.size()];
    }
    taken.push_back(CudaTemplate::generic);
    return generic_schedule(program, target);
  }

  std::mt19937_64 random;
  uint64_t first;
  std::vector<CudaTemplate> taken;  ///< per attention
};

/// Outputs and copies of the parameters that are written in place, on poisoned memory of random layouts, or of the one
/// that tensor maps want.
Result<Written> run_emulated(const EmulatedProgram& program, const Graph& graph, const DimBindings& dims,
                             std::span<const TestTensor> inputs, std::mt19937_64& random, bool contiguous = false) {
  const auto draw_layout = [&] { return contiguous ? Layout::contiguous : random_layout(random); };
  Written written;
  std::vector<TensorView> views = views_of(inputs);
  for (const auto& [position, value] : written_params(graph)) {
    const TestTensor& from = inputs[position];
    TestTensor& copy = written.params.emplace_back(from.view().dtype, from.shape(), draw_layout(), random);
    copy.poison();
    for (int64_t i = 0; i < from.size(); ++i) copy.set(i, from.get(i));
    views[position] = copy.view();
  }
  for (const ValueId result : graph.results) {
    const TensorType& type = graph.type(result);
    written.outputs.emplace_back(type.dtype, concrete_shape(type, dims), draw_layout(), random);
    written.outputs.back().poison();
  }
  EmulatorOptions options;
  options.seed = random() % 4;
  options.late_copies = random() % 2;
  options.late_tma = random() % 2;
  options.late_wgmma = random() % 2;
  if (std::string error = program.run(dims, views, views_of(written.outputs), options); !error.empty())
    return invalid("{}", error);
  for (const auto* tensors : {&written.outputs, &written.params})
    for (const TestTensor& tensor : *tensors)
      if (!tensor.gaps_intact()) return invalid("bytes around the elements of a written tensor changed");
  return written;
}

/// The same numbers, laid out as tensor maps want them.
void lay_out_densely(std::vector<TestTensor>& tensors, std::mt19937_64& random) {
  for (TestTensor& tensor : tensors) {
    TestTensor copy(tensor.view().dtype, tensor.shape(), Layout::contiguous, random);
    for (int64_t i = 0; i < tensor.size(); ++i) copy.set(i, tensor.get(i));
    tensor = std::move(copy);
  }
}

std::vector<std::string> check_attention(const RandomCase& drawn, Tally& tally) {
  std::mt19937_64 random(drawn.seed);
  std::vector<TestTensor> inputs = draw_inputs(drawn, random);
  DrawnSchedule choose(drawn.seed);
  const auto program = EmulatedProgram::create(drawn.graph, std::ref(choose), *parse_cuda_target("sm_90a"));
  if (!program) return {to_string(program.error())};
  const bool contiguous = std::ranges::count(choose.taken, CudaTemplate::sm90_prefill) > 0;
  if (contiguous) lay_out_densely(inputs, random);
  const auto written = run_emulated(*program, drawn.graph, drawn.dims, inputs, random, contiguous);
  if (!written) return {to_string(written.error())};
  std::vector<std::string> failures = check_written_params(drawn.graph, drawn.dims, inputs, written->params);
  const auto reports = verify_outputs(drawn.graph, drawn.dims, views_of(inputs), views_of(written->outputs));
  if (!reports) return {to_string(reports.error())};
  for (const AccuracyReport& report : *reports)
    if (!report.pass) failures.push_back(report.failure);
  for (const CudaTemplate kernel : choose.taken) ++tally[static_cast<size_t>(kernel)];
  return failures;
}

/// Every fourth graph whose products are f32 gives them to tensor cores in parts.
RandomCase draw_attention(uint64_t seed) {
  RandomCase drawn = random_attention(seed);
  if (seed % 4 == 1 && drawn.graph.precision == PrecisionPolicy::f32) drawn.graph.precision = PrecisionPolicy::f32_x3;
  return drawn;
}

TEST(RandomGraphsOnTheEmulator, MatchTheOracle) {
  Tally tally{};
  const SeedRange seeds = seed_range(kGraphs);
  check_seeds(
      seeds, [&](uint64_t seed) { return check_attention(draw_attention(seed), tally); },
      [](uint64_t seed) { return describe(draw_attention(seed)); });
  for (const auto& [kernel, least] : {std::pair{CudaTemplate::generic, 80},
                                      {CudaTemplate::sm80_prefill, 25},
                                      {CudaTemplate::sm90_prefill, 8},
                                      {CudaTemplate::decode, 15}}) {
    const int count = tally[static_cast<size_t>(kernel)];
    RecordProperty(std::string(to_string(kernel)), count);
    if (seeds.full) {
      EXPECT_GE(count, least) << to_string(kernel);
    }
  }
}

/// The first graph of the seed's own thousand that is cheap enough to interpret.
RandomCase draw_cheap(uint64_t seed) {
  constexpr int64_t kMostMultiplications = 100'000;
  for (uint64_t attempt = seed * 1000;; ++attempt) {
    RandomCase drawn = random_attention(attempt);
    if (multiplications(drawn) <= kMostMultiplications) return drawn;
  }
}

/// An attended NaN makes the graph's gradient NaN at hidden keys, too, where a fused kernel has 0 (semantics 4).
bool attends_nan(const RandomCase& drawn, std::span<const TestTensor> inputs) {
  for (size_t r = 0; r < drawn.graph.results.size(); ++r) {
    const auto out = interpret(drawn.graph, drawn.dims, views_of(inputs), r, std::nullopt, Precision::oracle);
    if (!out || std::any_of(out->values.begin(), out->values.end(), [](auto x) { return std::isnan(x); })) return true;
  }
  return false;
}

std::vector<std::string> check_backward(const RandomCase& drawn) {
  std::mt19937_64 random(drawn.seed);
  const auto made = gradient(drawn.graph, {differentiable_params(drawn.graph), true});
  if (!made) return {to_string(made.error())};
  const std::vector<TestTensor> given = draw_inputs(drawn, random);
  if (attends_nan(drawn, given)) return {};
  std::map<std::string, TestTensor> named;
  for (size_t i = 0; i < given.size(); ++i) named[drawn.graph[drawn.graph.params[i]].name] = given[i];
  std::vector<TestTensor> inputs;
  for (const ValueId id : made->backward.params) {
    const Node& node = made->backward[id];
    if (const auto found = named.find(node.name); found != named.end()) {
      inputs.push_back(found->second);
    } else {
      inputs.emplace_back(node.type.dtype, concrete_shape(node.type, drawn.dims), random_layout(random), random);
      fill(inputs.back(), {}, random);
    }
  }
  const auto program = EmulatedProgram::create(made->backward);
  if (!program) return {to_string(program.error())};
  const auto written = run_emulated(*program, made->backward, drawn.dims, inputs, random);
  if (!written) return {to_string(written.error())};
  const auto reports = verify_outputs(made->backward, drawn.dims, views_of(inputs), views_of(written->outputs));
  if (!reports) return {to_string(reports.error())};
  std::vector<std::string> failures;
  for (size_t r = 0; r < reports->size(); ++r) {
    const AccuracyReport& report = reports->at(r);
    if (report.pass) continue;
    const std::string wrong = judge_by_conditioning(made->backward, drawn.dims, inputs, r, written->outputs[r]);
    if (!wrong.empty()) failures.push_back(fmt::format("{}; %{}: {}", report.failure, report.result, wrong));
  }
  return failures;
}

TEST(RandomGradientsOnTheEmulator, MatchTheOracle) {
  check_seeds(
      seed_range(kGradients), [](uint64_t seed) { return check_backward(draw_cheap(seed)); },
      [](uint64_t seed) { return describe(draw_cheap(seed)); });
}

/// K and V that query heads share are loaded anew for each of them where they hide different keys.
TEST(GradientsOnTheEmulator, HeadsOfAGroupHideKeysOfTheirOwn) {
  const auto graph = parse_graph(R"(
    graph @hidden(%q: f32[B,2,S,16], %k: f32[B,1,S,16], %v: f32[B,1,S,16], %mask: bool[B,2,1,S]) -> f32[B,2,S,16] {
      %k2 = repeat_heads %k, times=2    : f32[B,2,S,16]
      %v2 = repeat_heads %v, times=2    : f32[B,2,S,16]
      %s  = matmul_nt %q, %k2           : f32[B,2,S,S]
      %a  = mul %s, 0.25                : f32[B,2,S,S]
      %e  = select %mask, %a, -inf      : f32[B,2,S,S]
      %p  = softmax %e, axis=3          : f32[B,2,S,S]
      %o  = matmul %p, %v2              : f32[B,2,S,16]
      return %o
    })");
  ASSERT_TRUE(graph) << to_string(graph.error());
  for (const uint64_t seed : {1, 2, 3}) {
    RandomCase drawn;
    drawn.seed = seed;
    drawn.graph = *graph;
    drawn.dims = {{"B", 2}, {"S", 20}};
    drawn.fills.resize(graph->params.size());
    for (const std::string& failure : check_backward(drawn)) ADD_FAILURE() << "seed " << seed << ": " << failure;
  }
}

/// What f64 cannot hold is infinite; the oracle has more range.
bool agree(long double expected, double actual) {
  if (std::isnan(expected)) return std::isnan(actual);
  const auto rounded = static_cast<double>(expected);
  return rounded == actual || std::abs(rounded - actual) <= 1e-9 * (1 + std::abs(rounded));
}

std::vector<std::string> check_program(uint64_t seed) {
  const Graph graph = random_program(seed);
  const DimBindings dims = {{"N", 2}, {"M", 3}};
  std::mt19937_64 random(seed);
  std::vector<TestTensor> inputs;
  for (const ValueId id : graph.params) {
    const TensorType& type = graph.type(id);
    inputs.emplace_back(type.dtype, concrete_shape(type, dims), random_layout(random), random);
    Fill how;
    if (type.dtype == DType::boolean) how = {Fill::Kind::coin, 0.5};
    fill(inputs.back(), how, random);
  }
  const auto program = EmulatedProgram::create(graph);
  if (!program) return {to_string(program.error())};
  const auto written = run_emulated(*program, graph, dims, inputs, random);
  if (!written) return {to_string(written.error())};
  for (size_t r = 0; r < graph.results.size(); ++r) {
    const auto expected = interpret(graph, dims, views_of(inputs), r, std::nullopt, Precision::oracle);
    if (!expected) return {to_string(expected.error())};
    for (size_t i = 0; i < expected->values.size(); ++i)
      if (const double got = written->outputs[r].get(static_cast<int64_t>(i)); !agree(expected->values[i], got))
        return {fmt::format("element {} of result {} is {}, expected {}", i, r, got,
                            static_cast<double>(expected->values[i]))};
  }
  return {};
}

TEST(RandomProgramsOnTheEmulator, MatchTheOracle) {
  check_seeds(seed_range(kPrograms), check_program, [](uint64_t seed) { return print(random_program(seed)); });
}

}  // namespace
}  // namespace tilewright::testing
