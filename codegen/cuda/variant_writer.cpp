#include "codegen/cuda/variant_writer.h"

#include <numbers>

#include "codegen/cuda/access_writer.h"
#include "codegen/cuda/cuda_source.h"
#include "codegen/philox.h"
#include "ir/result.h"

namespace tilewright::cuda {
namespace {

const AxisNames kRowAxes{{Axis::b, "b"}, {Axis::h, "h"}, {Axis::q, "q"}};
const AxisNames kKeyAxes{{Axis::b, "b"}, {Axis::h, "h"}, {Axis::kv, "kv"}};
const AxisNames kScoreAxes{{Axis::b, "b"}, {Axis::h, "h"}, {Axis::q, "q"}, {Axis::kv, "kv"}};
const AxisNames kRangeAxes{{Axis::b, "b"}, {Axis::h, "h"}, {Axis::q_lo, "q_lo"}, {Axis::q_hi, "q_hi"}};
const AxisNames kBlockAxes{{Axis::b, "b"},       {Axis::h, "h"},         {Axis::q_lo, "q_lo"},
                           {Axis::q_hi, "q_hi"}, {Axis::kv_lo, "kv_lo"}, {Axis::kv_hi, "kv_hi"}};

bool is_constant(const Expr& expr, int64_t value) {
  return expr.root_node().kind == ExprKind::constant && expr.root_node().literal.integer == value;
}

class VariantWriter {
 public:
  VariantWriter(DeviceNames& names, const TileProgram& program)
      : names_(names), program_(program), spec_(program.spec) {}

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
  DType dtype_of(const Access& access) const { return spec_.tensors[static_cast<size_t>(access.tensor)].type.dtype; }

  void types() {
    const DotTerm& dot = spec_.dots[0];
    const auto define = [&](DType dtype, std::string_view name) {
      text_ += fmt::format("  typedef {} {};\n", storage_type(dtype), name);
    };
    define(operand_dtype(spec_, dot.query, dot.query_row), "Query");
    define(operand_dtype(spec_, dot.key, dot.key_row), "Key");
    define(dtype_of(spec_.value), "Value");
    define(dtype_of(spec_.output), "Output");
    define(spec_.logsumexp ? dtype_of(*spec_.logsumexp) : spec_.accumulate, "Logsumexp");
    define(spec_.accumulate, "Acc");
    text_ += "  struct RowSums { Acc s, t; };  // of a computed row\n\n";
  }

  void constants() {
    const auto integer = [&](std::string_view name, int64_t value) {
      text_ += constant_line("i32", name, fmt::format("{}", value));
    };
    const auto flag = [&](std::string_view name, bool value) {
      text_ += constant_line("bool", name, value ? "true" : "false");
    };
    integer("kHeadDim", spec_.dots[0].head_dim);
    integer("kValueDim", spec_.value_dim);
    integer("kHeadGroup", spec_.head_group);
    integer("kDotTerms", static_cast<int64_t>(spec_.dots.size()));
    flag("kSoftmax", spec_.normaliser == Normaliser::softmax);
    flag("kMasked", !spec_.keep.is_constant_true());
    flag("kHasKeepKv", !spec_.keep_kv.is_constant_true());
    flag("kHasSink", spec_.sink.has_value());
    flag("kHasWeightFactor", spec_.weight_factor.has_value());
    flag("kHasLogsumexp", spec_.logsumexp.has_value());
    flag("kHasSkip", !is_constant(spec_.kv_range.skip, 0));
    flag("kHasFull", !is_constant(spec_.kv_range.full, 0));
    text_ += "\n";
  }

  /// "  TW_DEVICE type name(const Args& args, parameters) { body }" on one line where it is short.
  void function(std::string_view type, std::string_view name, const std::string& parameters, const std::string& body) {
    const std::string head = fmt::format("TW_DEVICE {} {}(const Args& args{})", type, name, parameters);
    std::string_view line = std::string_view(body).substr(2, body.size() - 3);
    if (line.find('\n') == std::string_view::npos && head.size() + line.size() <= 108)
      text_ += fmt::format("  {} {{ {} }}\n", head, line);
    else
      text_ += fmt::format("  {} {{\n{}  }}\n", head, indented(body));
  }
  static std::string indented(const std::string& body) {
    std::string text;
    size_t begin = 0;
    while (begin < body.size()) {
      const size_t end = body.find('\n', begin);
      text += "  " + body.substr(begin, end + 1 - begin);
      begin = end + 1;
    }
    return text;
  }
  static std::string returning(const std::string& value) { return fmt::format("  return {};\n", value); }

  void sizes() {
    const auto product = [&](const std::vector<Dim>& dims) {
      std::string text;
      for (const Dim& dim : dims) {
        constexpr int kProduct = 5;
        text += (text.empty() ? "" : " * ") + within(converted(write_dim(names_, dim), Term::i32), kProduct);
      }
      return text.empty() ? "1" : text;
    };
    const auto length = [&](const Dim& dim) { return converted(write_dim(names_, dim), Term::i32).text; };
    function("i32", "batch", "", returning(product(spec_.batch)));
    function("i32", "heads", "", returning(product(spec_.heads)));
    function("i32", "q_len", "", returning(length(spec_.q_len)));
    function("i32", "kv_len", "", returning(length(spec_.kv_len)));
    text_ += "\n";
  }

  void row(std::string_view type, const std::string& name, const AxisNames& axes, Axis position, const Access& access) {
    function(type, name, axes.parameters(), write_row_address(names_, axes, access));
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
      const DotTerm& dot = spec_.dots[i];
      const std::string suffix = fmt::format("{}_{}", name, i);
      const std::string when = i + 1 < spec_.dots.size() ? fmt::format("if (term == {}) ", i) : "";
      if (dot.*computed) {
        computed_row(suffix, axes, at, *(dot.*computed));
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
    const auto value = [&](ExprId root, std::string_view indent) {
      WrittenRoots written = write_roots(names_, inner, row.values, {root});
      std::string lines;
      for (size_t begin = 0; begin < written.lines.size();) {
        const size_t end = written.lines.find('\n', begin);
        lines += std::string(indent) + written.lines.substr(begin, end + 1 - begin);
        begin = end + 1;
      }
      const Term::Kind kind = spec_.accumulate == DType::f64 ? Term::f64 : Term::f32;
      return std::pair{lines, converted(written.roots[0], kind).text};
    };
    std::string body = "  Acc s = 0, t = 0;\n";
    for (size_t i = 0; i < row.sums.size(); ++i) {
      const auto [lines, text] = value(row.sums[i].value, "  ");
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
      const auto [lines, text] = value(piece.value, "  ");
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
    function("bool", "keep", kScoreAxes.parameters(), write_body(names_, kScoreAxes, spec_.keep, DType::boolean));
    function("bool", "keep_kv", kKeyAxes.parameters(), write_body(names_, kKeyAxes, spec_.keep_kv, DType::boolean));
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

  void ranges() {
    const std::string body = [&] {
      const WrittenRoots begin = write_roots(names_, kRangeAxes, spec_.kv_range.begin, {spec_.kv_range.begin.root()});
      const WrittenRoots end = write_roots(names_, kRangeAxes, spec_.kv_range.end, {spec_.kv_range.end.root()});
      const auto part = [](const WrittenRoots& written, std::string_view name) {
        return written.lines.empty()
                   ? fmt::format("  {} = {};\n", name, written.roots[0].text)
                   : fmt::format("  {{\n{}  {} = {};\n  }}\n", written.lines, name, written.roots[0].text);
      };
      return part(begin, "begin") + part(end, "end");
    }();
    function("void", "kv_range", kRangeAxes.parameters() + ", i64& begin, i64& end", body);
    function("bool", "skip", kBlockAxes.parameters(),
             write_body(names_, kBlockAxes, spec_.kv_range.skip, DType::boolean));
    function("bool", "full", kBlockAxes.parameters(),
             write_body(names_, kBlockAxes, spec_.kv_range.full, DType::boolean));
  }

  DeviceNames& names_;
  const TileProgram& program_;
  const AttentionSpec& spec_;
  std::string text_;
};

}  // namespace

std::string constant_line(std::string_view type, std::string_view name, std::string_view value) {
  return fmt::format("  static constexpr {} {} = {};\n", type, name, value);
}

bool draws_random(const Expr& expr) {
  for (const ExprNode& node : expr.nodes())
    if (node.kind == ExprKind::op && node.op == Op::random_bits) return true;
  return false;
}

std::string random_text() {
  std::string text;
  const auto constant = [&](std::string_view name, uint32_t value) {
    text += fmt::format("static constexpr u32 {} = {:#x}u;\n", name, value);
  };
  text += fmt::format("static constexpr i32 kPhiloxRounds = {};\n", kPhiloxRounds);
  constant("kPhiloxMultiplier0", kPhiloxMultiplier0);
  constant("kPhiloxMultiplier1", kPhiloxMultiplier1);
  constant("kPhiloxKeyStep0", kPhiloxKeyStep0);
  constant("kPhiloxKeyStep1", kPhiloxKeyStep1);
  return text + std::string(device_file("philox.cuh"));
}

std::string write_variant(DeviceNames& names, const TileProgram& program) {
  return VariantWriter(names, program).run();
}

std::string write_attention_text(const TileProgram& program) {
  const AttentionSpec& spec = program.spec;
  DeviceNames names(spec.tensors, args_layout(spec));
  const std::string variant = write_variant(names, program);
  bool random = draws_random(program.score) || draws_random(spec.keep);
  if (spec.weight_factor) random = random || draws_random(*spec.weight_factor);
  if (spec.sink) random = random || draws_random(*spec.sink);
  return (random ? random_text() : "") + fmt::format("// {}\n", spec.name) + names.text() + "\n" + variant;
}

}  // namespace tilewright::cuda
