// Faults planted into a backward spec: what a template that had them would compute, the judge rejects.
#include <gtest/gtest.h>

#include <functional>

#include "tests/codegen/template_cases.h"
#include "tests/support/backward_case.h"
#include "tests/support/spec_kernel.h"

namespace tilewright::testing {
namespace {

using Plant = std::function<void(BackwardSpec&)>;

/// The DAG with every node that `replace` knows replaced, roots with it.
void rewrite(BackwardSpec& spec, const std::function<ExprId(Expr& to, const ExprNode& node)>& replace) {
  Expr to;
  std::vector<ExprId> at;
  for (ExprNode node : spec.weights.nodes()) {
    for (ExprId& arg : node.args) arg = at[static_cast<size_t>(raw(arg))];
    const ExprId other = replace(to, node);
    at.push_back(raw(other) >= 0 ? other : to.add(std::move(node)));
  }
  for (ExprId* root : roots(spec)) *root = at[static_cast<size_t>(raw(*root))];
  spec.weights = std::move(to);
}

int tensor_named(const BackwardSpec& spec, const std::string& name) {
  for (size_t i = 0; i < spec.tensors.size(); ++i)
    if (spec.tensors[i].name == name) return static_cast<int>(i);
  ADD_FAILURE() << "no tensor " << name;
  return -1;
}

enum class Templates : uint8_t { both, fast };

/// The case as it is passes in these templates; with the fault it does in none.
void expect_caught(const BackwardOptions& options, const Plant& plant, Templates templates = Templates::both) {
  const CpuTarget target = runnable_targets().front();
  for (bool generic : {false, true})
    for (bool planted : {false, true}) {
      if (generic && templates == Templates::fast) continue;
      SCOPED_TRACE(generic ? "generic" : "fast");
      std::mt19937_64 random(1);
      BackwardCase test = make_backward_case(options, random);
      const std::vector<OracleTensor> want = expected_gradients(test);
      if (planted) plant(test.spec);
      run_backward_case(test, small_backward(test.spec, target, generic), target);
      const std::string wrong = wrong_gradient(test, want);
      EXPECT_EQ(!wrong.empty(), planted) << (planted ? "the planted fault went unseen" : wrong);
    }
}

BackwardOptions causal_groups() {
  BackwardOptions options;
  options.forward.sq = 40;
  options.forward.sk = 150;
  options.forward.heads = 4;
  options.forward.group = 2;
  options.forward.mask = Mask::causal;
  options.forward.score = Score::bias;
  options.captured = true;
  return options;
}

TEST(BackwardPlanted, DeltaOmitted) {
  expect_caught(causal_groups(), [](BackwardSpec& spec) {
    const int delta = tensor_named(spec, "delta");
    rewrite(spec, [&](Expr& to, const ExprNode& node) {
      return node.tensor == delta ? to.constant(0, node.dtype) : ExprId{-1};
    });
  });
}

// The generic template asks `keep` of every score and has no blocks to skip.
TEST(BackwardPlanted, ASkippedBlockThatCounts) {
  // The last block of keys that the first rows see.
  expect_caught(
      causal_groups(),
      [](BackwardSpec& spec) {
        Expr& skip = spec.kv_range.skip;
        const auto test = [&](Op op, Axis axis, int64_t bound) {
          return skip.op(op, DType::boolean, {skip.index(axis), skip.constant_int(bound, DType::i64)});
        };
        const ExprId first_rows = test(Op::lt, Axis::q_lo, 10), far = test(Op::ge, Axis::kv_lo, 64);
        skip.set_root(skip.op(Op::logical_or, DType::boolean,
                              {skip.root(), skip.op(Op::logical_and, DType::boolean, {first_rows, far})}));
      },
      Templates::fast);
}

TEST(BackwardPlanted, ARangeThatEndsEarly) {
  expect_caught(
      causal_groups(),
      [](BackwardSpec& spec) {
        Expr& end = spec.kv_range.end;
        end.set_root(end.op(Op::sub, DType::i64, {end.root(), end.constant_int(1, DType::i64)}));
      },
      Templates::fast);
}

TEST(BackwardPlanted, ABlockTakenForFull) {
  expect_caught(
      causal_groups(),
      [](BackwardSpec& spec) {
        Expr yes;
        yes.set_root(yes.constant_int(1, DType::boolean));
        spec.kv_range.full = yes;
      },
      Templates::fast);
}

TEST(BackwardPlanted, DropoutOffsetByOne) {
  BackwardOptions options = causal_groups();
  options.forward.dropout = true;
  expect_caught(options, [](BackwardSpec& spec) {
    rewrite(spec, [&](Expr& to, const ExprNode& node) {
      if (node.kind != ExprKind::op || node.op != Op::random_bits) return ExprId{-1};
      ExprNode moved = node;
      moved.args[1] = to.op(Op::add, DType::i64, {node.args[1], to.constant_int(1, DType::i64)});
      return to.add(std::move(moved));
    });
  });
}

TEST(BackwardPlanted, AHeadMissingFromItsGroup) {
  for (size_t product : {0u, 1u})  // dK, dV
    expect_caught(causal_groups(), [&](BackwardSpec& spec) {
      Expr& e = spec.weights;
      const ExprId two = e.constant_int(2, DType::i64), zero = e.constant_int(0, DType::i64);
      const ExprId first = e.op(Op::eq, DType::boolean, {e.op(Op::mod, DType::i64, {e.index(Axis::h), two}), zero});
      ExprId& weight = spec.columns[product].weight;
      weight = e.op(Op::select, spec.accumulate, {first, weight, e.constant(0, spec.accumulate)});
    });
}

TEST(BackwardPlanted, ACapturedGradientAddedTwice) {
  // Where a chunk of keys begins, as a block that two chunks visit would.
  expect_caught(causal_groups(), [](BackwardSpec& spec) {
    Expr& e = spec.weights;
    const ExprId border = e.op(Op::eq, DType::boolean, {e.index(Axis::kv), e.constant_int(128, DType::i64)});
    ExprId& weight = spec.captured.at(0).weight;
    weight = e.op(Op::select, spec.accumulate, {border, e.op(Op::add, spec.accumulate, {weight, weight}), weight});
  });
}

}  // namespace
}  // namespace tilewright::testing
