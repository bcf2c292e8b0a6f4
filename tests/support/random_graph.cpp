#include "tests/support/random_graph.h"

#include <cmath>
#include <limits>

#include "ir/result.h"
#include "ir/text.h"
#include "tests/support/random_parts.h"
#include "tests/support/random_rows.h"

namespace tilewright::testing {
namespace {

// Draws the sizes, builds Q, K, V by a random spelling each, then scores, masks, softmax, P·V and the output.
class Generator {
 public:
  explicit Generator(uint64_t seed) : parts_(seed) { result_.seed = seed; }

  RandomCase generate() {
    draw_sizes();
    if (choice() == 2) draw_cache();
    ValueId query = operand("q", heads_, q_len_, head_dim_, "layout q");
    ValueId key = operand("k", kv_heads_, kv_len_, head_dim_, "layout k");
    ValueId value = operand("v", kv_heads_, kv_len_, value_dim_, "layout v");
    std::mt19937_64 dice(result_.seed + 17);
    query = random_rows(parts_, "q", query, dice);
    key = random_rows(parts_, "k", key, dice);
    choose_group_spelling(query, key, value);
    ValueId scores = score(query, key);
    if (past_ != kNoValue && parts_.chance(0.7)) scores = parts_.b.mask_causal(scores, CausalAlign::top_left, past_);
    const ValueId masked = parts_.modify_and_mask(scores, frame_);
    const ValueId weights = normalise(masked);
    finish(weights, value);
    draw_precision();
    result_.graph = parts_.b.take();
    result_.dims = parts_.dims;
    result_.fills = parts_.fills;
    result_.spellings = parts_.spellings;
    return std::move(result_);
  }

 private:
  void draw_sizes() {
    auto& p = parts_;
    constexpr DType kTypes[] = {DType::f32, DType::f32, DType::f32, DType::f16, DType::bf16, DType::f64};
    dtype_ = kTypes[p.below(6)];
    accumulate_ = dtype_ == DType::f64 ? DType::f64 : DType::f32;
    p.spellings.insert("dtype: " + std::string(to_string(dtype_)));
    constexpr int64_t kDims[] = {1, 3, 8, 16, 24, 31, 32, 64, 80};
    head_dim_ = kDims[p.below(9)];
    value_dim_ = p.chance(0.3) ? kDims[p.below(9)] : head_dim_;
    kv_heads_ = 1 + p.below(3);
    group_ = p.chance(0.5) ? 1 : 2 + p.below(3);
    heads_ = kv_heads_ * group_;
    batch_ = p.named_or_constant("B", p.chance(0.04) ? 0 : 1 + p.below(2));
    const int64_t longest = p.chance(0.2) ? 150 : 40;
    const int64_t q = p.chance(0.03) ? 0 : p.chance(0.15) ? 1 : 1 + p.below(longest);
    q_len_ = p.named_or_constant("Sq", q, 0.6);  // a named Sq compiles two kernels
    const bool same = p.chance(0.3);
    kv_len_ = same ? q_len_ : p.named_or_constant("Sk", p.chance(0.03) ? 0 : 1 + p.below(longest + 30));
    frame_.accumulate = accumulate_;
  }

  /// Drawn from the seed itself, so that the other choices stay as they were.
  uint64_t choice() const { return result_.seed * 0x9E3779B97F4A7C15u >> 60; }

  /// Seldom one with wide bounds: they hide what is wrong in f32.
  void draw_precision() {
    constexpr PrecisionPolicy kDrawn[] = {PrecisionPolicy::f32, PrecisionPolicy::f32_fma, PrecisionPolicy::f32_x3,
                                          PrecisionPolicy::bf16};
    const uint64_t drawn = result_.seed * 0x9E3779B97F4A7C15u >> 56 & 15;
    if (drawn >= std::size(kDrawn)) return;
    parts_.b.precision(kDrawn[drawn]);
    parts_.spellings.insert("precision: " + std::string(to_string(kDrawn[drawn])));
  }

  /// K and V become caches: the new rows of this call are written behind those of the past.
  void draw_cache() {
    auto& p = parts_;
    p.spellings.insert("kv: cache in place");
    const int64_t capacity = p.size_of_dim(kv_len_);
    new_len_ = p.named_or_constant("Sn", p.below(capacity + 1), 0.5);
    const Shape shape = p.chance(0.5) ? Shape{} : Shape{batch_};
    past_ = p.param("past", {p.chance(0.5) ? DType::i64 : DType::i32, shape},
                    {Fill::Kind::integer_between, 1, -2, capacity + 2});
  }

  // K or V with its new rows, or the parameter itself.
  ValueId stored(const std::string& name, Shape shape, size_t length_axis) {
    if (past_ == kNoValue || name == "q") return parts_.param(name, {dtype_, std::move(shape)}, {});
    const ValueId cache = parts_.param(name, {dtype_, shape}, {}, true);
    shape[length_axis] = new_len_;
    const ValueId rows = parts_.param("new_" + name, {dtype_, std::move(shape)}, {});
    return parts_.b.update(cache, rows, past_, static_cast<int64_t>(length_axis));
  }

  // [B, H, S, D] read from a parameter laid out in one of the ways that models use.
  ValueId operand(const std::string& name, int64_t heads, const Dim& length, int64_t width, const std::string& what) {
    auto& b = parts_.b;
    switch (parts_.pick(what, {"bhsd", "bshd", "bs(hd)"})) {
      case 0: return stored(name, {batch_, heads, length, width}, 2);
      case 1: return b.transpose(stored(name, {batch_, length, heads, width}, 1), {0, 2, 1, 3});
      default: {
        const ValueId packed = stored(name, {batch_, length, heads * width}, 1);
        return b.transpose(b.reshape(packed, {batch_, length, heads, width}), {0, 2, 1, 3});
      }
    }
  }

  void choose_group_spelling(ValueId& query, ValueId& key, ValueId& value) {
    auto& b = parts_.b;
    frame_.prefix = {batch_, heads_};
    if (group_ > 1) {
      const auto by_broadcast = [&](ValueId x, int64_t width) {
        const ValueId apart = b.reshape(x, {batch_, kv_heads_, 1, kv_len_, width});
        const ValueId wide = b.broadcast(apart, {batch_, kv_heads_, group_, kv_len_, width});
        return b.reshape(wide, {batch_, heads_, kv_len_, width});
      };
      switch (parts_.pick("gqa", {"repeat", "broadcast", "reshape"})) {
        case 0:
          key = b.repeat_heads(key, group_);
          value = b.repeat_heads(value, group_);
          break;
        case 1:
          key = by_broadcast(key, head_dim_);
          value = by_broadcast(value, value_dim_);
          break;
        default:
          query = b.reshape(query, {batch_, kv_heads_, group_, q_len_, head_dim_});
          key = b.reshape(key, {batch_, kv_heads_, 1, kv_len_, head_dim_});
          value = b.reshape(value, {batch_, kv_heads_, 1, kv_len_, value_dim_});
          frame_.prefix = {batch_, kv_heads_, group_};
          split_heads_ = true;
      }
    } else {
      parts_.spellings.insert("gqa: none");
    }
    frame_.heads = heads_;
    frame_.batch = batch_;
    frame_.q_len = q_len_;
    frame_.kv_len = kv_len_;
    frame_.split_heads = split_heads_;
  }

  ValueId score(ValueId query, ValueId key) {
    auto& b = parts_.b;
    const double scale = 1.0 / std::sqrt(static_cast<double>(head_dim_));
    const int64_t rank = static_cast<int64_t>(frame_.prefix.size()) + 2;
    const auto times = [&](ValueId x, double factor) {
      return b.binary(Op::mul, x, b.constant(factor, b.graph().type(x).dtype));
    };
    if (dtype_ != accumulate_ && parts_.chance(0.4)) {
      parts_.spellings.insert("cast: q and k up");
      query = b.cast(query, DType::f32);
      key = b.cast(key, DType::f32);
    }
    const int where = parts_.pick("scale", {"on s", "on s as division", "on q", "on k", "on q as division"});
    if (where == 2) query = times(query, scale);
    if (where == 3) key = times(key, scale);
    if (where == 4) query = b.binary(Op::div, query, b.constant(1 / scale, b.graph().type(query).dtype));
    ValueId s;
    if (parts_.pick("product", {"matmul_nt", "matmul of a transpose"}) == 0) {
      s = b.matmul_nt(query, key);
    } else {
      std::vector<int64_t> perm;
      for (int64_t i = 0; i < rank; ++i) perm.push_back(i);
      std::swap(perm[static_cast<size_t>(rank - 1)], perm[static_cast<size_t>(rank - 2)]);
      s = b.matmul(query, b.transpose(key, perm));
    }
    if (where == 0) s = times(s, scale);
    if (where == 1) s = b.binary(Op::div, s, b.constant(1 / scale, accumulate_));
    return s;
  }

  ValueId normalise(ValueId s) {
    auto& b = parts_.b;
    const int64_t axis = static_cast<int64_t>(frame_.prefix.size()) + 1;
    ValueId sink = kNoValue;
    const bool plain_heads = !split_heads_;
    if (plain_heads && parts_.chance(0.15)) {
      sink = parts_.param("sink", {accumulate_, {heads_}}, {Fill::Kind::gaussian, 2});
      if (parts_.pick("sink", {"operand", "concat and slice"}) == 1) {
        const ValueId column = b.broadcast(b.reshape(sink, {1, heads_, 1, 1}), {batch_, heads_, q_len_, 1});
        const ValueId p = b.softmax(b.concat({s, column}, axis), axis);
        return b.slice(p, axis, 0, kv_len_);
      }
      if (parts_.chance(0.4)) add_logsumexp(s, axis, sink);
      return b.softmax(s, axis, sink);
    }
    if (parts_.chance(0.25)) add_logsumexp(s, axis, kNoValue);
    switch (parts_.pick("softmax", {"op", "decomposed", "decomposed without keepdims"})) {
      case 0: return b.softmax(s, axis);
      case 1: {
        const ValueId e = b.unary(Op::exp, b.binary(Op::sub, s, b.reduce(Op::reduce_max, s, axis)));
        return b.binary(Op::div, e, b.reduce(Op::reduce_sum, e, axis));
      }
      default: {
        Shape column = b.graph().type(s).shape;
        column.back() = 1;
        const auto folded = [&](Op op, ValueId x) { return b.reshape(b.reduce(op, x, axis, false), column); };
        const ValueId e = b.unary(Op::exp, b.binary(Op::sub, s, folded(Op::reduce_max, s)));
        return b.binary(Op::div, e, folded(Op::reduce_sum, e));
      }
    }
  }

  void add_logsumexp(ValueId s, int64_t axis, ValueId sink) {
    parts_.spellings.insert("output: logsumexp");
    lse_ = parts_.b.logsumexp(s, axis, parts_.chance(0.5), sink);
  }

  ValueId dropped(ValueId weights) {
    parts_.spellings.insert("weights: dropout");
    const auto scalar = [&](const std::string& name, int64_t low, int64_t high) {
      return parts_.param(name, {DType::i64, {}}, {Fill::Kind::integer_between, 1, low, high});
    };
    const ValueId seed = scalar("seed", -(int64_t{1} << 50), int64_t{1} << 50);
    // Kept weights grow by 1 / (1 - rate), rounding errors with them; the accuracy rule measures by V alone.
    return parts_.b.dropout(weights, seed, scalar("offset", 0, 1000), 0.05 * static_cast<double>(result_.seed % 12));
  }

  void finish(ValueId weights, ValueId value) {
    auto& b = parts_.b;
    if (choice() == 0) weights = dropped(weights);
    if (dtype_ != accumulate_) {
      if (parts_.pick("p", {"cast down", "value cast up"}) == 0)
        weights = b.cast(weights, dtype_);
      else
        value = b.cast(value, accumulate_);
    }
    if (choice() == 1) weights = dropped(weights);
    ValueId out = b.matmul(weights, value);
    if (dtype_ != accumulate_ && parts_.chance(0.8)) out = b.cast(out, dtype_);
    if (split_heads_) out = b.reshape(out, {batch_, heads_, q_len_, value_dim_});
    switch (parts_.pick("output layout", {"bhsd", "bshd", "bs(hd)"})) {
      case 0: break;
      case 1: out = b.transpose(out, {0, 2, 1, 3}); break;
      default: out = b.reshape(b.transpose(out, {0, 2, 1, 3}), {batch_, q_len_, heads_ * value_dim_});
    }
    b.result(out);
    if (lse_ != kNoValue) b.result(lse_);
  }

  RandomParts parts_;
  RandomCase result_;
  ScoreFrame frame_;
  DType dtype_ = DType::f32, accumulate_ = DType::f32;
  Dim batch_, q_len_, kv_len_, new_len_;
  int64_t kv_heads_ = 1, group_ = 1, heads_ = 1, head_dim_ = 1, value_dim_ = 1;
  bool split_heads_ = false;
  ValueId lse_ = kNoValue, past_ = kNoValue;  ///< past_: of a KV cache
};

}  // namespace

RandomCase random_attention(uint64_t seed) { return Generator(seed).generate(); }

std::string describe(const RandomCase& drawn) {
  std::string text = print(drawn.graph);
  for (const auto& [name, size] : drawn.dims) text += fmt::format("{} = {}  ", name, size);
  return text;
}

std::vector<std::string> differentiable_params(const Graph& graph) {
  std::vector<bool> updated(graph.nodes.size(), false);  // reaches an update
  for (size_t i = graph.nodes.size(); i-- > 0;)
    for (ValueId operand : graph.nodes[i].operands)
      if (operand != kNoValue && (updated[i] || graph.nodes[i].op == Op::update))
        updated[static_cast<size_t>(raw(operand))] = true;
  std::vector<std::string> names;
  for (ValueId id : graph.params)
    if (is_float(graph.type(id).dtype) && !updated[static_cast<size_t>(raw(id))]) names.push_back(graph[id].name);
  return names;
}

std::vector<std::pair<size_t, ValueId>> written_params(const Graph& graph) {
  std::vector<std::pair<size_t, ValueId>> written;
  for (size_t p = 0; p < graph.params.size(); ++p) {
    ValueId last = graph.params[p];
    for (size_t i = 0; i < graph.nodes.size(); ++i)
      if (graph.nodes[i].op == Op::update && graph.nodes[i].operands[0] == last)
        last = ValueId{static_cast<int32_t>(i)};
    if (graph[graph.params[p]].inout && last != graph.params[p]) written.emplace_back(p, last);
  }
  return written;
}

int64_t multiplications(const RandomCase& drawn) {
  int64_t sum = 0;
  for (const Node& node : drawn.graph.nodes) {
    if (info(node.op).group != OpGroup::contract) continue;
    int64_t count = *drawn.graph.type(node.operands[0]).shape.back().evaluate(drawn.dims);
    for (int64_t size : concrete_shape(node.type, drawn.dims)) count *= size;
    sum += count;
  }
  return sum;
}

std::vector<TestTensor> draw_inputs(const RandomCase& drawn, std::mt19937_64& random) {
  std::vector<TestTensor> inputs;
  for (size_t i = 0; i < drawn.graph.params.size(); ++i) {
    const TensorType& type = drawn.graph.type(drawn.graph.params[i]);
    const auto layout = static_cast<Layout>(random() % 4);
    inputs.emplace_back(type.dtype, concrete_shape(type, drawn.dims), layout, random);
    fill(inputs.back(), drawn.fills[i], random);
  }
  return inputs;
}

std::vector<int64_t> concrete_shape(const TensorType& type, const DimBindings& dims) {
  std::vector<int64_t> shape;
  for (const Dim& dim : type.shape) {
    const auto size = dim.evaluate(dims);
    TW_CHECK(size.has_value());
    shape.push_back(*size);
  }
  return shape;
}

void fill(TestTensor& tensor, const Fill& how, std::mt19937_64& random) {
  std::normal_distribution<double> gaussian;
  std::uniform_real_distribution<double> uniform;
  const int64_t n = tensor.size();
  for (int64_t i = 0; i < n; ++i) {
    switch (how.kind) {
      case Fill::Kind::gaussian: tensor.set(i, how.scale * gaussian(random)); break;
      case Fill::Kind::coin: tensor.set(i, uniform(random) < how.scale ? 1 : 0); break;
      case Fill::Kind::minus_inf_or_small:
        tensor.set(i, uniform(random) < 0.3 ? -std::numeric_limits<double>::infinity() : gaussian(random));
        break;
      case Fill::Kind::integer_between:
        tensor.set(i, static_cast<double>(std::uniform_int_distribution<int64_t>(how.low, how.high)(random)));
        break;
      case Fill::Kind::ascending: tensor.set(i, static_cast<double>(how.low + (how.high - how.low + 1) * i / n)); break;
    }
  }
}

}  // namespace tilewright::testing
