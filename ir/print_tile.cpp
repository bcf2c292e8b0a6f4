#include <algorithm>

#include "ir/expr_text.h"
#include "ir/text.h"

namespace tilewright {
namespace {

std::string_view to_string(TileShape shape) {
  switch (shape) {
    case TileShape::tile_qk: return "[block_q, block_kv]";
    case TileShape::tile_qv: return "[block_q, value_dim]";
    case TileShape::column: break;
  }
  return "[block_q]";
}

std::string_view to_string(TileOp op) {
  switch (op) {
    case TileOp::fill: return "fill";
    case TileOp::dot: return "dot";
    case TileOp::map_score: return "map_score";
    case TileOp::mask: return "mask";
    case TileOp::row_max: return "row_max";
    case TileOp::row_sum: return "row_sum";
    case TileOp::max: return "max";
    case TileOp::finite_or_zero: return "finite_or_zero";
    case TileOp::exp2_sub: return "exp2_sub";
    case TileOp::mul: return "mul";
    case TileOp::add: return "add";
    case TileOp::map_weight: return "map_weight";
    case TileOp::dot_value: return "dot_value";
    case TileOp::load_sink: return "load_sink";
    case TileOp::div_or_zero: return "div_or_zero";
    case TileOp::log2_add: return "log2_add";
    case TileOp::store_output: return "store_output";
    case TileOp::store_lse: return "store_lse";
  }
  return "?";
}

class TilePrinter {
 public:
  explicit TilePrinter(const TileProgram& program) : program_(program) {}

  std::string run() {
    const AttentionSpec& spec = program_.spec;
    text_ = fmt::format("tile @{} {{\n", spec.name);
    text_ += fmt::format("  score(s; b, h, q, kv) {{\n    {}\n  }}\n",
                         print_expr(program_.score, spec.tensors, {spec.accumulate, spec.accumulate}));
    if (spec.weight_factor)
      text_ += fmt::format("  weight_factor(b, h, q, kv) {{\n    {}\n  }}\n",
                           print_expr(*spec.weight_factor, spec.tensors, {spec.accumulate, spec.accumulate}));
    text_ += fmt::format("  score_scale {}\n", print_scalar({program_.score_scale, 0}, DType::f64));
    size_t width = 0;
    for (const TileValue& value : program_.values) width = std::max(width, value.name.size());
    for (size_t i = 0; i < program_.values.size(); ++i) {
      bool carried = false;
      for (const int id : program_.state) carried |= id == static_cast<int>(i);
      const TileValue& value = program_.values[i];
      text_ += fmt::format("  {} {:<{}} {}\n", carried ? "state" : "value", value.name, width, to_string(value.shape));
    }
    section("init", program_.init);
    section("step", program_.step);
    section("merge", program_.merge);
    section("finish", program_.finish);
    return text_ + "}\n";
  }

 private:
  /// In merge, ids past the table are the right partial state.
  std::string name(int id) const {
    const auto count = static_cast<int>(program_.values.size());
    if (id >= 0 && id < count) return program_.values[static_cast<size_t>(id)].name;
    if (id >= count && id < 2 * count) return "right." + program_.values[static_cast<size_t>(id - count)].name;
    return "?";
  }

  void section(std::string_view title, const std::vector<TileInst>& code) {
    if (code.empty()) return;
    text_ += fmt::format("  {} {{\n", title);
    for (const TileInst& inst : code) {
      std::string args;
      for (const int id : {inst.a, inst.b})
        if (id >= 0) args += (args.empty() ? " " : ", ") + name(id);
      if (inst.op == TileOp::fill || inst.op == TileOp::mask)
        args += (args.empty() ? " " : ", ") + print_scalar({inst.literal, 0}, DType::f64);
      const bool store = inst.op == TileOp::store_output || inst.op == TileOp::store_lse;
      text_ += store ? fmt::format("    {}{}\n", to_string(inst.op), args)
                     : fmt::format("    {} = {}{}\n", name(inst.dst), to_string(inst.op), args);
    }
    text_ += "  }\n";
  }

  const TileProgram& program_;
  std::string text_;
};

}  // namespace

std::string print(const TileProgram& program) { return TilePrinter(program).run(); }

}  // namespace tilewright
