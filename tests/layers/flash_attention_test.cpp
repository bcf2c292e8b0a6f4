// FlashAttention against loops in double: masks and biases of every broadcast form, both paths, memory as allocated.
#include "layers/flash_attention.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <atomic>

#include "tests/layers/run_graph.h"

namespace {
std::atomic<int64_t> aligned_bytes = 0;
}

/// What kernels allocate for a run goes through here.
extern "C" void* aligned_alloc(size_t alignment, size_t size) {
  aligned_bytes += static_cast<int64_t>(size);
  return memalign(alignment, size);
}

namespace tilewright {
namespace {

using testing::test_engine;
using testing::test_values;

template <class T>
Tensor<T> tensor(const std::vector<int64_t>& shape, double phase) {
  Tensor<T> out(shape);
  out.values = test_values<T>(out.values.size(), phase);
  return out;
}

/// Position in a tensor that broadcasts right-aligned to [B,H,Sq,Sk].
template <class T>
T broadcast_at(const Tensor<T>& t, const std::array<int64_t, 4>& at) {
  int64_t position = 0;
  const size_t rank = t.shape.size();
  for (size_t axis = 0; axis < rank; ++axis)
    position = position * t.shape[axis] + (t.shape[axis] == 1 ? 0 : at[4 - rank + axis]);
  return t.values[static_cast<size_t>(position)];
}

struct Masks {
  std::optional<Tensor<uint8_t>> mask;
  std::optional<Tensor<double>> bias;
};

std::vector<double> reference(const Tensor<double>& q, const Tensor<double>& k, const Tensor<double>& v, double scale,
                              bool causal, const Masks& masks) {
  const int64_t heads = q.shape[1], group = heads / k.shape[1], sq = q.shape[2], sk = k.shape[2], d = q.shape[3],
                dv = v.shape[3];
  std::vector<double> out;
  for (int64_t b = 0; b < q.shape[0]; ++b)
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t i = 0; i < sq; ++i) {
        std::vector<double> row(static_cast<size_t>(dv));
        double sum = 0;
        for (int64_t j = 0; j < sk; ++j) {
          const int64_t kv = b * k.shape[1] + h / group;
          double s = 0;
          for (int64_t c = 0; c < d; ++c)
            s += q.values[((b * heads + h) * sq + i) * d + c] * k.values[(kv * sk + j) * d + c];
          s *= scale;
          if (masks.bias) s += broadcast_at(*masks.bias, {b, h, i, j});
          if (causal && j > i + sk - sq) continue;
          if (masks.mask && !broadcast_at(*masks.mask, {b, h, i, j})) continue;
          sum += std::exp(s);
          for (int64_t c = 0; c < dv; ++c) row[c] += std::exp(s) * v.values[(kv * sk + j) * dv + c];
        }
        for (const double x : row) out.push_back(sum == 0 ? 0 : x / sum);
      }
  return out;
}

FlashAttention<double> make(const FlashAttentionOptions& options) {
  auto attention = FlashAttention<double>::create(options, test_engine());
  EXPECT_TRUE(attention) << to_string(attention.error());
  return *attention;
}

void expect_near(const Tensor<double>& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.values.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) ASSERT_NEAR(found.values[i], expected[i], 1e-13) << i;
}

TEST(FlashAttention, MasksAndBiasesOfEveryForm) {
  const auto q = tensor<double>({2, 4, 5, 6}, 0.1), k = tensor<double>({2, 2, 7, 6}, 0.2),
             v = tensor<double>({2, 2, 7, 3}, 0.3);
  const std::vector<std::vector<int64_t>> forms = {{},        {2, 4, 5, 7}, {1, 4, 5, 7}, {2, 1, 1, 7},
                                                   {4, 1, 1}, {5, 7},       {1}};
  for (size_t m = 0; m < forms.size(); ++m) {
    Masks masks;
    if (m > 0) {  // the first row of queries keeps nothing where the mask has rows
      masks.mask = Tensor<uint8_t>(forms[m]);
      for (size_t i = 0; i < masks.mask->values.size(); ++i) masks.mask->values[i] = i >= 7 && i % 3 != 0;
    }
    const std::vector<int64_t>& form = forms[(m + 2) % forms.size()];
    if (!form.empty()) masks.bias = tensor<double>(form, 0.5);
    for (const bool causal : {false, true}) {
      SCOPED_TRACE(
          fmt::format("mask [{}] bias [{}] causal {}", fmt::join(forms[m], ","), fmt::join(form, ","), causal));
      AttentionMasks views;
      if (masks.mask) views.mask = masks.mask->view();
      if (masks.bias) views.bias = masks.bias->view();
      const auto expected = reference(q, k, v, 0.7 / 2, causal, masks);
      for (const bool flash : {true, false}) {
        auto attention = make({.causal = causal, .flash = flash, .temperature = 2, .scale = 0.7});
        const auto out = attention.attention(q.view(), k.view(), v.view(), views);
        ASSERT_TRUE(out) << to_string(out.error());
        expect_near(*out, expected);
        EXPECT_EQ(attention.diagnostics()->stats.fused_attentions, flash ? 1 : 0);
      }
    }
  }
}

TEST(FlashAttention, GetMaskIsTheCausalFlag) {
  const auto q = tensor<double>({1, 2, 5, 4}, 0.1), k = tensor<double>({1, 2, 8, 4}, 0.2);
  auto plain = make({}), causal = make({.causal = true});
  for (const auto& [keys, queries] : {std::pair{k, q}, {q, k}}) {  // more queries than keys: the first see nothing
    const auto mask = plain.get_mask(queries.shape[2], keys.shape[2]);
    EXPECT_EQ(mask.values.back(), 1);
    AttentionMasks masks;
    masks.mask = mask.view();
    const auto masked = plain.attention(queries.view(), keys.view(), keys.view(), masks);
    const auto flagged = causal.attention(queries.view(), keys.view(), keys.view());
    ASSERT_TRUE(masked && flagged);
    expect_near(*flagged, masked->values);
  }
  EXPECT_EQ(plain.get_mask(2, 3).values, (std::vector<uint8_t>{1, 1, 0, 1, 1, 1}));
}

TEST(FlashAttention, SelfAndCross) {
  const auto x = tensor<double>({2, 2, 5, 4}, 0.1), context = tensor<double>({2, 1, 9, 4}, 0.2);
  auto attention = make({});
  expect_near(*attention.self_attention(x.view()), reference(x, x, x, 0.5, false, {}));
  expect_near(*attention.cross_attention(x.view(), context.view()), reference(x, context, context, 0.5, false, {}));
  expect_near(*attention.naive_attention(x.view(), context.view(), context.view()),
              reference(x, context, context, 0.5, false, {}));
  EXPECT_EQ(attention.diagnostics()->stats.fused_attentions, 0);
}

TEST(FlashAttention, DropoutIsTheSameOnBothPathsAndForTraining) {
  const auto x = tensor<double>({2, 2, 9, 4}, 0.1);
  auto flash = make({.dropout = 0.5, .flash = true}), naive = make({.dropout = 0.5, .flash = false});
  const auto first = flash.self_attention(x.view());
  ASSERT_TRUE(first) << to_string(first.error());
  expect_near(*naive.self_attention(x.view()), first->values);
  const auto second = flash.self_attention(x.view());
  EXPECT_NE(second->values, first->values);
  expect_near(*naive.self_attention(x.view()), second->values);
  auto other = make({.dropout = 0.5, .seed = 2});
  EXPECT_NE(other.self_attention(x.view())->values, first->values);
  flash.set_training(false);
  expect_near(*flash.self_attention(x.view()), reference(x, x, x, 0.5, false, {}));
}

TEST(FlashAttention, BlockSizesAreUsedAndShown) {
  auto attention = make({.tiles = {24, 40}});
  const auto x = tensor<double>({1, 2, 50, 4}, 0.1);
  expect_near(*attention.self_attention(x.view()), reference(x, x, x, 0.5, false, {}));
  const std::string text = print(*attention.diagnostics());
  EXPECT_NE(text.find("block_q 24"), std::string::npos) << text;
  EXPECT_NE(text.find("block_kv 40 was asked for"), std::string::npos) << text;
}

TEST(FlashAttention, MemoryEstimateIsWhatIsAllocated) {
  constexpr int64_t kN = 700, kRounding = 2 << 20;  // large blocks are rounded up to huge pages
  for (const bool flash : {true, false}) {
    auto own = Engine::create({2, {}});
    auto attention = *FlashAttention<float>::create({.flash = flash}, *own);
    const auto estimate = attention.memory_estimate(kN, 4, 64);
    ASSERT_TRUE(estimate) << to_string(estimate.error());
    const auto x = tensor<float>({1, 4, kN, 64}, 0.1);
    aligned_bytes = 0;
    const auto out = attention.self_attention(x.view());
    ASSERT_TRUE(out);
    const int64_t allocated = aligned_bytes + static_cast<int64_t>(out->values.size() * sizeof(float));
    const int64_t estimated = flash ? estimate->flash : estimate->naive;
    EXPECT_GE(allocated, estimated);
    EXPECT_LE(allocated, estimated + kRounding);
    EXPECT_GE(estimate->naive, 4 * kN * kN * 4);  // one copy of the scores at least
    EXPECT_DOUBLE_EQ(estimate->ratio, static_cast<double>(estimate->naive) / static_cast<double>(estimate->flash));
  }
}

TEST(FlashAttention, MemoryOfFlashGrowsWithTheLengthAndOfNaiveWithItsSquare) {
  auto attention = make({});
  const auto one = attention.memory_estimate(4096), four = attention.memory_estimate(4 * 4096);
  ASSERT_TRUE(one && four);
  EXPECT_LE(four->flash, 4 * one->flash);
  EXPECT_GE(four->naive, 15 * one->naive);
}

TEST(FlashAttention, BenchmarkReportsBothPaths) {
  auto attention = *FlashAttention<float>::create({}, test_engine());
  const auto report = attention.benchmark(300, 2, 32);
  ASSERT_TRUE(report) << to_string(report.error());
  EXPECT_EQ(report->query_shape, (std::vector<int64_t>{1, 2, 300, 32}));
  EXPECT_EQ(report->key_shape, report->query_shape);
  EXPECT_GT(report->naive_ms, 0);
  EXPECT_GT(report->flash_ms, 0);
  EXPECT_DOUBLE_EQ(report->speed_up, report->naive_ms / report->flash_ms);
  EXPECT_DOUBLE_EQ(report->memory_reduction, attention.memory_estimate(300, 2, 32)->ratio);
  EXPECT_GT(report->max_error, 0);
  EXPECT_LT(report->max_error, 1e-6);
}

TEST(FlashAttention, ErrorsNameBothSides) {
  const auto created = [](const FlashAttentionOptions& options) {
    const auto attention = FlashAttention<double>::create(options, test_engine());
    return attention ? "" : to_string(attention.error());
  };
  EXPECT_EQ(created({.dropout = 2}), "dropout is 2, outside [0, 1]");
  EXPECT_EQ(created({.temperature = 0}), "the temperature is 0; it must be above 0 and finite");
  EXPECT_EQ(created({.tiles = {-1, 0}}), "block_q is -1; a tile has at least 1 row, 0 leaves it to the rules");
  auto attention = make({});
  const auto message = [&](const std::vector<int64_t>& q, const std::vector<int64_t>& k, const std::vector<int64_t>& v,
                           const AttentionMasks& masks = {}) {
    const auto out =
        attention.attention(Tensor<double>(q).view(), Tensor<double>(k).view(), Tensor<double>(v).view(), masks);
    return out ? "" : to_string(out.error());
  };
  EXPECT_EQ(message({1, 2, 3}, {1, 2, 3, 4}, {1, 2, 3, 4}),
            "q is f64[1,2,3], of rank 3; it must be [batch, heads, sequence, width], of rank 4");
  EXPECT_EQ(
      message({1, 3, 5, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}),
      "the 3 heads of q are not a multiple of the 2 of k: q is f64[1,3,5,4], k is f64[1,2,3,4], v is f64[1,2,3,4]");
  EXPECT_EQ(message({1, 2, 5, 4}, {1, 2, 3, 8}, {1, 2, 3, 4}),
            "the widths of q and k, 4 and 8 differ: q is f64[1,2,5,4], k is f64[1,2,3,8], v is f64[1,2,3,4]");
  EXPECT_EQ(message({1, 2, 5, 4}, {1, 2, 3, 4}, {1, 2, 4, 4}),
            "the lengths of k and v, 3 and 4 differ: q is f64[1,2,5,4], k is f64[1,2,3,4], v is f64[1,2,4,4]");
  const Tensor<uint8_t> mask({5, 4});
  AttentionMasks masks;
  masks.mask = mask.view();
  EXPECT_EQ(message({1, 2, 5, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}, masks),
            "mask is bool[5,4], which does not broadcast to the scores [1,2,5,3]");
  masks = {};
  masks.bias = mask.view();
  EXPECT_EQ(message({1, 2, 5, 4}, {1, 2, 3, 4}, {1, 2, 3, 4}, masks), "bias is bool[5,4]; it must be f64");
  EXPECT_FALSE(attention.memory_estimate(0));
  EXPECT_FALSE(attention.benchmark(-1));
  EXPECT_FALSE(attention.diagnostics());
}

}  // namespace
}  // namespace tilewright
