#include "codegen/cpu/access.h"

#include <gtest/gtest.h>

#include "codegen/cpu/cpu_module.h"
#include "runtime/cpu_detect.h"
#include "runtime/orc_jit.h"

namespace tilewright {
namespace {

Expr axis(Axis which) {
  Expr e;
  e.set_root(e.index(which));
  return e;
}
/// floor(which / by) + plus
Expr grouped(Axis which, int64_t by, int64_t plus) {
  Expr e;
  const ExprId quotient = e.op(Op::div, DType::i64, {e.index(which), e.constant_int(by, DType::i64)});
  e.set_root(e.op(Op::add, DType::i64, {quotient, e.constant_int(plus, DType::i64)}));
  return e;
}

/// One 4-axis operand with every form of axis: [b, floor(h/4)+1, Sk-1-kv, (h mod 4)*16 + 2d].
AttentionSpec odd_spec() {
  AttentionSpec spec;
  spec.batch = {Dim::named("B")};
  spec.heads = {Dim::named("G"), Dim(4)};
  spec.q_len = Dim::named("Sq");
  spec.kv_len = Dim::named("Sk");
  spec.tensors = {{"k", {DType::bf16, {Dim::named("B"), Dim::named("G") + 1, Dim::named("Sk"), Dim(64)}}, false}};
  Expr seq;
  const ExprId last = seq.op(Op::sub, DType::i64, {seq.dim(Dim::named("Sk")), seq.constant_int(1, DType::i64)});
  seq.set_root(seq.op(Op::sub, DType::i64, {last, seq.index(Axis::kv)}));
  Expr dim;
  const ExprId head = dim.op(Op::mod, DType::i64, {dim.index(Axis::h), dim.constant_int(4, DType::i64)});
  const ExprId start = dim.op(Op::mul, DType::i64, {dim.constant_int(16, DType::i64), head});
  const ExprId twice = dim.op(Op::mul, DType::i64, {dim.index(Axis::d), dim.constant_int(2, DType::i64)});
  dim.set_root(dim.op(Op::add, DType::i64, {start, twice}));
  spec.value = {0, {axis(Axis::b), grouped(Axis::h, 4, 1), seq, dim}};
  return spec;
}

TEST(Access, ItemsAndRowAddresses) {
  const CpuTarget target = detect_cpu();
  const AttentionSpec spec = odd_spec();
  const ArgsLayout layout = args_layout(spec);
  CpuModule module = make_cpu_module("access");
  cpu::LlvmBuilder b(module.state(), target);
  b.begin_kernel("access");
  cpu::ArgsReader args(b, layout);
  cpu::ItemDecoder items(b, args, spec, 8);
  b.loop(b.argument(1), b.argument(2), 1, [&](llvm::Value* item) {
    const cpu::Item at = items.decode(item);
    const cpu::RowAccess row = cpu::resolve_access(b, args, spec, spec.value, at.b, at.h);
    llvm::Value* bytes =
        b.sub(b.ir.CreatePtrToInt(row.base, b.i64_type()), b.ir.CreatePtrToInt(args.tensor(0), b.i64_type()));
    llvm::Value* out = b.element_pointer(DType::i64, b.argument(3), b.mul(item, b.i64(7)));
    int64_t slot = 0;
    for (llvm::Value* value : {at.b, at.h, at.q_begin, at.q_end, bytes, row.stride_seq, row.stride_dim})
      b.store(DType::i64, value, b.element_pointer(DType::i64, out, b.i64(slot++)));
  });
  b.ret();
  auto object = compile_module(std::move(module), target, {.verify = true});
  ASSERT_TRUE(object) << to_string(object.error());
  auto code = JitCode::load(object->bytes);
  ASSERT_TRUE(code) << to_string(code.error());

  const int64_t B = 2, G = 3, Sq = 19, Sk = 11;
  std::vector<int64_t> meta(static_cast<size_t>(layout.size));
  for (size_t i = 0; i < layout.dims.size(); ++i) {
    const DimBindings dims = {{"B", B}, {"G", G}, {"Sq", Sq}, {"Sk", Sk}};
    meta[i] = dims.find(layout.dims[i])->second;
  }
  const int64_t strides[4] = {10'000'000'000, -300, 64, 7};
  for (int i = 0; i < 4; ++i) meta[static_cast<size_t>(layout.stride_offset[0] + i)] = strides[i];
  char memory[1];
  void* tensors[] = {memory};
  const KernelArgs kernel_args = {tensors, meta.data(), nullptr, nullptr};
  const int64_t count = B * G * 4 * 3;
  std::vector<int64_t> out(static_cast<size_t>(count * 7));
  (*code)->find_as<KernelFunction>("access")(&kernel_args, 0, count, out.data());
  int64_t item = 0;
  for (int64_t batch = 0; batch < B; ++batch) {
    for (int64_t h = 0; h < G * 4; ++h) {
      for (int64_t q = 0; q < Sq; q += 8, ++item) {
        const int64_t* got = &out[static_cast<size_t>(item * 7)];
        const int64_t offset =
            batch * strides[0] + (h / 4 + 1) * strides[1] + (Sk - 1) * strides[2] + h % 4 * 16 * strides[3];
        const int64_t want[7] = {batch, h, q, std::min(q + 8, Sq), offset * 2, -strides[2], 2 * strides[3]};
        for (int i = 0; i < 7; ++i) EXPECT_EQ(got[i], want[i]) << "item " << item << " field " << i;
      }
    }
  }
  EXPECT_EQ(item, count);
}

}  // namespace
}  // namespace tilewright
