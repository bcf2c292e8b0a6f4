#include "tests/support/causal_case.h"

#include <gtest/gtest.h>

#include <cmath>

#include "ir/text.h"

namespace tilewright::testing {

std::string causal_text(int64_t head_dim) {
  return fmt::format(R"(
graph @causal(%q: f32[B,4,Sq,{0}], %k: f32[B,2,Sk,{0}], %v: f32[B,2,Sk,{0}]) -> f32[B,4,Sq,{0}] {{
  %kh = repeat_heads %k, times=2           : f32[B,4,Sk,{0}]
  %vh = repeat_heads %v, times=2           : f32[B,4,Sk,{0}]
  %s  = matmul_nt %q, %kh                  : f32[B,4,Sq,Sk]
  %a  = mul %s, 0.25                       : f32[B,4,Sq,Sk]
  %e  = mask_causal %a, align=bottom_right : f32[B,4,Sq,Sk]
  %p  = softmax %e, axis=3                 : f32[B,4,Sq,Sk]
  %o  = matmul %p, %vh                     : f32[B,4,Sq,{0}]
  return %o
}})",
                     head_dim);
}

Graph causal_graph(int64_t head_dim) {
  auto graph = parse_graph(causal_text(head_dim));
  EXPECT_TRUE(graph) << (graph ? "" : to_string(graph.error()));
  return *graph;
}

CausalArguments::CausalArguments(int64_t batch, int64_t sq, int64_t sk, int64_t head_dim)
    : dims{{"B", batch}, {"Sq", sq}, {"Sk", sk}} {
  const auto tensor = [&](std::vector<float>& values, int64_t heads, int64_t rows, double phase) {
    values.resize(static_cast<size_t>(batch * heads * rows * head_dim));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<float>(std::sin(phase + 1.7 * static_cast<double>(i)));
    return TensorView::contiguous(values.data(), DType::f32, {batch, heads, rows, head_dim});
  };
  in = {tensor(q, 4, sq, 0.1), tensor(k, 2, sk, 0.2), tensor(v, 2, sk, 0.3)};
  out = {tensor(o, 4, sq, NAN)};
}

}  // namespace tilewright::testing
