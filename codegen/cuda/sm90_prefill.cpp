// The sm_90a prefill kernel: what its device files need besides Variant, the instantiation, and the tensor maps.
#include <cmath>
#include <set>

#include "codegen/cuda/access_writer.h"
#include "codegen/cuda/templates.h"
#include "codegen/cuda/variant_writer.h"
#include "compiler/cuda_sm90_layout.h"
#include "compiler/plan_sm90_prefill.h"
#include "ir/result.h"

namespace tilewright::cuda {
namespace {

constexpr int64_t kBoxColumns = 64, kWarpgroupRows = 64;
constexpr std::string_view kDeviceFiles[] = {"sm90_tiles.cuh", "sm90_pipeline.cuh", "sm90_softmax.cuh",
                                             "sm90_finish.cuh", "sm90_prefill.cuh"};

/// A score without a positive constant factor at its root, which the exponent's multiply-add takes.
struct ScaledScore {
  TileProgram program;
  double scale = 1;
};
ScaledScore without_scale(const TileProgram& program) {
  ScaledScore result{program, program.score_scale};
  result.program.score_scale = 1;
  if (program.spec.normaliser != Normaliser::softmax) return {program, 1};
  const ExprNode& root = program.score.root_node();
  if (root.kind != ExprKind::op || root.op != Op::mul) return result;
  for (const size_t side : {0, 1}) {
    const ExprNode& factor = program.score[root.args[side]];
    const double scale = factor.literal.real * program.score_scale;
    if (factor.kind != ExprKind::constant || !(scale > 0) || !std::isnormal(static_cast<float>(scale))) continue;
    result.scale = scale;
    Expr score;
    score.set_root(score.import(program.score, root.args[1 - side]));
    result.program.score = std::move(score);
    return result;
  }
  return result;
}

class Sm90Writer {
 public:
  Sm90Writer(const WorkspaceRows& rows, const CudaSchedule& schedule, const CudaTarget& target)
      : scaled_(without_scale(rows.program)),
        spec_(rows.program.spec),
        step_(rows.step),
        schedule_(schedule),
        target_(target),
        layout_(sm90_cuda_layout(rows.program.spec, schedule)) {}

  std::vector<std::string> parts(const std::string& symbol) {
    std::vector<std::string> parts = {
        std::string(device_file("math.cuh")), std::string(device_file("recurrence.cuh")), products(),
        write_attention_text(scaled_.program, step_, [&](DeviceNames& names) { return operands(names); })};
    for (const std::string_view file : kDeviceFiles) parts.emplace_back("\n" + std::string(device_file(file)));
    parts.push_back(kernel(symbol));
    return parts;
  }

  CudaPhase phase(const std::string& symbol) const {
    CudaPhase phase{symbol, item_count(spec_, schedule_.block_q), 32 * schedule_.warps, layout_.bytes, {}};
    if (layout_.persistent) {
      Expr& blocks = phase.blocks;
      const ExprId count = blocks.root();
      blocks.set_root(blocks.op(
          Op::min, DType::i64,
          {count, blocks.constant_int(target_.multiprocessors * layout_.blocks_per_multiprocessor, DType::i64)}));
    }
    phase.blocks_per_multiprocessor = layout_.blocks_per_multiprocessor;
    const DotTerm& dot = spec_.dots[0];
    phase.tensor_maps = {map(dot.query, Axis::q, schedule_.block_q), map(dot.key, Axis::kv, schedule_.block_kv),
                         map(spec_.value, Axis::kv, schedule_.block_kv)};
    if (layout_.tma_store) phase.tensor_maps.push_back(map(spec_.output, Axis::q, kWarpgroupRows));
    return phase;
  }

 private:
  std::string_view element(const Access& access) const {
    return operand_dtype(spec_, access) == DType::bf16 ? "bf16" : "f16";
  }

  /// The products that the kernel uses, each named once.
  std::string products() const {
    const std::set<std::pair<std::string_view, int64_t>> used = {{element(spec_.dots[0].key), schedule_.block_kv},
                                                                 {element(spec_.value), spec_.value_dim}};
    std::string text;
    std::set<int64_t> sizes;
    for (const auto& [type, columns] : used) {
      text += fmt::format("TW_WGMMA({}, {})\n", type, columns);
      if (sizes.insert(columns).second) text += fmt::format("TW_REGISTER_FENCE({})\n", columns);
    }
    return text;
  }

  TensorMapAccess access_of(const Access& access, Axis position) const {
    const auto found = analyze_tensor_map(spec_, access, position, position == Axis::q ? spec_.q_len : spec_.kv_len, 0);
    TW_CHECK(std::holds_alternative<TensorMapAccess>(found) && "the plan refuses what has no tensor map");
    return std::get<TensorMapAccess>(found);
  }

  /// Tensor axes in the order of a map: columns, rows, the rest from the last to the first.
  std::vector<int> axes(const Access& access, Axis position) const {
    const TensorMapAccess at = access_of(access, position);
    std::vector<int> order = {at.column_axis, at.row_axis};
    for (int i = static_cast<int>(access.axes.size()) - 1; i >= 0; --i)
      if (i != at.column_axis && i != at.row_axis) order.push_back(i);
    return order;
  }

  TensorMapPlan map(const Access& access, Axis position, int64_t rows) const {
    TensorMapPlan plan{access.tensor, axes(access, position), {kBoxColumns, rows}};
    plan.box.resize(plan.axes.size(), 1);
    return plan;
  }

  std::string coordinates(DeviceNames& names, const Access& access, Axis position) const {
    const AxisNames axis_names{{Axis::b, "b"}, {Axis::h, "h"}, {position, "row"}, {Axis::d, "column"}};
    std::string text;
    for (const int axis : axes(access, position)) {
      const Expr& at = access.axes[static_cast<size_t>(axis)];
      const WrittenRoots written = write_roots(names, axis_names, at, {at.root()});
      TW_CHECK(written.lines.empty() && "an access is one expression");
      text += ", " + converted(written.roots[0], Term::i32).text;
    }
    return text;
  }

  void load(std::string& text, DeviceNames& names, std::string_view name, const Access& access, Axis position) const {
    text += fmt::format(
        "  TW_DEVICE void load_{}(const Args& args, const TensorMap* map, u32 target, u32 barrier, i32 b, i32 h, i32 "
        "row, "
        "i32 column) {{\n    tma_load_{}d(target, map, barrier{});\n  }}\n",
        name, access.axes.size(), coordinates(names, access, position));
  }

  std::string operands(DeviceNames& names) const {
    const auto flag = [](std::string_view name, bool value) {
      return constant_line("bool", name, value ? "true" : "false");
    };
    std::string text = "struct Operands : Variant {\n";
    text += constant_line("float", "kScoreScale", real_literal(scaled_.scale, Term::f32).text);
    text +=
        flag("kTmaStore", layout_.tma_store) + flag("kClearValues", layout_.clear_values) +
        flag("kLongestFirst", layout_.longest_first) +
        flag("kTakeTurns", layout_.consumers > 1 && std::max(spec_.dots[0].head_dim, spec_.value_dim) <= kMaxTurnDim);
    text += constant_line("i32", "kSumsAtOnce", fmt::format("{}", layout_.sums_at_once));
    text += constant_line("i64", "kL2Bytes", fmt::format("{}", target_.l2_bytes / 2));
    load(text, names, "query", spec_.dots[0].query, Axis::q);
    load(text, names, "key", spec_.dots[0].key, Axis::kv);
    load(text, names, "value", spec_.value, Axis::kv);
    if (layout_.tma_store)
      text += fmt::format(
          "  TW_DEVICE void store_output(const Args& args, const TensorMap* map, u32 source, i32 b, i32 h, i32 row, "
          "i32 "
          "column) {{\n    tma_store_{}d(map, source{});\n  }}\n",
          spec_.output.axes.size(), coordinates(names, spec_.output, Axis::q));
    return text + "};\n";
  }

  std::string kernel(const std::string& symbol) const {
    return fmt::format(
        "\ntypedef Sm90Layout<Operands, {}, {}, {}, {}, {}, {}> Layout;\n"
        "static_assert(Layout::kBarriers + Sm90Barriers<Layout>::kBytes == {}, \"the host's size of shared memory\");\n"
        "TW_KERNEL({}, {}) {}(TW_PARAM Args args, TW_PARAM TensorMap query_map, TW_PARAM TensorMap key_map,\n"
        "{:{}}TW_PARAM TensorMap value_map{}) {{\n"
        "  sm90_prefill<Operands, Layout>(args, &query_map, &key_map, &value_map, &{});\n}}\n",
        schedule_.block_q, schedule_.block_kv, schedule_.stages, layout_.consumers, layout_.producer_registers,
        layout_.consumer_registers, layout_.bytes, 32 * schedule_.warps, layout_.blocks_per_multiprocessor, symbol, "",
        20, layout_.tma_store ? ", TW_PARAM TensorMap output_map" : "", layout_.tma_store ? "output_map" : "query_map");
  }

  /// Consumers take turns up to here: beyond, registers leave tiles so small that the tensor cores wait anyway.
  static constexpr int64_t kMaxTurnDim = 128;

  const ScaledScore scaled_;
  const AttentionSpec &spec_, &step_;
  const CudaSchedule& schedule_;
  const CudaTarget& target_;
  const Sm90CudaLayout layout_;
};

}  // namespace

Result<CudaSource> generate_sm90_prefill(const WorkspaceRows& rows, const CudaSchedule& schedule,
                                         const CudaTarget& target, const std::string& symbol_prefix) {
  if (auto legal = validate_sm90_prefill(rows.program, schedule, target); !legal) return legal.error();
  const std::string symbol = symbol_prefix + "_sm90_prefill";
  Sm90Writer writer(rows, schedule, target);
  CudaSource source;
  source.primitives = CudaPrimitives::sm90;
  source.parts = writer.parts(symbol);
  source.launch.schedule = schedule;
  source.launch.phases.push_back(writer.phase(symbol));
  source.launch.workspace_bytes = zero_bytes();
  return source;
}

}  // namespace tilewright::cuda
