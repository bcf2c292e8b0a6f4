// Running attention cases, and what they should give.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "ir/interp.h"
#include "ir/text.h"
#include "tests/support/attention_case.h"
#include "tests/support/attention_rows.h"
#include "tests/support/spec_kernel.h"

namespace tilewright::testing {
namespace {

int64_t position(const AttentionCase& test, const Access& access, const std::vector<int64_t>& axes) {
  const TestTensor& tensor = test.tensors[static_cast<size_t>(access.tensor)];
  int64_t at = 0;
  for (size_t axis = 0; axis < access.axes.size(); ++axis) {
    const int64_t index = evaluate_int(access.axes[axis], test.dims, {}, axes);
    EXPECT_TRUE(index >= 0 && index < tensor.shape()[axis]);
    at = at * tensor.shape()[axis] + index;
  }
  return at;
}

double element(const AttentionCase& test, const Access& access, const std::vector<int64_t>& axes) {
  return test.tensors[static_cast<size_t>(access.tensor)].get(position(test, access, axes));
}

/// rows[s][d] of one operand for the b and h in `axes`; `seq` says which axis s is.
std::vector<std::vector<double>> operand_rows(const AttentionCase& test, const Access& access,
                                              std::vector<int64_t> axes, Axis seq, int64_t length, int64_t dim) {
  std::vector<std::vector<double>> rows(static_cast<size_t>(length));
  for (int64_t s = 0; s < length; ++s) {
    axes[static_cast<size_t>(seq)] = s;
    for (int64_t d = 0; d < dim; ++d) {
      axes[static_cast<size_t>(Axis::d)] = d;
      rows[static_cast<size_t>(s)].push_back(element(test, access, axes));
    }
  }
  return rows;
}

void expect_close(double got, double want, double tolerance, const std::string& where) {
  if (std::isnan(want))
    EXPECT_TRUE(std::isnan(got)) << where << ": got " << got << ", want NaN";
  else if (std::isinf(want))
    EXPECT_EQ(got, want) << where;
  else
    EXPECT_TRUE(std::abs(got - want) <= tolerance) << where << ": got " << got << ", want " << want;
}

double epsilon(DType dtype) {
  switch (dtype) {
    case DType::f64: return 0x1p-52;
    case DType::f32: return 0x1p-23;
    case DType::f16: return 0x1p-10;
    default: return 0x1p-7;
  }
}

}  // namespace

int64_t run_case(const AttentionCase& test, const CpuSchedule& schedule, const CpuTarget& target, bool packed,
                 int64_t pieces) {
  const SpecKernel& kernel = spec_kernel(print(test.spec), schedule, target, [&] {
    return generate_attention(build_tile_program(test.spec), schedule, target, "case");
  });
  return run_spec_kernel(kernel, args_layout(test.spec), test.dims, test.tensors, {packed, pieces});
}

void check_case(const AttentionCase& test, DType weights) {
  const AttentionSpec& spec = test.spec;
  const std::vector<TensorView> views = views_of(test.tensors);
  const auto extent = [&](const Dim& dim) { return *dim.evaluate(test.dims); };
  const int64_t kv_len = extent(spec.kv_len);
  double largest_v = 0;
  const TestTensor& v = test.tensors[static_cast<size_t>(spec.value.tensor)];
  for (int64_t i = 0; i < v.size(); ++i)
    if (!std::isnan(v.get(i))) largest_v = std::max(largest_v, std::abs(v.get(i)));
  const DType out = spec.tensors[static_cast<size_t>(spec.output.tensor)].type.dtype;
  const bool wide = spec.accumulate == DType::f64;
  const double exactness = spec.normaliser == Normaliser::none ? static_cast<double>(kv_len + 1) : 1;
  const double arithmetic = wide ? 1e-13 : 4e-6;

  std::vector<int64_t> axes(12, 0);
  int64_t& b = axes[0];
  int64_t& h = axes[1];
  int64_t& q = axes[2];
  int64_t& kv = axes[3];
  int64_t& d = axes[4];
  for (b = 0; b < extent(spec.batch[0]); ++b) {
    for (h = 0; h < extent(spec.heads[0]); ++h) {
      std::vector<std::vector<std::vector<double>>> queries, keys;
      for (const DotTerm& term : test.stored) {
        queries.push_back(operand_rows(test, term.query, axes, Axis::q, extent(spec.q_len), term.head_dim));
        keys.push_back(operand_rows(test, term.key, axes, Axis::kv, kv_len, term.head_dim));
      }
      for (size_t s = 0; s < queries[0].size(); ++s)
        compute_row(test.options.query_rows, queries[0][s], static_cast<int64_t>(s), test);
      for (size_t s = 0; s < keys[0].size(); ++s)
        compute_row(test.options.key_rows, keys[0][s], static_cast<int64_t>(s), test);
      const auto values = operand_rows(test, spec.value, axes, Axis::kv, kv_len, spec.value_dim);
      for (q = 0; q < extent(spec.q_len); ++q) {
        std::vector<int64_t> kept;
        std::vector<double> scores;
        double top = -std::numeric_limits<double>::infinity(), largest_score = 0;
        for (kv = 0; kv < kv_len; ++kv) {
          if (!evaluate_int(spec.keep, test.dims, views, axes)) continue;
          double dot = 0;
          for (size_t term = 0; term < spec.dots.size(); ++term)
            for (size_t i = 0; i < keys[term][static_cast<size_t>(kv)].size(); ++i)
              dot += queries[term][static_cast<size_t>(q)][i] * keys[term][static_cast<size_t>(kv)][i];
          kept.push_back(kv);
          scores.push_back(static_cast<double>(evaluate(spec.score, test.dims, views, axes, dot)));
          top = std::max(top, scores.back());
          if (std::isfinite(scores.back())) largest_score = std::max(largest_score, std::abs(scores.back()));
        }
        kv = 0;
        const bool softmax = spec.normaliser == Normaliser::softmax;
        double sink = -std::numeric_limits<double>::infinity();
        if (spec.sink) sink = static_cast<double>(evaluate(*spec.sink, test.dims, views, axes, 0));
        top = std::max(top, sink);
        const bool has_nan = std::any_of(scores.begin(), scores.end(), [](double s) { return std::isnan(s); });
        const bool empty = top == -std::numeric_limits<double>::infinity() && !has_nan;
        double sum = empty ? 0 : std::exp(sink - top);
        for (double& s : scores)
          if (softmax) sum += s = empty ? 0 : std::exp(s - top);
        for (size_t i = 0; spec.weight_factor && i < kept.size(); ++i) {
          kv = kept[i];
          scores[i] *= static_cast<double>(evaluate(*spec.weight_factor, test.dims, views, axes, 0));
        }
        kv = 0;
        const double tolerance =
            exactness * largest_v * (arithmetic * (1 + largest_score / 8) + 4 * epsilon(out) + epsilon(weights) / 2);
        const std::string where = fmt::format("b {} h {} q {}", b, h, q);
        for (d = 0; d < spec.value_dim; ++d) {
          double o = 0;
          for (size_t i = 0; i < kept.size(); ++i)
            if (scores[i] != 0) o += scores[i] * values[static_cast<size_t>(kept[i])][static_cast<size_t>(d)];
          if (softmax) o = sum == 0 ? 0 : o / sum;
          expect_close(element(test, spec.output, axes), o, tolerance, fmt::format("O {} d {}", where, d));
          if (::testing::Test::HasFailure()) return;
        }
        d = 0;
        if (spec.logsumexp) {
          const double lse = top + std::log(sum);
          const double got = element(test, *spec.logsumexp, axes);
          expect_close(got, sum == 0 ? -std::numeric_limits<double>::infinity() : lse, arithmetic * (1 + std::abs(lse)),
                       "LSE " + where);
          if (::testing::Test::HasFailure()) return;
        }
      }
    }
  }
  for (size_t i = 0; i < test.tensors.size(); ++i)
    EXPECT_TRUE(test.tensors[i].gaps_intact()) << "bytes around " << spec.tensors[i].name << " were written";
}

}  // namespace tilewright::testing
