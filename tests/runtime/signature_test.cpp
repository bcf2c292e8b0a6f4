#include "runtime/signature.h"

#include <gtest/gtest.h>

namespace tilewright {
namespace {

const Dim B = Dim::named("B"), Sq = Dim::named("Sq"), Sk = Dim::named("Sk");

Graph two_operands(bool inout = false) {
  GraphBuilder b("g");
  const ValueId q = b.param("q", {DType::f32, {B, Sq, 8}}, inout);
  const ValueId k = b.param("k", {DType::f32, {B, Sk, 8}});
  b.result(b.named(b.matmul_nt(q, k), "s"));
  return b.take();
}

struct TwoOperands {
  std::vector<float> q = std::vector<float>(1000), k = q, s = q;
  std::vector<TensorView> in = {TensorView::contiguous(q.data(), DType::f32, {2, 3, 8}),
                                TensorView::contiguous(k.data(), DType::f32, {2, 5, 8})};
  std::vector<TensorView> out = {TensorView::contiguous(s.data(), DType::f32, {2, 3, 5})};
};

std::string check(const TwoOperands& arguments, const Graph& graph = two_operands()) {
  const Signature signature(graph);
  std::vector<int64_t> dims(signature.dims().size());
  auto ok = signature.bind(arguments.in, dims);
  if (ok) ok = signature.check_outputs(arguments.in, arguments.out, dims);
  return ok ? "" : to_string(ok.error());
}

TEST(Signature, BindsDims) {
  const Signature signature(two_operands());
  const TwoOperands a;
  std::vector<int64_t> dims(3);
  ASSERT_TRUE(signature.bind(a.in, dims));
  EXPECT_EQ(signature.to_bindings(dims), (DimBindings{{"B", 2}, {"Sk", 5}, {"Sq", 3}}));
  EXPECT_EQ(check(a), "");
}

TEST(Signature, CountsInputsAndOutputs) {
  TwoOperands a;
  a.in.pop_back();
  EXPECT_EQ(check(a), "%k: this input is missing: 1 are given, the signature has 2");
  a.in.resize(3, a.in[0]);
  EXPECT_EQ(check(a), "3 inputs are given, the signature has 2: %q, %k");
  TwoOperands b;
  b.out.clear();
  EXPECT_EQ(check(b), "0 outputs are given, the graph returns 1: %s");
}

TEST(Signature, NamesMismatches) {
  TwoOperands a;
  a.in[1].shape[0] = 3;
  EXPECT_EQ(check(a), "%k: axis 0 has size 3, expected B = 2 (B = 2 from axis 0 of %q)");
  TwoOperands b;
  b.in[1].dtype = DType::f16;
  EXPECT_EQ(check(b), "%k: dtype is f16, expected f32");
  TwoOperands c;
  c.in[1].rank = 2;
  EXPECT_EQ(check(c), "%k: rank is 2, expected 3 for f32[B,Sk,8]");
  TwoOperands d;
  d.in[0].shape[1] = -3;
  EXPECT_EQ(check(d), "%q: axis 1 has the negative size -3");
  TwoOperands e;
  e.out[0].shape[2] = 6;
  EXPECT_EQ(check(e), "%s: the output's axis 2 has size 6, expected Sk = 5");
  TwoOperands f;
  f.out[0].dtype = DType::f64;
  EXPECT_EQ(check(f), "%s: the output's dtype is f64, expected f32");
}

TEST(Signature, ChecksMemory) {
  TwoOperands a;
  a.in[0].data = nullptr;
  EXPECT_EQ(check(a), "%q: its data is null, but it has 48 elements");
  TwoOperands b;
  b.in[0].data = reinterpret_cast<char*>(b.q.data()) + 2;
  EXPECT_EQ(check(b), "%q: its data is not aligned to its 4-byte elements");
  TwoOperands c;
  c.in[0].strides[1] = INT64_MAX / 2;
  EXPECT_EQ(check(c), "%q: its strides reach beyond 64-bit offsets");
  TwoOperands d;
  d.in[0].shape[1] = INT64_MAX / 4;
  EXPECT_EQ(check(d), "%q: its size in bytes overflows 64 bits");
}

TEST(Signature, OutputsAreDisjoint) {
  TwoOperands a;
  a.out[0].strides[2] = 0;
  EXPECT_EQ(check(a), "%s: the output's strides make elements overlap, each element needs its own place");
  TwoOperands b;
  b.out[0].strides[1] = 4;
  EXPECT_EQ(check(b), "%s: the output's strides make elements overlap, each element needs its own place");
  TwoOperands c;
  c.out[0].data = c.q.data() + 47;
  EXPECT_EQ(check(c), "%s: the output overlaps the input %q in memory, which only an inout parameter may");
  EXPECT_EQ(check(c, two_operands(true)), "");
  c.out[0].data = c.q.data() + 48;
  EXPECT_EQ(check(c), "");
  TwoOperands d;
  d.out[0].strides[1] = -5;
  d.out[0].data = d.s.data() + 10;
  EXPECT_EQ(check(d), "");
}

TEST(Signature, EmptyTensorsNeedNoMemory) {
  TwoOperands a;
  a.in[0].shape[0] = a.in[1].shape[0] = a.out[0].shape[0] = 0;
  for (TensorView* view : {&a.in[0], &a.in[1], &a.out[0]}) view->data = nullptr;
  EXPECT_EQ(check(a), "");
}

TEST(Signature, ChecksBindings) {
  const Signature signature(two_operands());
  const auto why = [&](const DimBindings& dims) {
    const auto result = signature.from_bindings(dims);
    return result ? "" : to_string(result.error());
  };
  EXPECT_EQ(why({{"B", 1}, {"Sq", 2}, {"Sk", 3}}), "");
  EXPECT_EQ(why({{"B", 1}, {"Sq", 2}}), "dim Sk has no size");
  EXPECT_EQ(why({{"B", 1}, {"Sq", -2}, {"Sk", 3}}), "dim Sq has the negative size -2");
  EXPECT_EQ(why({{"B", 1}, {"Sq", INT64_MAX / 2}, {"Sk", 3}}), "%q: its size in bytes overflows 64 bits");
}

}  // namespace
}  // namespace tilewright
