// The tuner on a GPU, whose clock is planted: who is fastest wins, who is wrong never does (R20 of the field's bug
// list), and what was found is used by the next process.
#include <gtest/gtest.h>

#include <set>

#include "runtime/cuda/cuda_kernel.h"
#include "runtime/tune_data.h"
#include "tests/cuda/clocked_device.h"
#include "tests/cuda/cuda_support.h"
#include "tests/support/temporary_folder.h"

namespace tilewright::testing {
namespace {

using Fate = TunedOutcome::Fate;

SearchOptions quick(int candidates = 5, bool twins = false) {
  SearchOptions options;
  options.budget_seconds = 120;  // an end, not a length: the planted clock costs no time
  options.candidates = candidates;
  options.twins = twins;
  return options;
}

CudaTuneResult tune(const ClockedDevice& device, const SearchOptions& options, TuningStore* store = nullptr,
                    const DimBindings& dims = kClockedDims) {
  const std::shared_ptr<const CudaDevice> unowned(std::shared_ptr<void>(), &device);
  auto result = tune_cuda(clocked_graph(), unowned, dims, options, store);
  TW_CHECK(result.ok());
  return std::move(*result);
}

std::string sentence(const Result<CudaTuneResult>& result) { return result ? "" : to_string(result.error()); }

TEST(CudaTuner, ThePlantedFastestWinsForPrefillAndDecodeApart) {
  const auto device = clocked_device();
  device->seconds = [](const CudaSchedule& s) {
    if (s.kernel == CudaTemplate::sm90_prefill) return s.block_kv == 112 ? 0.8e-3 : 1e-3 + 1e-6 * double(s.block_kv);
    return s.warps == 2 ? 0.5e-3 : 1e-3;
  };
  std::vector<std::string> stages;
  SearchOptions options = quick(8, true);
  options.progress = [&](const TuneProgress& progress) {
    if (stages.empty() || stages.back() != progress.step + " " + progress.stage)
      stages.push_back(progress.step + " " + progress.stage);
    EXPECT_GE(progress.candidates, progress.left);
  };
  const CudaTuneResult result = tune(*device, options);
  ASSERT_EQ(result.steps.size(), 2u);
  const CudaTunedStep &prefill = result.steps[0], &decode = result.steps[1];
  EXPECT_EQ(prefill.best().schedule.kernel, CudaTemplate::sm90_prefill);
  EXPECT_EQ(prefill.best().schedule.block_kv, 112);
  EXPECT_EQ(prefill.best().fate, Fate::chosen);
  EXPECT_NEAR(prefill.speedup(), prefill.rules().seconds() / 0.8e-3, 1e-6);
  EXPECT_GT(prefill.flops, 0);
  EXPECT_NE(prefill.shape_class.find("sm90_prefill sm_90a | q bf16"), std::string::npos) << prefill.shape_class;
  EXPECT_NE(prefill.shape_class.find("q_len <=512"), std::string::npos) << prefill.shape_class;
  EXPECT_EQ(decode.best().schedule.kernel, CudaTemplate::decode);
  EXPECT_EQ(decode.best().schedule.warps, 2);
  EXPECT_EQ(decode.dims.at("Sq"), 1);
  EXPECT_NE(decode.shape_class.find("kv_len <=512"), std::string::npos) << decode.shape_class;
  for (const CudaTunedStep& step : result.steps) {
    EXPECT_EQ(step.candidates.size(), 8u);
    EXPECT_GE(step.legal, 8);
    EXPECT_FALSE(step.out_of_time);
    int chosen = 0;
    for (const CudaTunedCandidate& each : step.candidates) {
      EXPECT_FALSE(each.warm.empty()) << print(each.schedule) << " " << each.why;
      chosen += each.fate == Fate::chosen;
    }
    EXPECT_EQ(chosen, 1);
  }
  EXPECT_EQ(result.device, "Fake GPU compute 9.0");
  EXPECT_EQ(stages.front(), prefill.name + " compile");
  EXPECT_NE(std::ranges::find(stages, prefill.name + " check"), stages.end());
  EXPECT_NE(std::ranges::find(stages, prefill.name + " round 1"), stages.end());
}

/// The product before the attention takes a second by the planted clock, and is no part of what is measured.
TEST(CudaTuner, TimesTheStepThatIsTunedAlone) {
  const auto graph = parse_graph(R"(
graph @block(%x: bf16[B,1,S,32], %w: bf16[32,64], %k: bf16[B,1,S,64], %v: bf16[B,1,S,64]) -> bf16[B,1,S,64] {
  %q = matmul %x, %w       : bf16[B,1,S,64]
  %s = matmul_nt %q, %k    : f32[B,1,S,S]
  %p = softmax %s, axis=3  : f32[B,1,S,S]
  %c = cast %p             : bf16[B,1,S,S]
  %o = matmul %c, %v       : bf16[B,1,S,64]
  return %o
})");
  ASSERT_TRUE(graph) << to_string(graph.error());
  const auto device = clocked_device();
  device->seconds = [](const CudaSchedule& s) {
    if (s.kernel == CudaTemplate::loop) return 1.0;
    return s.block_kv == 112 ? 0.5e-3 : 1e-3;
  };
  const auto result = tune_cuda(*graph, device, {{"B", 1}, {"S", 80}}, quick(8), nullptr);
  ASSERT_TRUE(result) << to_string(result.error());
  ASSERT_EQ(result->steps.size(), 1u);
  const CudaTunedStep& step = result->steps[0];
  EXPECT_EQ(step.best().schedule.block_kv, 112) << print(step.best().schedule);
  EXPECT_NEAR(step.rules().seconds(), 1e-3, 1e-9);
}

TEST(CudaTuner, TiesStayWithTheRules) {
  const auto device = clocked_device();
  std::string rules;
  device->seconds = [&](const CudaSchedule& s) {
    if (rules.empty()) rules = print(s);  // who is judged first
    return print(s) == rules ? 1e-3 : 0.995e-3;
  };
  const CudaTunedStep step = tune(*device, quick()).steps.at(0);
  EXPECT_EQ(step.chosen, 0u);
  EXPECT_EQ(step.rules().fate, Fate::chosen);
  int tied = 0;
  for (const CudaTunedCandidate& each : step.candidates) tied += each.fate == Fate::tied;
  EXPECT_EQ(tied, 4);
}

/// What goes wrong in a launch: the output of the two heads, and V.
struct FaultyLaunch {
  uint16_t *output, *value;
  int times;
  const ClockedDevice::Run& run;
  static constexpr int64_t kHead = 70 * 64;
};
using Fault = std::function<Result<Done>(const FaultyLaunch&)>;

/// Everybody but the rules has the fault, and is planted faster than they.
void expect_caught(const Fault& fault, const std::string& says, const char* architecture = "sm_90a") {
  const auto device = clocked_device(architecture);
  std::string rules;
  device->seconds = [&](const CudaSchedule& s) { return print(s) == rules ? 1e-3 : 1e-6; };
  device->launch = [&](const CudaSchedule& s, const CudaKernelCall& call, int times, const ClockedDevice::Run& run) {
    if (rules.empty()) rules = print(s);
    if (print(s) == rules) return run();
    return fault({reinterpret_cast<uint16_t*>(call.args[3]), reinterpret_cast<uint16_t*>(call.args[2]), times, run});
  };
  const CudaTunedStep step = tune(*device, quick(4)).steps.at(0);
  EXPECT_EQ(step.chosen, 0u);
  for (size_t i = 1; i < step.candidates.size(); ++i) {
    const CudaTunedCandidate& each = step.candidates[i];
    EXPECT_EQ(each.fate, Fate::wrong) << print(each.schedule);
    EXPECT_NE(each.why.find(says), std::string::npos) << each.why;
    if (says.find("after") == std::string::npos) {
      EXPECT_TRUE(each.warm.empty()) << "timed although wrong";
    }
  }
}

TEST(CudaTunerFaults, OneWrongElementIsCaught) {
  for (const int64_t element : {int64_t{0}, int64_t{1234}, 2 * FaultyLaunch::kHead - 1})
    expect_caught(
        [&](const FaultyLaunch& f) {
          auto done = f.run();
          f.output[element] ^= 0x4000;
          return done;
        },
        "%o");
}

TEST(CudaTunerFaults, OutputsThatNobodyWroteAreCaught) {
  // Whatever an earlier candidate left there would have been right.
  for (const char* architecture : {"sm_80", "sm_90a"})
    expect_caught([](const FaultyLaunch&) -> Result<Done> { return Done{}; }, "nan", architecture);
}

TEST(CudaTunerFaults, HalfOfTheOutputsLeftOutIsCaught) {
  expect_caught(
      [](const FaultyLaunch& f) {
        std::vector<uint16_t> before(f.output, f.output + FaultyLaunch::kHead);
        auto done = f.run();
        std::memcpy(f.output, before.data(), before.size() * 2);
        return done;
      },
      "nan");
}

TEST(CudaTunerFaults, AnothersResultIsCaught) {
  expect_caught(
      [](const FaultyLaunch& f) {
        auto done = f.run();
        std::swap_ranges(f.output, f.output + FaultyLaunch::kHead, f.output + FaultyLaunch::kHead);
        return done;
      },
      "%o");
}

TEST(CudaTunerFaults, WritingIntoAnOperandIsCaughtAndMended) {
  expect_caught(
      [](const FaultyLaunch& f) {
        auto done = f.run();
        f.value[5] = 0x4480;
        return done;
      },
      "it wrote into its operand %v");
}

TEST(CudaTunerFaults, RightWhenCheckedAndWrongWhenTimedIsCaught) {
  expect_caught([](const FaultyLaunch& f) -> Result<Done> { return f.times == 1 ? f.run() : Done{}; },
                "after it was timed");
}

TEST(CudaTunerFaults, WhoFailsToRunIsNotChosen) {
  const auto device = clocked_device();
  std::string rules;
  device->launch = [&](const CudaSchedule& s, const CudaKernelCall&, int,
                       const ClockedDevice::Run& run) -> Result<Done> {
    if (rules.empty()) rules = print(s);
    if (print(s) == rules) return run();
    return invalid("planted");
  };
  const CudaTunedStep step = tune(*device, quick(3)).steps.at(0);
  EXPECT_EQ(step.chosen, 0u);
  for (size_t i = 1; i < step.candidates.size(); ++i) {
    EXPECT_EQ(step.candidates[i].fate, Fate::wrong);
    EXPECT_NE(step.candidates[i].why.find("planted"), std::string::npos);
  }
}

TEST(CudaTunerFaults, AWrongKernelOfTheRulesEndsTheSearch) {
  const auto device = clocked_device();
  device->launch = [](const CudaSchedule&, const CudaKernelCall&, int, const ClockedDevice::Run&) -> Result<Done> {
    return Done{};
  };
  const auto result = tune_cuda(clocked_graph(), device, kClockedDims, quick(), nullptr);
  expect_parts(sentence(result), {"the kernel of the rules is wrong, so nothing is tuned"});
}

TEST(CudaTuner, WhatCannotBeTunedGetsASentence) {
  const auto said = [](const Graph& graph, const std::shared_ptr<const CudaDevice>& device, const DimBindings& dims,
                       const SearchOptions& options) {
    const std::string text = sentence(tune_cuda(graph, device, dims, options, nullptr));
    EXPECT_EQ(text.find('\n'), std::string::npos) << text;
    return text;
  };
  const auto device = clocked_device();
  const auto emulator = std::make_shared<EmulatorDevice>(device->target());
  expect_parts(said(clocked_graph(), emulator, kClockedDims, quick()), {"the emulator has no clock"});
  SearchOptions options = quick();
  options.budget_seconds = 0;
  expect_parts(said(clocked_graph(), device, kClockedDims, options), {"the budget is 0 seconds"});
  expect_parts(said(clocked_graph(), device, kClockedDims, quick(1)), {"1 candidates are asked for"});
  expect_parts(said(clocked_graph(), device, {{"B", 1}}, quick()), {"dim S", "has no size"});
  expect_parts(said(clocked_graph(), device, {{"B", 1}, {"Sq", 0}, {"Sk", 9}}, quick()), {"computes nothing at"});
  const auto loop = parse_graph("graph @l(%x: f32[M]) -> f32[M] {\n  %y = exp %x : f32[M]\n  return %y\n}");
  ASSERT_TRUE(loop);
  expect_parts(said(*loop, device, {{"M", 8}}, quick()), {"graph @l has nothing to tune"});
  EXPECT_EQ(device->timed, 0);
}

TEST(CudaTuner, ABudgetThatEndsKeepsNothingThatWasNotMeasured) {
  const auto device = clocked_device();
  TemporaryFolder folder;
  TuningStore store(folder.path() + "/t.json", false);
  SearchOptions options = quick();
  options.budget_seconds = 1e-3;
  const CudaTuneResult result = tune(*device, options, &store);
  ASSERT_EQ(result.steps.size(), 1u);
  EXPECT_TRUE(result.steps[0].out_of_time);
  EXPECT_EQ(result.steps[0].chosen, 0u);
  EXPECT_EQ(result.database, "");
  EXPECT_EQ(read_file(folder.path() + "/t.json"), "");
}

/// A database with a tuned prefill and a tuned decode of a planted device.
class CudaTuningFile : public ::testing::Test {
 protected:
  void SetUp() override {
    device_->seconds = [](const CudaSchedule& s) {
      return s.kernel == CudaTemplate::sm90_prefill ? (s.block_kv == 112 ? 0.8e-3 : 1e-3)
                                                    : (s.warps == 2 ? 0.5e-3 : 1e-3);
    };
    TuningStore store(path(), false);
    const CudaTuneResult result = tune(*device_, quick(8, true), &store);
    EXPECT_EQ(result.database, path());
    EXPECT_EQ(result.not_saved, "");
  }
  std::string path() const { return folder_.path() + "/tuning.json"; }
  std::shared_ptr<const CudaProgram> compiled(const MeasuredWith& with, const CudaTarget& target) const {
    const TuningStore store(path(), false);  // as another process reads it
    CudaProgramOptions options;
    options.tuning = {&store, with};
    options.want_texts = true;
    auto program = compile_cuda_program(clocked_graph(), target, options);
    TW_CHECK(program.ok());
    return *program;
  }
  std::shared_ptr<const CudaProgram> compiled() const { return compiled(device_->measured_with(), device_->target()); }
  static std::string schedules(const CudaProgram& program) {
    std::string text;
    for (const CudaChoice& choice : program.steps[0].choices) {
      text += print(choice.source.launch.schedule) + " when " + choice.condition + "\n";
      for (const std::string& reason : choice.source.launch.schedule.reasons) text += "  " + reason + "\n";
    }
    return text;
  }

  TemporaryFolder folder_;
  std::shared_ptr<ClockedDevice> device_ = clocked_device();
};

TEST_F(CudaTuningFile, ASecondProcessStartsWithoutASearch) {
  const auto program = compiled();
  const std::string text = schedules(*program);
  EXPECT_NE(text.find("from the tuning database: tuned on Fake GPU compute 9.0: "), std::string::npos) << text;
  // Buckets that were not measured stay with the rules: decode twice, prefill twice, the fall-back.
  const auto& choices = program->steps[0].choices;
  ASSERT_EQ(choices.size(), 5u) << text;
  const auto schedule = [&](size_t i) { return choices[i].source.launch.schedule; };
  EXPECT_EQ(schedule(0).warps, 2);
  EXPECT_NE(schedule(1).warps, 2);
  EXPECT_EQ(schedule(2).block_kv, 112);
  EXPECT_EQ(schedule(2).kernel, CudaTemplate::sm90_prefill);
  EXPECT_NE(schedule(3).block_kv, 112);
  EXPECT_EQ(schedule(4).kernel, CudaTemplate::sm80_prefill);
  std::set<std::string> files;
  for (const StageText& stage : program->texts) EXPECT_TRUE(files.insert(stage.file).second) << stage.file;
  EXPECT_TRUE(files.contains("05_emit.sm90_prefill.2.cu"));

  // Lengths pick, and every choice computes what the oracle does.
  const Graph graph = clocked_graph();
  const auto kernel = CudaKernel::load(program, device_);
  ASSERT_TRUE(kernel) << to_string(kernel.error());
  const auto executor = make_thread_pool(2);
  for (const auto& [sq, sk, choice] : {std::tuple{1, 100, size_t{0}}, std::tuple{2, 600, size_t{1}},
                                       std::tuple{100, 70, size_t{2}}, std::tuple{520, 40, size_t{3}}}) {
    SCOPED_TRACE(fmt::format("{} queries, {} keys", sq, sk));
    const DimBindings dims = {{"B", 1}, {"Sq", sq}, {"Sk", sk}};
    auto data = TuneData::create({graph, dims, executor, {}, 64});
    ASSERT_TRUE(data) << to_string(data.error());
    ASSERT_TRUE(data->poison(*kernel->result_shapes(dims)));
    std::vector<CudaStepRun> taken;
    const auto done = run_from_host(*kernel, data->inputs(), data->outputs(), &taken);
    ASSERT_TRUE(done) << to_string(done.error());
    EXPECT_EQ(taken.at(0).choice, choice);
    EXPECT_EQ(data->verdict(), "");
  }
}

TEST_F(CudaTuningFile, WhatIsForeignIllegalOrHostileIsNotUsed) {
  const std::string good = read_file(path());
  const auto is_used = [&](const CudaProgram& program) {
    return schedules(program).find("tuning database") != std::string::npos;
  };
  EXPECT_TRUE(is_used(*compiled()));
  MeasuredWith with = device_->measured_with();
  with.device = "Fake GPU compute 8.0";
  EXPECT_FALSE(is_used(*compiled(with, device_->target())));
  with = device_->measured_with();
  with.compiler = "nvrtc 0 source other";
  EXPECT_FALSE(is_used(*compiled(with, device_->target())));
  EXPECT_FALSE(is_used(*compiled(device_->measured_with(), *parse_cuda_target("sm_100"))));

  const auto with_value = [&](const std::string& key, const std::string& value) {
    std::string text = good;
    for (size_t at = text.find("\"" + key + "\": "); at != std::string::npos;
         at = text.find("\"" + key + "\": ", at + 1)) {
      const size_t from = at + key.size() + 4, to = text.find_first_of(",\n", from);
      text.replace(from, to - from, value);
    }
    write_file(path(), text);
    return is_used(*compiled());
  };
  EXPECT_TRUE(with_value("stages", "3"));
  for (const auto& [key, value] : {std::pair<const char*, const char*>{"stages", "0"},
                                   {"stages", "-1"},
                                   {"stages", "9223372036854775807"},
                                   {"stages", "1e3"},
                                   {"warps", "5"},
                                   {"warps", "32"},
                                   {"block_q", "0"},
                                   {"block_q", "4611686018427387904"},
                                   {"block_kv", "17"},
                                   {"block_kv", "-16"},
                                   {"block_kv", "1024"},
                                   {"split_kv", "-256"},
                                   {"split_kv", "4611686018427387904"},
                                   {"products", "3"},
                                   {"pack_gqa", "7"},
                                   {"format", "\"another\""}})
    EXPECT_FALSE(with_value(key, value)) << key << " " << value;
  write_file(path(), good.substr(0, good.size() / 2));
  EXPECT_FALSE(is_used(*compiled()));
}

}  // namespace
}  // namespace tilewright::testing
