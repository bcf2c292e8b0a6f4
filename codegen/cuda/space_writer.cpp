#include "codegen/cuda/space_writer.h"

#include "codegen/cuda/access_writer.h"

namespace tilewright::cuda {

const AxisNames kRowAxes{{Axis::b, "b"}, {Axis::h, "h"}, {Axis::q, "q"}};
const AxisNames kKeyAxes{{Axis::b, "b"}, {Axis::h, "h"}, {Axis::kv, "kv"}};
const AxisNames kScoreAxes{{Axis::b, "b"}, {Axis::h, "h"}, {Axis::q, "q"}, {Axis::kv, "kv"}};
const AxisNames kRangeAxes{{Axis::b, "b"}, {Axis::h, "h"}, {Axis::q_lo, "q_lo"}, {Axis::q_hi, "q_hi"}};
const AxisNames kBlockAxes{{Axis::b, "b"},       {Axis::h, "h"},         {Axis::q_lo, "q_lo"},
                           {Axis::q_hi, "q_hi"}, {Axis::kv_lo, "kv_lo"}, {Axis::kv_hi, "kv_hi"}};

namespace {

bool is_constant(const Expr& expr, int64_t value) {
  return expr.root_node().kind == ExprKind::constant && expr.root_node().literal.integer == value;
}

}  // namespace

void SpaceWriter::type(DType dtype, std::string_view name) {
  text_ += fmt::format("  typedef {} {};\n", storage_type(dtype), name);
}
void SpaceWriter::constant(std::string_view name, int64_t value) {
  text_ += constant_line("i32", name, fmt::format("{}", value));
}
void SpaceWriter::flag(std::string_view name, bool value) {
  text_ += constant_line("bool", name, value ? "true" : "false");
}

void SpaceWriter::function(std::string_view type, std::string_view name, const std::string& parameters,
                           const std::string& body) {
  const std::string head = fmt::format("TW_DEVICE {} {}(const Args& args{})", type, name, parameters);
  std::string_view line = std::string_view(body).substr(2, body.size() - 3);
  if (line.find('\n') == std::string_view::npos && head.size() + line.size() <= 108)
    text_ += fmt::format("  {} {{ {} }}\n", head, line);
  else
    text_ += fmt::format("  {} {{\n{}  }}\n", head, indented(body));
}

void SpaceWriter::space_constants() {
  constant("kHeadGroup", space_.head_group);
  flag("kMasked", !space_.keep.is_constant_true());
  flag("kHasKeepKv", !space_.keep_kv.is_constant_true());
  flag("kHasSkip", !is_constant(space_.kv_range.skip, 0));
  flag("kHasFull", !is_constant(space_.kv_range.full, 0));
}

void SpaceWriter::sizes() {
  const auto product = [&](const std::vector<Dim>& dims) {
    std::string text;
    for (const Dim& dim : dims) {
      constexpr int kProduct = 5;
      text += (text.empty() ? "" : " * ") + within(converted(write_dim(names_, dim), Term::i32), kProduct);
    }
    return text.empty() ? "1" : text;
  };
  const auto length = [&](const Dim& dim) { return converted(write_dim(names_, dim), Term::i32).text; };
  function("i32", "batch", "", returning(product(space_.batch)));
  function("i32", "heads", "", returning(product(space_.heads)));
  function("i32", "q_len", "", returning(length(space_.q_len)));
  function("i32", "kv_len", "", returning(length(space_.kv_len)));
  text_ += "\n";
}

void SpaceWriter::masks() {
  function("bool", "keep", kScoreAxes.parameters(), write_body(names_, kScoreAxes, space_.keep, DType::boolean));
  function("bool", "keep_kv", kKeyAxes.parameters(), write_body(names_, kKeyAxes, space_.keep_kv, DType::boolean));
}

void SpaceWriter::ranges() {
  const std::string body = [&] {
    const WrittenRoots begin = write_roots(names_, kRangeAxes, space_.kv_range.begin, {space_.kv_range.begin.root()});
    const WrittenRoots end = write_roots(names_, kRangeAxes, space_.kv_range.end, {space_.kv_range.end.root()});
    const auto part = [](const WrittenRoots& written, std::string_view name) {
      return written.lines.empty()
                 ? fmt::format("  {} = {};\n", name, written.roots[0].text)
                 : fmt::format("  {{\n{}  {} = {};\n  }}\n", written.lines, name, written.roots[0].text);
    };
    return part(begin, "begin") + part(end, "end");
  }();
  function("void", "kv_range", kRangeAxes.parameters() + ", i64& begin, i64& end", body);
  function("bool", "skip", kBlockAxes.parameters(),
           write_body(names_, kBlockAxes, space_.kv_range.skip, DType::boolean));
  function("bool", "full", kBlockAxes.parameters(),
           write_body(names_, kBlockAxes, space_.kv_range.full, DType::boolean));
}

}  // namespace tilewright::cuda
