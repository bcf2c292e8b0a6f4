#include "layers/flash_attention.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "runtime/stopwatch.h"

namespace tilewright {
namespace {

std::string described(const char* name, const TensorView& view) {
  return fmt::format("{} is {}[{}]", name, to_string(view.dtype),
                     fmt::join(view.shape.begin(), view.shape.begin() + view.rank, ","));
}

Result<Done> check_operands(const TensorView& q, const TensorView& k, const TensorView& v, DType dtype) {
  for (const auto& [name, view] : {std::pair<const char*, const TensorView&>{"q", q}, {"k", k}, {"v", v}}) {
    if (view.dtype != dtype)
      return invalid("{}, but this attention computes in {}", described(name, view), to_string(dtype));
    if (view.rank != 4)
      return invalid("{}, of rank {}; it must be [batch, heads, sequence, width], of rank 4", described(name, view),
                     view.rank);
  }
  const std::string found = fmt::format("{}, {}, {}", described("q", q), described("k", k), described("v", v));
  const auto differ = [&](const char* what, int64_t a, int64_t b) {
    return invalid("{} {} and {} differ: {}", what, a, b, found);
  };
  if (q.shape[0] != k.shape[0]) return differ("the batches of q and k,", q.shape[0], k.shape[0]);
  if (k.shape[0] != v.shape[0]) return differ("the batches of k and v,", k.shape[0], v.shape[0]);
  if (k.shape[1] != v.shape[1]) return differ("the heads of k and v,", k.shape[1], v.shape[1]);
  if (k.shape[2] != v.shape[2]) return differ("the lengths of k and v,", k.shape[2], v.shape[2]);
  if (q.shape[3] != k.shape[3]) return differ("the widths of q and k,", q.shape[3], k.shape[3]);
  if (k.shape[1] < 1 || q.shape[1] % k.shape[1] != 0)
    return invalid("the {} heads of q are not a multiple of the {} of k: {}", q.shape[1], k.shape[1], found);
  return Done{};
}

/// [B,H,Sq,Sk] of the scores, for messages and checks.
std::array<int64_t, 4> score_sizes(const TensorView& q, const TensorView& k) {
  return {q.shape[0], q.shape[1], q.shape[2], k.shape[2]};
}

Result<Done> check_broadcasts(const char* name, const TensorView& view, const std::array<int64_t, 4>& scores,
                              DType dtype) {
  if (view.dtype != dtype) return invalid("{}; it must be {}", described(name, view), to_string(dtype));
  bool fits = view.rank <= 4;
  for (int back = 1; fits && back <= view.rank; ++back) {
    const int64_t size = view.shape[view.rank - back];
    fits = size == 1 || size == scores[static_cast<size_t>(4 - back)];
  }
  if (!fits)
    return invalid("{}, which does not broadcast to the scores [{}]", described(name, view), fmt::join(scores, ","));
  return Done{};
}

/// The type of a tensor that broadcasts to the scores: what is longer than 1 has the scores' own dim.
TensorType broadcast_type(const TensorView& view, const Shape& scores) {
  TensorType type{view.dtype, {}};
  for (int axis = 0; axis < view.rank; ++axis)
    type.shape.push_back(view.shape[axis] == 1 ? Dim(1) : scores[static_cast<size_t>(4 - view.rank + axis)]);
  return type;
}

constexpr const char* kMask = "mask";
constexpr const char* kBias = "bias";

}  // namespace

template <class T>
Result<FlashAttention<T>> FlashAttention<T>::create(const FlashAttentionOptions& options,
                                                    const std::optional<Engine>& engine) {
  if (!(options.dropout >= 0 && options.dropout <= 1)) return invalid("dropout is {}, outside [0, 1]", options.dropout);
  if (!(options.temperature > 0) || !std::isfinite(options.temperature))
    return invalid("the temperature is {}; it must be above 0 and finite", options.temperature);
  if (options.scale && !std::isfinite(*options.scale))
    return invalid("the scale is {}, which is not finite", *options.scale);
  for (const auto& [name, size] : {std::pair{"block_q", options.tiles.block_q}, {"block_kv", options.tiles.block_kv}})
    if (size < 0) return invalid("{} is {}; a tile has at least 1 row, 0 leaves it to the rules", name, size);
  if (engine) return FlashAttention(options, *engine);
  auto own = Engine::create();
  if (!own) return own.error();
  return FlashAttention(options, std::move(*own));
}

template <class T>
Result<NamedKernel> FlashAttention<T>::compile(const TensorsByName& inputs, bool flash, double dropout) const {
  const TensorView &q = inputs.at("q"), &k = inputs.at("k"), &v = inputs.at("v");
  const Dim batch = Dim::named("B"), queries = Dim::named("Sq"), keys = Dim::named("Sk");
  GraphBuilder g("attention");
  const ValueId gq = g.param("q", {dtype_of<T>, {batch, q.shape[1], queries, q.shape[3]}});
  const ValueId gk = g.param("k", {dtype_of<T>, {batch, k.shape[1], keys, k.shape[3]}});
  const ValueId gv = g.param("v", {dtype_of<T>, {batch, v.shape[1], keys, v.shape[3]}});
  const Shape scores = {batch, q.shape[1], queries, keys};
  AttentionForm form;
  form.scale = options_.scale.value_or(1 / std::sqrt(static_cast<double>(q.shape[3]))) / options_.temperature;
  form.causal = options_.causal;
  form.align = CausalAlign::bottom_right;
  if (const auto mask = inputs.find(kMask); mask != inputs.end())
    form.mask = g.param(kMask, broadcast_type(mask->second, scores));
  if (const auto bias = inputs.find(kBias); bias != inputs.end())
    form.bias = g.param(kBias, broadcast_type(bias->second, scores));
  form.dropout = dropout;
  if (dropout > 0) {
    form.seed = g.param("seed", {DType::i64, {}});
    form.draw = g.param("offset", {DType::i64, {}});
  }
  g.result(g.named(tilewright::attention(g, gq, gk, gv, form).output, "o"));
  CompileOptions options;
  options.materialise = !flash;
  options.tiles = options_.tiles;
  return NamedKernel::compile(engine_, g.take(), options, flash ? "flash" : "naive");
}

template <class T>
Result<Tensor<T>> FlashAttention<T>::run(const TensorView& q, const TensorView& k, const TensorView& v,
                                         const AttentionMasks& masks, bool flash) {
  if (auto ok = check_operands(q, k, v, dtype_of<T>); !ok) return ok.error();
  TensorsByName inputs = {{"q", q}, {"k", k}, {"v", v}};
  const auto scores = score_sizes(q, k);
  const auto take = [&](const char* name, const std::optional<TensorView>& view, DType dtype) -> Result<Done> {
    if (!view) return Done{};
    inputs[name] = *view;
    return check_broadcasts(name, *view, scores, dtype);
  };
  if (auto ok = take(kMask, masks.mask, DType::boolean); !ok) return ok.error();
  if (auto ok = take(kBias, masks.bias, dtype_of<T>); !ok) return ok.error();
  auto kernel = compile(inputs, flash, present_dropout());
  if (!kernel) return kernel.error();
  auto seed = static_cast<int64_t>(options_.seed);
  inputs["seed"] = TensorView::contiguous(&seed, DType::i64, {});
  inputs["offset"] = TensorView::contiguous(&calls_, DType::i64, {});
  Tensor<T> out({q.shape[0], q.shape[1], q.shape[2], v.shape[3]});
  if (auto done = kernel->run(inputs, {{"o", out.view()}}); !done) return done.error();
  diagnostics_ = kernel->diagnostics();
  ++calls_;
  return out;
}

template <class T>
Result<Tensor<T>> FlashAttention<T>::attention(const TensorView& q, const TensorView& k, const TensorView& v,
                                               const AttentionMasks& masks) {
  return run(q, k, v, masks, options_.flash);
}

template <class T>
Result<Tensor<T>> FlashAttention<T>::naive_attention(const TensorView& q, const TensorView& k, const TensorView& v,
                                                     const AttentionMasks& masks) {
  return run(q, k, v, masks, false);
}

template <class T>
Result<Tensor<T>> FlashAttention<T>::self_attention(const TensorView& x, const AttentionMasks& masks) {
  return attention(x, x, x, masks);
}

template <class T>
Result<Tensor<T>> FlashAttention<T>::cross_attention(const TensorView& x, const TensorView& context,
                                                     const AttentionMasks& masks) {
  return attention(x, context, context, masks);
}

template <class T>
Tensor<uint8_t> FlashAttention<T>::get_mask(int64_t queries, int64_t keys) const {
  Tensor<uint8_t> mask({std::max<int64_t>(queries, 0), std::max<int64_t>(keys, 0)});
  for (int64_t i = 0; i < queries; ++i)
    for (int64_t j = 0; j < keys; ++j) mask.values[static_cast<size_t>(i * keys + j)] = j <= i + keys - queries ? 1 : 0;
  return mask;
}

namespace {

template <class T>
Tensor<T> random_tensor(const std::vector<int64_t>& shape, uint64_t seed) {
  Tensor<T> tensor(shape);
  std::mt19937_64 random(seed);
  for (T& value : tensor.values) value = static_cast<T>(static_cast<double>(random() >> 11) * 0x1p-52 - 1);
  return tensor;
}

Result<Done> check_sizes(int64_t n, int64_t heads, int64_t head_dim) {
  for (const auto& [name, value] : {std::pair{"the length", n}, {"the head count", heads}, {"the head dim", head_dim}})
    if (value < 1) return invalid("{} is {}; it must be at least 1", name, value);
  return Done{};
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace

template <class T>
Result<AttentionBenchmark> FlashAttention<T>::benchmark(int64_t n, int64_t heads, int64_t head_dim) {
  auto memory = memory_estimate(n, heads, head_dim);
  if (!memory) return memory.error();
  constexpr int kRuns = 5;
  const std::vector<int64_t> shape = {1, heads, n, head_dim};
  const Tensor<T> q = random_tensor<T>(shape, 1), k = random_tensor<T>(shape, 2), v = random_tensor<T>(shape, 3);
  AttentionBenchmark out{.query_shape = shape, .key_shape = shape};
  Tensor<T> results[2];
  std::vector<double> times[2];
  for (int round = 0; round <= kRuns; ++round)  // the first one warms up; paths take turns
    for (const bool flash : {false, true}) {
      auto result = run(q.view(), k.view(), v.view(), {}, flash);
      if (!result) return result.error();
      if (round > 0) times[flash].push_back(diagnostics_->last_run_ms);
      results[flash] = std::move(*result);
    }
  out.naive_ms = median(times[false]);
  out.flash_ms = median(times[true]);
  out.speed_up = out.naive_ms / out.flash_ms;
  out.memory_reduction = memory->ratio;
  for (size_t i = 0; i < results[0].values.size(); ++i)
    out.max_error = std::max(out.max_error, std::abs(static_cast<double>(results[0].values[i] - results[1].values[i])));
  return out;
}

template <class T>
Result<AttentionMemory> FlashAttention<T>::memory_estimate(int64_t n, int64_t heads, int64_t head_dim) {
  if (auto ok = check_sizes(n, heads, head_dim); !ok) return ok.error();
  const TensorView any = TensorView::contiguous(nullptr, dtype_of<T>, {1, heads, n, head_dim});
  const TensorsByName inputs = {{"q", any}, {"k", any}, {"v", any}};
  AttentionMemory out;
  for (const bool flash : {false, true}) {
    const auto kernel = compile(inputs, flash, present_dropout());
    if (!kernel) return kernel.error();
    const auto memory =
        kernel->kernel().memory_estimate({{"B", 1}, {"Sq", n}, {"Sk", n}}, engine_.executor()->workers());
    if (!memory) return memory.error();
    (flash ? out.flash : out.naive) = memory->outputs + memory->workspace + memory->scratch;
  }
  out.ratio = static_cast<double>(out.naive) / static_cast<double>(out.flash);
  return out;
}

template class FlashAttention<float>;
template class FlashAttention<double>;

}  // namespace tilewright
