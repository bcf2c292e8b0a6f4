// The loop template: one kernel for a LoopStep, a Step made of its expressions and a call of device/loop.cuh or
// device/contract.cuh.
#include <algorithm>

#include "codegen/cuda/access_writer.h"
#include "codegen/cuda/templates.h"
#include "codegen/cuda/variant_writer.h"
#include "compiler/contract_axes.h"
#include "ir/result.h"

namespace tilewright::cuda {
namespace {

constexpr int64_t kThreads = 128, kContractThreads = 256, kContractSide = 64, kContractDepth = 16;

/// Step axes that are an axis of the output as they are: their indices alone keep elements apart.
std::vector<int> owned_axes(const LoopStep& step) {
  std::vector<int> owned;
  for (int axis = 0; axis < static_cast<int>(step.extents.size()); ++axis)
    if (std::any_of(step.output.axes.begin(), step.output.axes.end(), [&](const Expr& index) {
          const ExprNode& root = index.root_node();
          return root.kind == ExprKind::index && root.axis == static_cast<Axis>(axis);
        }))
      owned.push_back(axis);
  return owned;
}

class LoopWriter {
 public:
  explicit LoopWriter(const LoopStep& step) : step_(step), names_(step.tensors, args_layout(step)) {
    for (int axis = 0; axis < rank(); ++axis) all_.push_back(axis);
    for (int axis = 0; axis < rank(); ++axis) axes_.set(static_cast<Axis>(axis), fmt::format("at.i{}", axis));
  }

  CudaSource run(const std::string& symbol) {
    switch (step_.kind) {
      case LoopKind::pointwise: pointwise(); break;
      case LoopKind::reduce:
      case LoopKind::softmax: folding(); break;
      case LoopKind::scatter: scatter(); break;
      case LoopKind::contract: contract(); break;
    }
    CudaSource source;
    const bool product = step_.kind == LoopKind::contract;
    source.parts = {std::string(device_file("math.cuh")),
                    fmt::format("// {}\n", step_.name) + names_.text() + "\n" + "struct Step {\n" + text_ + "};\n\n",
                    std::string(device_file("loop.cuh")), product ? std::string(device_file("contract.cuh")) : "",
                    fmt::format("\nTW_KERNEL({}, 1) {}(TW_PARAM Args args) {{ {} }}\n", phase_.threads, symbol, call_)};
    phase_.symbol = symbol;
    source.launch.phases.push_back(std::move(phase_));
    source.launch.workspace_bytes = zero_bytes();
    return source;
  }

 private:
  int rank() const { return static_cast<int>(step_.extents.size()); }
  const TensorType& output_type() const { return step_.tensors[static_cast<size_t>(step_.output.tensor)].type; }

  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    text_ += "  " + fmt::format(format, std::forward<Args>(args)...) + "\n";
  }
  std::string extent(int axis) const {
    return converted(write_dim(names_, step_.extents[static_cast<size_t>(axis)]), Term::i32).text;
  }
  std::string product(const std::vector<int>& axes) const {
    std::string text = "i64(1)";
    for (const int axis : axes) text += fmt::format(" * {}", extent(axis));
    return text;
  }

  void types(std::string_view accumulator) {
    line("typedef {} Output;", storage_type(output_type().dtype));
    line("typedef {} Acc;", accumulator);
    std::string indices;
    for (const int axis : all_) indices += fmt::format("{}i{}", axis ? ", " : "", axis);
    line("struct Index {{{}}};\n", indices.empty() ? "" : fmt::format(" i32 {}; ", indices));
  }

  /// Row-major over `axes`: how many, and the index of one.
  void items(const std::vector<int>& axes) {
    line("TW_DEVICE i64 items(const Args& args) {{ return {}; }}", product(axes));
    text_ += "  TW_DEVICE Index index(const Args& args, i64 item) {\n    Index at = {};\n";
    decode(axes, "item");
    text_ += "    return at;\n  }\n";
  }
  void decode(const std::vector<int>& axes, std::string_view flat) {
    for (size_t n = axes.size(); n-- > 0;)
      text_ += n == 0 ? fmt::format("    at.i{} = i32({});\n", axes[n], flat)
                      : fmt::format("    at.i{} = take_index({}, {});\n", axes[n], flat, extent(axes[n]));
  }

  void function(std::string_view type, std::string_view name, std::string_view parameters, const std::string& body) {
    text_ += fmt::format("  TW_DEVICE {} {}(const Args& args{}) {{\n{}  }}\n", type, name, parameters, indented(body));
  }
  /// The value of an expression at an index, converted to `dtype`.
  void expression(std::string_view name, const Expr& expr, DType dtype, std::string_view more = "") {
    function(value_type(dtype), name, fmt::format("{}, const Index& at", more), write_body(names_, axes_, expr, dtype));
  }
  void output() { function("Output*", "output", ", const Index& at", write_row_address(names_, axes_, step_.output)); }

  void pointwise() {
    types(value_type(output_type().dtype));
    items(all_);
    expression("value", step_.value, output_type().dtype);
    output();
    call_ = fmt::format("loop_pointwise<Step, {}>(args);", kThreads);
    launch(extent_product(step_, all_), kThreads);
  }

  void folding() {
    const DType acc = step_.accumulate;
    types(is_float(acc) ? value_type(acc) : "i64");
    std::vector<int> outer;
    for (const int axis : all_)
      if (axis != step_.axis) outer.push_back(axis);
    items(outer);
    line("TW_DEVICE i32 length(const Args& args) {{ return {}; }}", extent(step_.axis));
    line("TW_DEVICE void fold(Index& at, i32 i) {{ at.i{} = i; }}", step_.axis);
    expression("value", step_.value, is_float(acc) ? acc : DType::i64);
    line("static constexpr bool kHasSink = {};", step_.sink.has_value());
    if (step_.sink)
      expression("sink", *step_.sink, acc);
    else
      line("TW_DEVICE Acc sink(const Args&, const Index&) {{ return 0; }}");
    output();
    if (step_.kind == LoopKind::softmax)
      call_ = fmt::format("loop_softmax<Step, {}>(args);", kThreads);
    else if (step_.op == Op::logsumexp)
      call_ = fmt::format("loop_logsumexp<Step, {}>(args);", kThreads);
    else
      call_ = fmt::format("loop_reduce<{}, Step, {}>(args, {});", fold(), kThreads, step_.op == Op::reduce_mean);
    launch(extent_product(step_, outer), kThreads / 32);
  }

  std::string fold() const {
    const bool real = is_float(step_.accumulate);
    const int64_t bits = 8 * size_of(step_.accumulate);
    switch (step_.op) {
      case Op::reduce_max: return real ? "MaxFold" : fmt::format("IntMaxFold<{}>", bits);
      case Op::reduce_min: return real ? "MinFold" : fmt::format("IntMinFold<{}>", bits);
      default: return "SumFold";
    }
  }

  void scatter() {
    const DType dtype = output_type().dtype;
    types(is_float(dtype) ? value_type(dtype) : "i64");
    const std::vector<int> owned = owned_axes(step_);
    std::vector<int> folded;
    for (const int axis : all_)
      if (std::find(owned.begin(), owned.end(), axis) == owned.end()) folded.push_back(axis);
    items(owned);
    line("TW_DEVICE i64 updates(const Args& args) {{ return {}; }}", product(folded));
    text_ += "  TW_DEVICE void set_update(const Args& args, Index& at, i64 n) {\n";
    decode(folded, "n");
    text_ += "  }\n";
    expression("value", step_.value, is_float(dtype) ? dtype : DType::i64);
    output();
    line("TW_DEVICE Output* base(const Args& args) {{ return {}; }}", names_.base(step_.output.tensor));
    // Threads side by side are best side by side in memory, too.
    const bool by_thread = !owned.empty() && owned.back() == rank() - 1;
    call_ = by_thread ? fmt::format("loop_scatter_items<Step, {}>(args);", kThreads)
                      : std::string("loop_scatter<Step>(args);");
    // Nothing where a tensor axis is empty.
    Expr count = extent_product(step_, owned);
    launch(std::move(count), by_thread ? kThreads : 1);
    if (!by_thread) phase_.threads = 32;
    for (const Dim& size : output_type().shape) {
      const ExprId one = phase_.blocks.constant_int(1, DType::i64);
      const ExprId filled = phase_.blocks.op(Op::min, DType::i64, {phase_.blocks.dim(size), one});
      phase_.blocks.set_root(phase_.blocks.op(Op::mul, DType::i64, {phase_.blocks.root(), filled}));
    }
  }

  void contract() {
    const DType acc = step_.accumulate;
    const ContractAxes axes = contract_axes(step_);
    types(value_type(acc));
    items(axes.outer);
    line("TW_DEVICE i64 rows(const Args& args) {{ return {}; }}", product(axes.rows));
    line("TW_DEVICE i64 columns(const Args& args) {{ return {}; }}", extent(axes.column));
    line("TW_DEVICE i32 depth(const Args& args) {{ return {}; }}", extent(axes.depth));
    text_ += "  TW_DEVICE void set_row(const Args& args, Index& at, i64 row) {\n";
    decode(axes.rows, "row");
    text_ += "  }\n";
    line("TW_DEVICE void set_column(Index& at, i32 column) {{ at.i{} = column; }}", axes.column);
    line("TW_DEVICE void set_depth(Index& at, i32 k) {{ at.i{} = k; }}", axes.depth);
    expression("value", step_.value, acc);
    expression("value2", step_.value2, acc);
    Expr epilogue = step_.epilogue;
    if (epilogue.empty()) epilogue.set_root(epilogue.score(acc));
    expression("epilogue", epilogue, output_type().dtype, ", Acc s");
    output();
    call_ = "loop_contract<Step>(args);";
    Expr blocks = extent_product(step_, axes.outer);
    for (const std::vector<int>& side : {axes.rows, std::vector<int>{axes.column}}) {
      const ExprId count = blocks_of(blocks, blocks.import(extent_product(step_, side)), kContractSide);
      blocks.set_root(blocks.op(Op::mul, DType::i64, {blocks.root(), count}));
    }
    phase_.blocks = std::move(blocks);
    phase_.threads = kContractThreads;
    phase_.shared_bytes = 2 * kContractDepth * (kContractSide + 1) * size_of(acc);
  }

  /// n / size, rounded up.
  static ExprId blocks_of(Expr& expr, ExprId n, int64_t size) {
    const ExprId padded = expr.op(Op::add, DType::i64, {n, expr.constant_int(size - 1, DType::i64)});
    return expr.op(Op::div, DType::i64, {padded, expr.constant_int(size, DType::i64)});
  }
  void launch(Expr items, int64_t per_block) {
    phase_.blocks = std::move(items);
    phase_.blocks.set_root(blocks_of(phase_.blocks, phase_.blocks.root(), per_block));
    phase_.threads = kThreads;
  }

  const LoopStep& step_;
  DeviceNames names_;
  AxisNames axes_;
  std::vector<int> all_;
  std::string text_, call_;
  CudaPhase phase_;
};

}  // namespace

Result<CudaSource> generate_loop(const LoopStep& step, const CudaSchedule& schedule, const CudaTarget&,
                                 const std::string& symbol_prefix) {
  CudaSource source = LoopWriter(step).run(symbol_prefix + "_loop");
  source.launch.schedule = schedule;
  return source;
}

}  // namespace tilewright::cuda
