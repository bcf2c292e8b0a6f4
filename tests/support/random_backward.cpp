#include "tests/support/random_backward.h"

#include "tests/support/random_expr.h"

namespace tilewright::testing {
namespace {

class RandomBackward {
 public:
  explicit RandomBackward(uint64_t seed) : random_(seed * 0x9e3779b97f4a7c15ull + 3) {}

  BackwardCase make() {
    case_ = make_backward_case(draw_options(), random_);
    if (chance(0.6)) add_mask_tensors();
    if (first_mask_ >= 0 && chance(0.6)) mask();
    for (int64_t sums = pick(0, 2); sums > 0; --sums) capture(sums);
    analyze_mask(case_.spec);
    const std::vector<ExprId*> all = roots(case_.spec);
    case_.spec.weights = case_.spec.weights.pruned(all);
    return std::move(case_);
  }

 private:
  int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random_); }
  bool chance(double probability) { return std::uniform_real_distribution<>()(random_) < probability; }
  int64_t width() {
    constexpr int64_t kWidths[] = {1, 3, 8, 16, 17, 24, 31, 40};
    return kWidths[pick(0, 7)];
  }

  BackwardOptions draw_options() {
    constexpr DType kTypes[] = {DType::f32, DType::f32, DType::f64, DType::bf16, DType::f16};
    BackwardOptions o;
    CaseOptions& f = o.forward;
    f.dtype = kTypes[pick(0, 4)];
    f.output = f.dtype;  // dO has the type of V
    f.batch = chance(0.04) ? 0 : pick(1, 2);
    f.group = pick(1, 3);
    f.heads = f.group * pick(1, 2);
    f.sq = chance(0.04) ? 0 : pick(1, 45);
    f.sk = chance(0.04) ? 0 : pick(1, 110);
    f.dqk = width();
    f.dv = chance(0.5) ? f.dqk : width();
    f.mask = static_cast<Mask>(pick(0, 7));
    f.score = static_cast<Score>(pick(0, 3));
    f.arrangement = static_cast<Arrangement>(pick(0, 3));
    f.layout = static_cast<Layout>(pick(0, 3));
    f.dropout = chance(0.3);
    f.two_dots = chance(0.15);
    o.captured = chance(0.5);
    o.row_sum = chance(0.3);
    o.key_sum = chance(0.3);
    o.table = chance(0.3);
    o.wide_gradients = chance(0.3);
    return o;
  }

  TestTensor& add_tensor(const std::string& name, DType dtype, const std::vector<int64_t>& shape, bool output) {
    case_.spec.tensors.push_back({name, {dtype, Shape(shape.begin(), shape.end())}, output});
    case_.tensors.emplace_back(dtype, shape, case_.options.forward.layout, random_);
    case_.tensors.back().poison();
    return case_.tensors.back();
  }

  void add_mask_tensors() {
    const MaskTensors tensors(random_, chance(0.2));
    first_mask_ = static_cast<int>(case_.spec.tensors.size());
    for (size_t i = 0; i < tensors.types().size(); ++i) {
      const TensorView& from = tensors.views()[i];
      const std::vector<int64_t> shape(from.shape.begin(), from.shape.begin() + from.rank);
      TestTensor& to = add_tensor(tensors.types()[i].name, from.dtype, shape, false);
      const auto* bytes = static_cast<const char*>(from.data);
      for (int64_t at = 0; at < to.size(); ++at) to.set(at, load_element(from.dtype, bytes + at * size_of(from.dtype)));
    }
  }

  /// The root's DAG of `from`, whose loads name mask tensors by their own numbers.
  ExprId import_masked(Expr& to, const Expr& from, ExprId root) const {
    std::vector<ExprId> at;
    for (ExprNode node : from.nodes()) {
      for (ExprId& arg : node.args) arg = at[static_cast<size_t>(raw(arg))];
      if (node.tensor >= 0) node.tensor += first_mask_;
      at.push_back(to.add(std::move(node)));
    }
    return at[static_cast<size_t>(raw(root))];
  }

  void mask() {
    Expr drawn;
    const ExprId condition = RandomExpr(random_, drawn).boolean(static_cast<int>(pick(1, 4)));
    Expr& keep = case_.spec.keep;
    keep.set_root(keep.op(Op::logical_and, DType::boolean, {keep.root(), import_masked(keep, drawn, condition)}));
    keep = keep.pruned();
  }

  /// An index over b, h, q, kv; now and then far outside of a tensor.
  ExprId index(Expr& e) {
    if (first_mask_ >= 0 && chance(0.5)) {
      Expr drawn;
      return import_masked(e, drawn, RandomExpr(random_, drawn).integer(static_cast<int>(pick(0, 3)), DType::i64));
    }
    constexpr Axis kAxes[] = {Axis::b, Axis::h, Axis::q, Axis::kv};
    ExprId at = e.index(kAxes[pick(0, 3)]);
    if (chance(0.5)) at = e.op(Op::sub, DType::i64, {at, e.index(kAxes[pick(0, 3)])});
    if (chance(0.3)) at = e.op(Op::div, DType::i64, {at, e.constant_int(pick(1, 5), DType::i64)});
    return e.op(Op::add, DType::i64, {at, e.constant_int(pick(-3, 9), DType::i64)});
  }

  /// Σ of a random weight into a tensor of rank 0 to 2.
  void capture(int64_t number) {
    BackwardSpec& spec = case_.spec;
    Expr& e = spec.weights;
    const DType t = spec.accumulate;
    ExprId weight = spec.columns[static_cast<size_t>(pick(0, static_cast<int64_t>(spec.columns.size()) - 1))].weight;
    switch (pick(0, 4)) {
      case 0: weight = e.op(Op::mul, t, {weight, e.op(Op::tanh, t, {e.score(t)})}); break;
      case 1: weight = e.op(Op::sub, t, {weight, e.op(Op::sigmoid, t, {e.score(t, 1)})}); break;
      case 2: {
        const ExprId far = e.op(Op::gt, DType::boolean, {index(e), e.constant_int(pick(-5, 40), DType::i64)});
        weight = e.op(Op::select, t, {far, weight, e.constant(0.5, t)});
        break;
      }
      case 3: weight = e.op(Op::mul, t, {e.score(t), e.constant(0.25, t)}); break;
      default: break;
    }
    CapturedSum sum;
    sum.weight = weight;
    std::vector<int64_t> shape;
    for (int64_t rank = pick(0, 2); rank > 0; --rank) {
      sum.index.push_back(index(e));
      shape.push_back(pick(1, 12));
    }
    sum.tensor = static_cast<int>(spec.tensors.size());
    // Sums of all points leave the range of f16.
    const DType narrow = case_.options.forward.dtype == DType::f16 ? t : case_.options.forward.dtype;
    add_tensor("sum" + std::to_string(number), chance(0.5) ? t : narrow, shape, true);
    spec.captured.push_back(std::move(sum));
  }

  std::mt19937_64 random_;
  BackwardCase case_;
  int first_mask_ = -1;  ///< position of the first mask tensor in the spec
};

}  // namespace

BackwardCase random_backward_case(uint64_t seed) { return RandomBackward(seed).make(); }

}  // namespace tilewright::testing
