// Runs graphs whose steps are all loops: every step generated, verified, linked and called by hand, its tensors
// guarded.
#pragma once

#include "compiler/passes.h"
#include "compiler/plan_loop.h"
#include "ir/interp.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "tests/codegen/jit_support.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {

using Index = std::vector<int64_t>;

inline int64_t flat(const Index& shape, const Index& index) {
  int64_t position = 0;
  for (size_t axis = 0; axis < shape.size(); ++axis) position = position * shape[axis] + index[axis];
  return position;
}
inline double at(const TestTensor& tensor, const Index& index) { return tensor.get(flat(tensor.shape(), index)); }

template <class Body>
void for_each_index(const Index& shape, const Body& body) {
  int64_t count = 1;
  for (int64_t extent : shape) count *= extent;
  Index index(shape.size());
  for (int64_t position = 0; position < count; ++position) {
    int64_t rest = position;
    for (size_t axis = shape.size(); axis-- > 0; rest /= shape[axis]) index[axis] = rest % shape[axis];
    body(index);
  }
}

/// Whole numbers for integers, coins for bools, N(0,1) for floats.
inline TestTensor random_tensor(DType dtype, const Index& shape, Layout layout, std::mt19937_64& random) {
  TestTensor tensor(dtype, shape, layout, random);
  std::normal_distribution<double> gauss;
  for (int64_t i = 0; i < tensor.size(); ++i) {
    if (dtype == DType::boolean)
      tensor.set(i, static_cast<double>(random() % 2));
    else
      tensor.set(i, is_float(dtype) ? gauss(random) : static_cast<double>(random() % 200) - 100);
  }
  return tensor;
}

/// `small` blocks let small products have several of them.
enum class Blocks : uint8_t { planned, small };

class LoopRunner {
 public:
  /// `fused` lets pointwise work and views flow into the steps that read them; otherwise every op is a step.
  /// `plant` puts a fault into the program.
  LoopRunner(const std::string& text, const CpuTarget& target, bool fused = false, Blocks blocks = Blocks::planned,
             const std::function<void(Program&)>& plant = {}) {
    auto graph = parse_graph(text);
    if (!graph || !verify(*graph).empty()) {
      ADD_FAILURE() << (graph ? to_string(verify(*graph)) : to_string(graph.error())) << "\n" << text;
      return;
    }
    graph_ = *graph;
    auto canonical = canonicalize(*graph);
    auto program = !canonical ? canonical.error() : fused ? fuse(*canonical) : lower_unfused(*canonical);
    if (!program) {
      ADD_FAILURE() << to_string(program.error());
      return;
    }
    program_ = *program;
    if (plant) plant(program_);
    for (const Step& step : program_.steps) {
      std::vector<Linked>& choices = linked_.emplace_back();
      const auto& loop = std::get<LoopStep>(step.what);
      for (CpuPlan::Choice& choice : plan_loop(loop, target).choices) {
        if (blocks == Blocks::small && choice.schedule.kernel == CpuTemplate::matmul) {
          choice.schedule.block_m = 2 * choice.schedule.mr;
          choice.schedule.block_n = 2 * choice.schedule.nr();
          choice.schedule.block_k = choice.schedule.lanes;
        }
        choices.push_back(link(loop, choice, target));
      }
    }
  }

  /// Results in return order, laid out as `layout` says, poisoned before and checked for stray writes after.
  std::vector<TestTensor> run(const std::vector<TestTensor>& inputs, Layout layout, std::mt19937_64& random) {
    std::vector<TensorView> views;
    std::vector<TensorType> types;
    std::vector<std::string> names;
    for (size_t i = 0; i < inputs.size(); ++i) {
      views.push_back(inputs[i].view());
      types.push_back(graph_.type(graph_.params[i]));
      names.push_back(graph_[graph_.params[i]].name);
    }
    auto dims = bind_dims(types, names, views);
    if (!dims) {
      ADD_FAILURE() << to_string(dims.error());
      return {};
    }
    std::vector<TestTensor> tensors, results(graph_.results.size());
    for (const ProgramTensor& t : program_.tensors) {
      if (t.role == TensorRole::param) {
        tensors.push_back(inputs[static_cast<size_t>(t.position)]);
        continue;
      }
      const Layout how = t.role == TensorRole::result ? layout : Layout::contiguous;
      tensors.emplace_back(t.type.dtype, concrete_shape(t.type, *dims), how, random);
      if (t.role == TensorRole::result) results[static_cast<size_t>(t.position)] = tensors.back();
    }
    for (size_t s = 0; s < program_.steps.size(); ++s) call(s, tensors, *dims);
    for (const TestTensor& tensor : tensors) EXPECT_TRUE(tensor.gaps_intact());
    return results;
  }

  const Program& program() const { return program_; }
  /// What ran last for step `step`.
  CpuTemplate ran(size_t step) const { return ran_[step]; }
  /// Whether B is packed once for all items (where the launch offers it) or by each of them.
  bool packed = true;
  /// Calls that the items are spread over.
  int64_t pieces = 3;

 private:
  struct Linked {
    SpecKernel kernel;
    Expr use_when;
  };

  Linked link(const LoopStep& step, const CpuPlan::Choice& choice, const CpuTarget& target) {
    CpuKernelSource source = generate_loop(step, choice.schedule, target, "loop");
    Linked linked{{nullptr, std::move(source.launch), 0}, choice.use_when};
    linked.kernel.code = link_module(std::move(source.module), target);
    return linked;
  }

  void call(size_t s, const std::vector<TestTensor>& tensors, const DimBindings& dims) {
    const auto& step = std::get<LoopStep>(program_.steps[s].what);
    const std::vector<int64_t> axes(12, 0);
    size_t choice = 0;
    while (choice + 1 < linked_[s].size() && !evaluate_int(linked_[s][choice].use_when, dims, {}, axes)) ++choice;
    const SpecKernel& kernel = linked_[s][choice].kernel;
    ran_.resize(program_.steps.size());
    ran_[s] = kernel.launch.schedule.kernel;
    std::vector<TestTensor> own;
    for (int tensor : program_.steps[s].tensors) own.push_back(tensors[static_cast<size_t>(tensor)]);
    run_spec_kernel(kernel, args_layout(step), dims, own, {packed, pieces});
  }

  Graph graph_;
  Program program_;
  std::vector<std::vector<Linked>> linked_;  ///< per step, its choices
  std::vector<CpuTemplate> ran_;
};

/// Half a unit in the last place of 1, for results that are rounded once.
inline double rounding(DType dtype) {
  switch (dtype) {
    case DType::f64: return 0x1p-53;
    case DType::f32: return 0x1p-24;
    case DType::f16: return 0x1p-11;
    case DType::bf16: return 0x1p-8;
    default: return 0;
  }
}

/// Elements that are not want(index), within tolerance · (1 + |want|); NaN and infinities exactly. `tell` hears of
/// each.
template <class Want, class Tell>
int count_wrong(const TestTensor& got, double tolerance, const Want& want, const Tell& tell) {
  int wrong = 0;
  for_each_index(got.shape(), [&](const Index& index) {
    const double x = at(got, index), y = want(index);
    const bool same = std::isnan(y) ? std::isnan(x) : x == y || std::abs(x - y) <= tolerance * (1 + std::abs(y));
    if (!same) tell(++wrong, index, x, y);
  });
  return wrong;
}

template <class Want>
void expect_tensor(const TestTensor& got, double tolerance, const std::string& what, const Want& want) {
  count_wrong(got, tolerance, want, [&](int count, const Index& index, double x, double y) {
    if (count <= 3)
      ADD_FAILURE() << what << " at " << fmt::format("{}", fmt::join(index, " ")) << ": got " << x << ", want " << y;
  });
}

constexpr std::array kLayouts = {Layout::contiguous, Layout::permuted, Layout::gapped, Layout::reversed};

}  // namespace tilewright::testing
