#include "ir/expr_text.h"
#include "ir/text.h"

namespace tilewright {
namespace {

constexpr size_t kLineWidth = 110;

class AttentionPrinter {
 public:
  explicit AttentionPrinter(const AttentionSpec& spec) : spec_(spec) {}

  std::string run() {
    signature();
    line("batch", shape(spec_.batch));
    line("heads", shape(spec_.heads) + (spec_.head_group == 1 ? "" : fmt::format(" group {}", spec_.head_group)));
    line("q_len", to_string(spec_.q_len));
    line("kv_len", to_string(spec_.kv_len));
    line("accumulate", std::string(to_string(spec_.accumulate)));
    for (const DotTerm& dot : spec_.dots) {
      text_ += fmt::format("  dot {} {{\n", dot.head_dim);
      text_ += fmt::format("    query {}\n", access(dot.query));
      text_ += fmt::format("    key   {}\n  }}\n", access(dot.key));
    }
    line("value", fmt::format("{} {}", spec_.value_dim, access(spec_.value)));
    region("score(s; b, h, q, kv)", spec_.score, spec_.accumulate);
    region("keep(b, h, q, kv)", spec_.keep, DType::boolean);
    region("keep_kv(b, h, kv)", spec_.keep_kv, DType::boolean);
    const KvRange& range = spec_.kv_range;
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
    line("normaliser", spec_.normaliser == Normaliser::softmax ? "softmax" : "none");
    if (spec_.sink) region("sink(b, h, q)", *spec_.sink, spec_.accumulate);
    line("output", access(spec_.output));
    if (spec_.logsumexp) line("logsumexp", access(*spec_.logsumexp));
    return text_ + "}\n";
  }

 private:
  void signature() {
    std::vector<std::string> tensors;
    size_t width = spec_.name.size() + 20;
    for (const SpecTensor& tensor : spec_.tensors) {
      tensors.push_back(fmt::format("{}%{}: {}", tensor.output ? "out " : "", tensor.name, to_string(tensor.type)));
      width += tensors.back().size() + 2;
    }
    if (width <= kLineWidth)
      text_ = fmt::format("attention @{}({}) {{\n", spec_.name, fmt::join(tensors, ", "));
    else
      text_ = fmt::format("attention @{}(\n    {}) {{\n", spec_.name, fmt::join(tensors, ",\n    "));
  }

  static std::string shape(const std::vector<Dim>& dims) { return to_string(Shape(dims)); }
  std::string access(const Access& which) const { return print_access(which, spec_.tensors); }

  void line(std::string_view key, const std::string& value) { text_ += fmt::format("  {:<10} {}\n", key, value); }

  /// The Expr, one let a line when it does not fit on one.
  std::string expr(const Expr& value, DType root, size_t indent) const {
    std::string text = print_expr(value, spec_.tensors, {root, spec_.accumulate});
    if (text.size() + indent <= kLineWidth) return text;
    for (size_t at = 0; (at = text.find("; ", at)) != std::string::npos; at += indent + 2)
      text.replace(at, 2, ";\n" + std::string(indent, ' '));
    return text;
  }

  void region(std::string_view header, const Expr& value, DType root) {
    if (!value.empty()) text_ += fmt::format("  {} {{\n    {}\n  }}\n", header, expr(value, root, 4));
  }

  void entry(std::string_view key, const Expr& value, DType root) {
    if (!value.empty()) text_ += fmt::format("    {} {}\n", key, expr(value, root, 5 + key.size()));
  }

  const AttentionSpec& spec_;
  std::string text_;
};

}  // namespace

std::string print(const AttentionSpec& spec) { return AttentionPrinter(spec).run(); }

}  // namespace tilewright
