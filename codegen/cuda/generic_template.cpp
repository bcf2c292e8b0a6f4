// The generic template's kernel: the TileProgram's ops as calls of device/generic_tiles.cuh.
#include <limits>

#include "codegen/cuda/expr_writer.h"
#include "codegen/cuda/templates.h"
#include "codegen/cuda/variant_writer.h"
#include "compiler/cuda_generic_layout.h"
#include "ir/result.h"

namespace tilewright::cuda {
namespace {

class GenericWriter {
 public:
  GenericWriter(const TileProgram& program, const CudaSchedule& schedule)
      : program_(program),
        schedule_(schedule),
        layout_(generic_cuda_layout(program, schedule)),
        kind_(program.spec.accumulate == DType::f64 ? Term::f64 : Term::f32) {}

  std::string run(const std::string& symbol) {
    text_ = fmt::format("\nTW_KERNEL({}, 1) {}(TW_PARAM Args args) {{\n", 32 * schedule_.warps, symbol);
    line("typedef Variant::Acc Acc;");
    tiles();
    line("const QueryRows rows = query_rows<Variant, {}>(args);", schedule_.block_q);
    line("load_queries<Variant>(args, rows, q_tile);");
    for (const TileInst& inst : program_.init) op(inst);
    line("");
    line("i64 begin = 0, end = 0;");
    line("Variant::kv_range(args, rows.b, rows.h, rows.q_begin, rows.q_end - 1, begin, end);");
    line("begin = int_max(begin, i64(0));");
    line("end = int_min(end, i64(Variant::kv_len(args)));");
    line("TW_NO_UNROLL");
    line("for (i64 at = begin; at < end; at += {}) {{", schedule_.block_kv);
    indent_ = "    ";
    line("const i32 kv = i32(at), kv_end = i32(int_min(at + {}, end));", schedule_.block_kv);
    line("if (Variant::skip(args, rows.b, rows.h, rows.q_begin, rows.q_end - 1, kv, kv_end - 1)) continue;");
    line("load_keys_and_values<Variant>(args, rows, kv, kv_end, k_tile, v_tile);");
    for (const TileInst& inst : program_.step) op(inst);
    indent_ = "  ";
    line("}}");
    line("");
    for (const TileInst& inst : program_.finish) op(inst);
    return text_ + "}\n";
  }

  int64_t shared_bytes() const { return layout_.bytes; }

 private:
  template <class... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    const std::string body = fmt::format(format, std::forward<Args>(args)...);
    text_ += body.empty() ? "\n" : std::string(indent_) + body + "\n";
  }

  void tiles() {
    line("const u32 base = shared_base();");
    const auto tile = [&](std::string_view name, int64_t rows, int64_t columns, int64_t offset) {
      line("const Tile<Acc, {}, {}, {}> {}{{base + {}}};", rows, columns, 32 * schedule_.warps, name, offset);
    };
    for (size_t i = 0; i < program_.values.size(); ++i)
      if (layout_.values[i] >= 0)
        tile(program_.values[i].name, schedule_.block_q, tile_columns(program_, schedule_, program_.values[i].shape),
             layout_.values[i]);
    tile("q_tile", schedule_.block_q, layout_.head_dim, layout_.queries);
    tile("k_tile", schedule_.block_kv, layout_.head_dim, layout_.keys);
    tile("v_tile", schedule_.block_kv, program_.spec.value_dim, layout_.value_rows);
    line("");
  }

  const std::string& name(int id) const { return program_.values[static_cast<size_t>(id)].name; }

  void op(const TileInst& inst) {
    constexpr std::string_view kBlock = "args, rows, kv, kv_end";
    switch (inst.op) {
      case TileOp::fill: return line("tile_fill({}, {});", name(inst.dst), real_literal(inst.literal, kind_).text);
      case TileOp::dot: return line("tile_dot({}, q_tile, k_tile);", name(inst.dst));
      case TileOp::map_score: return line("tile_map_score<Variant>({}, {}, {});", kBlock, name(inst.dst), name(inst.a));
      case TileOp::mask:
        return line("tile_mask<Variant>({}, {}, {}, {});", kBlock, name(inst.dst), name(inst.a),
                    real_literal(inst.literal, kind_).text);
      case TileOp::map_weight:
        return line("tile_map_weight<Variant>({}, {}, {});", kBlock, name(inst.dst), name(inst.a));
      case TileOp::row_max: return line("tile_row_max({}, {});", name(inst.dst), name(inst.a));
      case TileOp::row_sum: return line("tile_row_sum({}, {});", name(inst.dst), name(inst.a));
      case TileOp::max: return line("tile_max({}, {}, {});", name(inst.dst), name(inst.a), name(inst.b));
      case TileOp::finite_or_zero: return line("tile_finite_or_zero({}, {});", name(inst.dst), name(inst.a));
      case TileOp::exp2_sub: return line("tile_exp2_sub({}, {}, {});", name(inst.dst), name(inst.a), name(inst.b));
      case TileOp::mul: return line("tile_mul({}, {}, {});", name(inst.dst), name(inst.a), name(inst.b));
      case TileOp::add: return line("tile_add({}, {}, {});", name(inst.dst), name(inst.a), name(inst.b));
      case TileOp::dot_value:
        return line("tile_dot_value({}, {}, {}, v_tile);", name(inst.dst), name(inst.a), name(inst.b));
      case TileOp::load_sink: return line("tile_load_sink<Variant>(args, rows, {});", name(inst.dst));
      case TileOp::div_or_zero:
        return line("tile_div_or_zero({}, {}, {});", name(inst.dst), name(inst.a), name(inst.b));
      case TileOp::log2_add: return line("tile_log2_add({}, {}, {});", name(inst.dst), name(inst.a), name(inst.b));
      case TileOp::store_output: return line("store_output<Variant>(args, rows, {});", name(inst.a));
      case TileOp::store_lse: return line("store_lse<Variant>(args, rows, {});", name(inst.a));
    }
  }

  const TileProgram& program_;
  const CudaSchedule& schedule_;
  const GenericCudaLayout layout_;
  Term::Kind kind_;
  std::string text_;
  std::string_view indent_ = "  ";
};

}  // namespace

Expr zero_bytes() {
  Expr none;
  none.set_root(none.constant_int(0, DType::i64));
  return none;
}

Result<CudaSource> generate_generic(const TileProgram& program, const CudaSchedule& schedule, const CudaTarget&,
                                    const std::string& symbol_prefix) {
  const std::string symbol = symbol_prefix + "_generic";
  GenericWriter writer(program, schedule);
  CudaSource source;
  source.parts = {std::string(device_file("math.cuh")), write_attention_text(program, program.spec),
                  "\n" + std::string(device_file("generic_tiles.cuh")), writer.run(symbol)};
  source.launch.schedule = schedule;
  source.launch.phases.push_back(
      {symbol, item_count(program.spec, schedule.block_q), 32 * schedule.warps, writer.shared_bytes(), {}});
  source.launch.workspace_bytes = zero_bytes();
  return source;
}

}  // namespace tilewright::cuda
