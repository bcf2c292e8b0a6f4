#include "ir/space_text.h"

namespace tilewright {
namespace {

constexpr size_t kLineWidth = 110;

std::string dims(const std::vector<Dim>& of) { return to_string(Shape(of)); }

}  // namespace

void SpacePrinter::print_space(std::string_view keyword) {
  signature(keyword);
  line("batch", dims(space_.batch));
  line("heads", dims(space_.heads) + (space_.head_group == 1 ? "" : fmt::format(" group {}", space_.head_group)));
  line("q_len", to_string(space_.q_len));
  line("kv_len", to_string(space_.kv_len));
  line("accumulate", std::string(to_string(space_.accumulate)));
  if (space_.precision != PrecisionPolicy::f32) line("precision", std::string(to_string(space_.precision)));
  for (const DotTerm& term : space_.dots) dot("dot", term);
}

void SpacePrinter::print_masks() {
  region("keep(b, h, q, kv)", space_.keep, DType::boolean);
  region("keep_kv(b, h, kv)", space_.keep_kv, DType::boolean);
  const KvRange& range = space_.kv_range;
  if (!range.begin.empty() || !range.end.empty()) {
    text_ += "  kv_range(b, h, q_lo, q_hi) {\n";
    entry("begin", range.begin, DType::i64);
    entry("end  ", range.end, DType::i64);
    text_ += "  }\n";
  }
  if (!range.skip.empty() || !range.full.empty()) {
    text_ += "  block(b, h, q_lo, q_hi, kv_lo, kv_hi) {\n";
    entry("skip", range.skip, DType::boolean);
    entry("full", range.full, DType::boolean);
    text_ += "  }\n";
  }
}

void SpacePrinter::dot(std::string_view keyword, const DotTerm& term) {
  text_ += fmt::format("  {} {} {{\n", keyword, term.head_dim);
  operand("query", "q", term.query, term.query_row);
  operand("key  ", "kv", term.key, term.key_row);
  text_ += "  }\n";
}

void SpacePrinter::operand(std::string_view keyword, std::string_view position, const Access& stored,
                           const std::optional<RowProgram>& row) {
  if (!row) {
    text_ += fmt::format("    {} {}\n", keyword, access(stored));
    return;
  }
  std::vector<TypedRoot> typed;
  for (const ExprId root : roots(*row)) typed.push_back({root, space_.accumulate});
  const PrintedLets printed = print_lets(row->values, typed, space_.tensors, {std::nullopt, space_.accumulate});
  const std::string narrow = row->dtype == DType::f32 ? "" : fmt::format("{} ", to_string(row->dtype));
  text_ += fmt::format("    {} {}row(s, t; b, h, {}, d) {{\n", keyword, narrow, position);
  for (const std::string& let : printed.lets) text_ += fmt::format("      {}\n", let);
  size_t next = 0;
  for (const RowSum& sum : row->sums) text_ += fmt::format("      sum {} {}\n", sum.count, printed.roots[next++]);
  for (const RowPiece& piece : row->pieces) {
    const std::string step = piece.step == 1 ? "" : fmt::format(":{}", piece.step);
    text_ += fmt::format("      columns {}:{}{} {}\n", piece.begin, piece.begin + piece.step * piece.count, step,
                         printed.roots[next++]);
  }
  text_ += "    }\n";
}

void SpacePrinter::region(std::string_view header, const Expr& value, DType root) {
  if (!value.empty()) text_ += fmt::format("  {} {{\n    {}\n  }}\n", header, expr(value, root, 4));
}

void SpacePrinter::signature(std::string_view keyword) {
  std::vector<std::string> tensors;
  size_t width = space_.name.size() + keyword.size() + 11;
  for (const SpecTensor& tensor : space_.tensors) {
    tensors.push_back(fmt::format("{}%{}: {}", tensor.output ? "out " : "", tensor.name, to_string(tensor.type)));
    width += tensors.back().size() + 2;
  }
  if (width <= kLineWidth)
    text_ = fmt::format("{} @{}({}) {{\n", keyword, space_.name, fmt::join(tensors, ", "));
  else
    text_ = fmt::format("{} @{}(\n    {}) {{\n", keyword, space_.name, fmt::join(tensors, ",\n    "));
}

std::string SpacePrinter::expr(const Expr& value, DType root, size_t indent) const {
  std::string text = print_expr(value, space_.tensors, {root, space_.accumulate});
  if (text.size() + indent <= kLineWidth) return text;
  for (size_t at = 0; (at = text.find("; ", at)) != std::string::npos; at += indent + 2)
    text.replace(at, 2, ";\n" + std::string(indent, ' '));
  return text;
}

void SpacePrinter::entry(std::string_view key, const Expr& value, DType root) {
  if (!value.empty()) text_ += fmt::format("    {} {}\n", key, expr(value, root, 5 + key.size()));
}

}  // namespace tilewright
