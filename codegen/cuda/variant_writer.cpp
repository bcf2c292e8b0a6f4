#include "codegen/cuda/variant_writer.h"

#include <algorithm>
#include <numbers>

#include "codegen/cuda/access_writer.h"
#include "codegen/cuda/space_writer.h"
#include "ir/result.h"

namespace tilewright::cuda {
namespace {

bool loads(const Expr& expr) {
  return std::any_of(expr.nodes().begin(), expr.nodes().end(),
                     [](const ExprNode& node) { return node.kind == ExprKind::load; });
}

class VariantWriter : SpaceWriter {
 public:
  VariantWriter(DeviceNames& names, const TileProgram& program, const AttentionSpec& step)
      : SpaceWriter(names, program.spec), program_(program), spec_(program.spec), step_(step) {}

  std::string run() {
    text_ = "struct Variant {\n";
    types();
    constants();
    sizes();
    rows();
    elements();
    expressions();
    ranges();
    return text_ + "};\n";
  }

 private:
  void types() {
    const DotTerm& dot = spec_.dots[0];
    type(operand_dtype(spec_, dot.query, dot.query_row), "Query");
    type(operand_dtype(spec_, dot.key, dot.key_row), "Key");
    type(dtype_of(spec_.value), "Value");
    type(dtype_of(spec_.output), "Output");
    type(spec_.logsumexp ? dtype_of(*spec_.logsumexp) : spec_.accumulate, "Logsumexp");
    type(spec_.accumulate, "Acc");
    text_ += "  struct RowSums { Acc s, t; };  // of a computed row\n\n";
  }

  void constants() {
    constant("kHeadDim", spec_.dots[0].head_dim);
    constant("kValueDim", spec_.value_dim);
    constant("kDotTerms", static_cast<int64_t>(spec_.dots.size()));
    space_constants();
    flag("kSoftmax", spec_.normaliser == Normaliser::softmax);
    flag("kHasSink", spec_.sink.has_value());
    flag("kHasWeightFactor", spec_.weight_factor.has_value());
    flag("kHasLogsumexp", spec_.logsumexp.has_value());
    flag("kPlainScore", program_.score_scale == 1 && program_.score.root_node().kind == ExprKind::score);
    flag("kReadsTensors", loads(program_.score) || loads(spec_.keep) || (spec_.sink && loads(*spec_.sink)) ||
                              (spec_.weight_factor && loads(*spec_.weight_factor)));
    function("void*", "workspace", "", returning(fmt::format("(u8*)args.workspace + {}", names_.workspace_used())));
    text_ += "\n";
  }

  void row(std::string_view pointer, const std::string& name, const AxisNames& axes, Axis position,
           const Access& access) {
    function(pointer, name, axes.parameters(), write_row_address(names_, axes, access));
    function("i64", name + "_row_stride", "", returning(write_access_stride(names_, access, position)));
    if (name != "logsumexp")
      function("i64", name + "_stride", "", returning(write_access_stride(names_, access, Axis::d)));
  }

  void rows() {
    const DotTerm& dot = spec_.dots[0];
    if (!dot.query_row) row("const Query*", "query", kRowAxes, Axis::q, dot.query);
    if (!dot.key_row) row("const Key*", "key", kKeyAxes, Axis::kv, dot.key);
    row("const Value*", "value", kKeyAxes, Axis::kv, spec_.value);
    row("Output*", "output", kRowAxes, Axis::q, spec_.output);
    if (spec_.logsumexp) row("Logsumexp*", "logsumexp", kRowAxes, Axis::q, *spec_.logsumexp);
    text_ += "\n";
  }

  /// Chains over the dot terms: `term` is a constant where these are called.
  void elements() {
    std::string dims;
    for (size_t i = 0; i < spec_.dots.size(); ++i) {
      if (i + 1 < spec_.dots.size()) dims += fmt::format("term == {} ? ", i);
      dims += fmt::format("{}{}", spec_.dots[i].head_dim, i + 1 < spec_.dots.size() ? " : " : "");
    }
    text_ += fmt::format("  TW_DEVICE i32 head_dim(i32 term) {{ return {}; }}\n", dims);
    operand("query", kRowAxes, &DotTerm::query, &DotTerm::query_row);
    operand("key", kKeyAxes, &DotTerm::key, &DotTerm::key_row);
    function("Acc", "value_element", kKeyAxes.parameters() + ", i32 d",
             returning("Acc(load_element(value(args, b, h, kv) + d * value_stride(args)))"));
    text_ += "\n";
  }

  void operand(const std::string& name, const AxisNames& axes, Access DotTerm::* stored,
               std::optional<RowProgram> DotTerm::* computed) {
    const Axis at = name == "query" ? Axis::q : Axis::kv;
    const std::string& position = axes[at];
    std::string sums, values;
    for (size_t i = 0; i < spec_.dots.size(); ++i) {
      const DotTerm &dot = spec_.dots[i], &element = step_.dots[i];
      const std::string suffix = fmt::format("{}_{}", name, i);
      const std::string when = i + 1 < spec_.dots.size() ? fmt::format("if (term == {}) ", i) : "";
      if (element.*computed) {
        computed_row(suffix, axes, at, *(element.*computed));
        sums += fmt::format("  {}return {}_sums(args, b, h, {});\n", when, suffix, position);
        values += fmt::format("  {}return {}_element(args, b, h, {}, d, sums);\n", when, suffix, position);
      } else {
        const std::string row_of = i == 0 ? name : suffix;
        if (i > 0) row(fmt::format("const {}*", storage_type(dtype_of(dot.*stored))), suffix, axes, at, dot.*stored);
        sums += fmt::format("  {}return {{0, 0}};\n", when);
        values += fmt::format("  {0}return Acc(load_element({1}(args, b, h, {2}) + d * {1}_stride(args)));\n", when,
                              row_of, position);
      }
    }
    text_ += "  // Whole warps call it.\n";
    function("RowSums", name + "_sums", ", i32 term" + axes.parameters(), sums);
    function("Acc", name + "_element", ", i32 term" + axes.parameters() + ", i32 d, const RowSums& sums", values);
  }

  void computed_row(const std::string& name, const AxisNames& axes, Axis position, const RowProgram& row) {
    AxisNames inner{{Axis::b, "b"}, {Axis::h, "h"}, {position, axes[position]}, {Axis::d, "i"}};
    const auto value = [&](ExprId root) {
      const WrittenRoots written = write_roots(names_, inner, row.values, {root});
      const std::string lines = indented(written.lines);
      const Term::Kind kind = spec_.accumulate == DType::f64 ? Term::f64 : Term::f32;
      return std::pair{lines, converted(written.roots[0], kind).text};
    };
    std::string body = "  Acc s = 0, t = 0;\n";
    for (size_t i = 0; i < row.sums.size(); ++i) {
      const auto [lines, text] = value(row.sums[i].value);
      const std::string_view sum = i == 0 ? "s" : "t";
      body += fmt::format(
          "  Acc sum_{} = 0;\n  for (i32 i = lane_index(); i < {}; i += 32) {{\n{}    sum_{} += {};\n  }}\n", i,
          row.sums[i].count, lines, i, text);
      body += fmt::format("  {} = warp_sum(sum_{});\n", sum, i);
    }
    function("RowSums", name + "_sums", axes.parameters(), body + "  return {s, t};\n");
    body = row.sums.empty() ? "" : "  const Acc s = sums.s, t = sums.t;\n";
    for (size_t i = 0; i < row.pieces.size(); ++i) {
      const RowPiece& piece = row.pieces[i];
      const auto [lines, text] = value(piece.value);
      const std::string at = piece.begin == 0 ? "d" : fmt::format("(d - {})", piece.begin);
      std::string test = piece.begin == 0 ? "" : fmt::format("d >= {} && ", piece.begin);
      if (piece.step != 1) test += fmt::format("{} % {} == 0 && ", at, piece.step);
      test += fmt::format("d < {}", piece.begin + piece.step * piece.count);
      const std::string index = piece.step == 1 ? at : fmt::format("{} / {}", at, piece.step);
      body += fmt::format("  if ({}) {{\n    const i32 i = {};\n{}    return {};\n  }}\n", test, index, lines, text);
    }
    function("Acc", name + "_element", axes.parameters() + ", i32 d, const RowSums& sums", body + "  return 0;\n");
  }

  void expressions() {
    const DType acc = spec_.accumulate;
    function("Acc", "score", ", Acc s" + kScoreAxes.parameters(), score_body());
    masks();
    if (spec_.sink) function("Acc", "sink", kRowAxes.parameters(), write_body(names_, kRowAxes, *spec_.sink, acc));
    if (spec_.weight_factor)
      function("Acc", "weight_factor", kScoreAxes.parameters(),
               write_body(names_, kScoreAxes, *spec_.weight_factor, acc));
  }

  std::string score_body() {
    if (program_.score_scale == 1) return write_body(names_, kScoreAxes, program_.score, spec_.accumulate);
    Expr scaled;
    const ExprId root = scaled.import(program_.score);
    scaled.set_root(
        scaled.op(Op::mul, spec_.accumulate, {root, scaled.constant(program_.score_scale, spec_.accumulate)}));
    return write_body(names_, kScoreAxes, scaled, spec_.accumulate);
  }

  const TileProgram& program_;
  const AttentionSpec &spec_, &step_;
};

}  // namespace

std::string write_variant(DeviceNames& names, const TileProgram& program, const AttentionSpec& step) {
  return VariantWriter(names, program, step).run();
}

std::string write_attention_text(const TileProgram& program, const AttentionSpec& step,
                                 const std::function<std::string(DeviceNames&)>& more) {
  DeviceNames names(program.spec.tensors, args_layout(step));
  std::string variant = write_variant(names, program, step);
  if (more) variant += "\n" + more(names);
  return fmt::format("// {}\n", step.name) + names.text() + "\n" + variant;
}

}  // namespace tilewright::cuda
