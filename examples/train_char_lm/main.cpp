// Trains a character model on the licences that every Debian ships, with attention compiled forward and backward,
// beside the same run with materialised attention; measures both at growing lengths; then generates text with a KV
// cache.
//
//   train_char_lm [--steps N] [--text PATH] [--svg FILE]
#include <fmt/core.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>

#include "examples/train_char_lm/corpus.h"
#include "examples/train_char_lm/curve.h"
#include "examples/train_char_lm/trainer.h"

namespace char_lm {
namespace {
using namespace tilewright;

constexpr int64_t kBatch = 4, kLength = 256;

struct Arguments {
  int64_t steps = 300;
  std::string text = "/usr/share/common-licenses", svg = "char_lm_loss.svg";
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

[[noreturn]] void fail(const std::string& why) {
  fmt::print(stderr, "train_char_lm: {}\n", why);
  std::exit(1);
}
template <class T>
T expect(Result<T> result) {
  if (!result) fail(to_string(result.error()));
  return std::move(*result);
}

Curve train(const Engine& engine, const Corpus& corpus, const ModelShape& shape, const Arguments& arguments,
            bool materialised, Trainer& trainer) {
  Curve curve{materialised ? "materialised" : "flash", materialised ? "#d62728" : "#1f77b4", {}};
  fmt::print("\n{}: {} weights, compiled in {:.1f} s, attention fused in {} places forward, {} backward\n", curve.label,
             trainer.parameter_count(), trainer.compile_ms() / 1e3, trainer.fused_forward(), trainer.fused_backward());
  AdamOptions adam;
  adam.steps = arguments.steps;
  std::mt19937_64 random(7);  // the same pieces of text in both runs
  std::vector<int32_t> tokens, targets;
  const auto start = std::chrono::steady_clock::now();
  double smooth = 0;
  const bool terminal = isatty(STDOUT_FILENO);
  for (int64_t step = 1; step <= arguments.steps; ++step) {
    corpus.sample(kBatch, kLength, random, tokens, targets);
    const double loss = expect(trainer.step(tokens, targets, kBatch, adam));
    curve.loss.push_back(loss);
    smooth = step == 1 ? loss : 0.9 * smooth + 0.1 * loss;
    const bool line = step % std::max<int64_t>(1, arguments.steps / 10) == 0;
    if (terminal || line) {
      const double spent = seconds_since(start);
      fmt::print("{}  step {:4} of {}  loss {:.3f}  {:.0f} ms a step, {:.0f} s left{}", terminal ? "\r" : "", step,
                 arguments.steps, smooth, spent / static_cast<double>(step) * 1e3,
                 spent / static_cast<double>(step) * static_cast<double>(arguments.steps - step),
                 terminal && !line ? "   " : "\n");
      std::fflush(stdout);
    }
  }
  (void)engine;
  (void)shape;
  return curve;
}

struct Measurement {
  double step_ms = 0, peak_mb = 0;
};

/// Time and peak memory of one training step at a length, in a process of its own so that its peak is nobody else's.
Measurement measure(const Corpus& corpus, ModelShape shape, int64_t length, bool materialised) {
  int channel[2];
  if (pipe(channel) != 0) fail("no pipe for a measurement");
  std::fflush(stdout);
  const pid_t child = fork();
  if (child < 0) fail("no process for a measurement");
  if (child == 0) {
    const Engine engine = expect(Engine::create());
    Trainer trainer = expect(Trainer::create(engine, shape, materialised, 1));
    std::mt19937_64 random(3);
    std::vector<int32_t> tokens, targets;
    corpus.sample(1, length, random, tokens, targets);
    std::vector<double> times;
    const int repeats = length <= 1024 ? 5 : 3;
    for (int i = 0; i < repeats; ++i) {
      const auto start = std::chrono::steady_clock::now();
      expect(trainer.step(tokens, targets, 1, {}));
      times.push_back(seconds_since(start) * 1e3);
    }
    std::sort(times.begin(), times.end());
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const Measurement result{times[times.size() / 2], static_cast<double>(usage.ru_maxrss) / 1024};
    const bool sent = write(channel[1], &result, sizeof result) == sizeof result;
    std::fflush(stdout);
    _exit(sent ? 0 : 1);
  }
  close(channel[1]);
  Measurement result;
  const bool received = read(channel[0], &result, sizeof result) == sizeof result;
  close(channel[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (!received || status != 0) fail(fmt::format("the measurement at S = {} did not finish", length));
  return result;
}

void print_measurements(const Corpus& corpus, const ModelShape& shape) {
  fmt::print("\none step at B = 1, time and the peak memory of its process\n{:>6}  {:>22}  {:>22}\n", "S", "flash",
             "materialised");
  for (int64_t length : {256, 1024, 4096}) {
    const Measurement flash = measure(corpus, shape, length, false), full = measure(corpus, shape, length, true);
    fmt::print("{:6}  {:9.0f} ms {:7.0f} MB  {:9.0f} ms {:7.0f} MB\n", length, flash.step_ms, flash.peak_mb,
               full.step_ms, full.peak_mb);
  }
}

/// Characters after a prompt: the prompt in one run, then one token at a time, keys and values kept in the caches.
void generate(const Engine& engine, const Corpus& corpus, const ModelShape& shape, const Trainer& trainer) {
  constexpr int64_t kCapacity = 640;
  NamedKernel kernel = expect(NamedKernel::compile(engine, generation_graph(shape), {}, "generate"));
  std::vector<Tensor<float>> caches;
  TensorsByName inputs = trainer.weight_views();
  for (int64_t i = 0; i < 2 * shape.layers; ++i)
    caches.emplace_back(std::vector<int64_t>{1, shape.kv_heads, kCapacity, shape.head_dim()});
  for (int64_t layer = 0; layer < shape.layers; ++layer) {
    inputs[fmt::format("l{}.keys", layer)] = caches[static_cast<size_t>(2 * layer)].view();
    inputs[fmt::format("l{}.values", layer)] = caches[static_cast<size_t>(2 * layer + 1)].view();
  }
  Tensor<float> next({shape.vocab});
  const TensorsByName outputs = {{"next", next.view()}};
  std::mt19937_64 random(11);

  const std::string prompt = "You may copy and distribute ";
  std::vector<int32_t> tokens = corpus.encode(prompt);
  int64_t past = 0;
  std::string text = prompt;
  const auto start = std::chrono::steady_clock::now();
  int generated = 0;
  while (past + static_cast<int64_t>(tokens.size()) < kCapacity && generated < 500) {
    inputs["tokens"] = TensorView::contiguous(tokens.data(), DType::i32, {1, static_cast<int64_t>(tokens.size())});
    inputs["past"] = TensorView::contiguous(&past, DType::i64, {});
    if (auto ok = kernel.run(inputs, outputs); !ok) fail(to_string(ok.error()));
    past += static_cast<int64_t>(tokens.size());
    constexpr double kTemperature = 0.7;
    const float top = *std::max_element(next.values.begin(), next.values.end());
    std::vector<double> chances;
    for (float logit : next.values) chances.push_back(std::exp((logit - top) / kTemperature));
    std::discrete_distribution<int32_t> draw(chances.begin(), chances.end());
    tokens = {draw(random)};
    text += corpus.decode(tokens[0]);
    ++generated;
  }
  fmt::print("\n{} characters generated with the KV cache, {:.2f} ms each:\n\n{}\n", generated,
             seconds_since(start) / generated * 1e3, text);
}

int run(const Arguments& arguments) {
  const Corpus corpus = Corpus::read(arguments.text);
  if (corpus.size() < 8192)
    fail(fmt::format("{}: {} characters to read, at least 8192 are needed", arguments.text, corpus.size()));
  ModelShape shape;
  shape.vocab = corpus.vocab();
  fmt::print("{}: {} characters, {} distinct; {} layers, E {}, {} heads on {} kv heads, B {}, S {}\n", arguments.text,
             corpus.size(), corpus.vocab(), shape.layers, shape.embed, shape.heads, shape.kv_heads, kBatch, kLength);

  print_measurements(corpus, shape);
  const Engine engine = expect(Engine::create());
  Trainer flash = expect(Trainer::create(engine, shape, false, 1));
  const Curve fast = train(engine, corpus, shape, arguments, false, flash);
  Trainer full = expect(Trainer::create(engine, shape, true, 1));
  const Curve slow = train(engine, corpus, shape, arguments, true, full);

  // Rounding differs, and training amplifies it: the curves agree closely at first and in their course at the end.
  double early = 0, late = 0;
  for (size_t i = 0; i < fast.loss.size(); ++i) {
    const double difference = std::fabs(fast.loss[i] - slow.loss[i]);
    (i < 20 ? early : late) = std::max(i < 20 ? early : late, difference);
  }
  constexpr double kEarlyBound = 1e-3, kLateBound = 0.1;
  const bool same = early <= kEarlyBound && late <= kLateBound;
  fmt::print(
      "\nlargest difference of the losses: {:.1e} in the first 20 steps (bound {:.0e}), {:.3f} after them (bound {})\n",
      early, kEarlyBound, late, kLateBound);
  if (!write_svg(arguments.svg, "Training loss, nats per character", {slow, fast}))
    fail(fmt::format("{} cannot be written", arguments.svg));
  fmt::print("loss curve: {}\n", arguments.svg);
  generate(engine, corpus, shape, flash);
  if (!same) fail("the two runs differ by more than their bound");
  return 0;
}

}  // namespace
}  // namespace char_lm

int main(int argc, char** argv) {
  char_lm::Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    const char* value = i + 1 < argc ? argv[++i] : nullptr;
    if (name == "--steps" && value && std::atoll(value) > 0)
      arguments.steps = std::atoll(value);
    else if (name == "--text" && value)
      arguments.text = value;
    else if (name == "--svg" && value)
      arguments.svg = value;
    else {
      fmt::print(stderr, "usage: train_char_lm [--steps N] [--text FILE or FOLDER] [--svg FILE]\n");
      return 2;
    }
  }
  return char_lm::run(arguments);
}
