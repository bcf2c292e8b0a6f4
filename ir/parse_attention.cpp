#include <set>

#include "ir/expr_text.h"
#include "ir/text.h"

namespace tilewright {
namespace {

/// Sections in any order, each once (dot as often as there are terms). `accumulate` must stand before what is of its
/// dtype: score and sink.
class AttentionParser {
 public:
  explicit AttentionParser(std::string_view text) : in_(text) {}

  Result<AttentionSpec> run() {
    parse_signature();
    while (!in_.failed() && !in_.at_mark("}")) parse_section();
    for (const char* needed :
         {"batch", "heads", "q_len", "kv_len", "dot", "value", "score", "keep", "normaliser", "output"})
      if (!in_.failed() && !seen_.count(needed))
        in_.fail(fmt::format("attention @{} has no section '{}'", spec_.name, needed));
    in_.expect_mark("}", "at the end of the attention");
    if (!in_.errors().empty()) return in_.errors();
    return std::move(spec_);
  }

 private:
  void parse_signature() {
    in_.expect_word("attention", "at the start");
    spec_.name = in_.expect(TokenKind::symbol, "the attention's name, such as @prefill");
    in_.expect_mark("(", "before the tensors");
    if (!in_.accept_mark(")")) {
      do parse_tensor();
      while (in_.accept_mark(","));
      in_.expect_mark(")", "or ',' after a tensor");
    }
    in_.expect_mark("{", "before the sections");
  }

  void parse_tensor() {
    SpecTensor tensor;
    tensor.output = in_.accept_word("out");
    const Token token = in_.peek();
    tensor.name = in_.expect(TokenKind::value, "a tensor, such as %q: f32[B,8,Sq,64]");
    for (const SpecTensor& other : spec_.tensors)
      if (other.name == tensor.name) in_.fail(fmt::format("%{} is listed twice", tensor.name), token.line);
    in_.expect_mark(":", "and the type of the tensor");
    tensor.type = in_.parse_type();
    spec_.tensors.push_back(std::move(tensor));
  }

  void parse_section() {
    in_.begin_statement({});
    const Token token = in_.peek();
    const std::string key = in_.expect(TokenKind::word, "a section, such as score or keep");
    if (!seen_.insert(key).second && key != "dot")
      return in_.fail(fmt::format("the section '{}' stands twice", key), token.line);
    if (key == "batch") {
      spec_.batch = parse_dims();
    } else if (key == "heads") {
      spec_.heads = parse_dims();
      if (in_.accept_word("group")) spec_.head_group = in_.parse_int("an integer after group");
    } else if (key == "q_len") {
      spec_.q_len = in_.parse_dim();
    } else if (key == "kv_len") {
      spec_.kv_len = in_.parse_dim();
    } else if (key == "accumulate") {
      if (seen_.count("score") || seen_.count("sink"))
        in_.fail("'accumulate' must stand before score and sink", token.line);
      spec_.accumulate = in_.parse_dtype_word();
    } else if (key == "dot") {
      parse_dot();
    } else if (key == "value") {
      spec_.value_dim = in_.parse_int("the number of value columns");
      spec_.value = parse_access(in_, spec_.tensors);
    } else if (key == "score") {
      spec_.score = parse_region(spec_.accumulate);
    } else if (key == "keep") {
      spec_.keep = parse_region(DType::boolean);
    } else if (key == "keep_kv") {
      spec_.keep_kv = parse_region(DType::boolean);
    } else if (key == "kv_range") {
      parse_pair("begin", spec_.kv_range.begin, "end", spec_.kv_range.end, DType::i64);
    } else if (key == "block") {
      parse_pair("skip", spec_.kv_range.skip, "full", spec_.kv_range.full, DType::boolean);
    } else if (key == "normaliser") {
      parse_normaliser();
    } else if (key == "sink") {
      spec_.sink = parse_region(spec_.accumulate);
    } else if (key == "output") {
      spec_.output = parse_access(in_, spec_.tensors);
    } else if (key == "logsumexp") {
      spec_.logsumexp = parse_access(in_, spec_.tensors);
    } else {
      in_.fail(fmt::format("there is no section '{}'", key.substr(0, 60)), token.line);
    }
  }

  std::vector<Dim> parse_dims() {
    std::vector<Dim> dims;
    in_.expect_mark("[", "before the dims");
    if (in_.accept_mark("]")) return dims;
    do dims.push_back(in_.parse_dim());
    while (in_.accept_mark(","));
    in_.expect_mark("]", "or ',' after a dim");
    return dims;
  }

  void parse_dot() {
    DotTerm dot;
    dot.head_dim = in_.parse_int("the head dim");
    in_.expect_mark("{", "after the head dim");
    in_.expect_word("query", "in dot");
    dot.query = parse_access(in_, spec_.tensors);
    in_.expect_word("key", "in dot");
    dot.key = parse_access(in_, spec_.tensors);
    in_.expect_mark("}", "at the end of dot");
    spec_.dots.push_back(std::move(dot));
  }

  /// The variables in the header are for the reader: they are always the same, and read over here.
  void parse_header() {
    in_.expect_mark("(", "and the variables of the region");
    while (in_.peek().kind == TokenKind::word || in_.at_mark(",") || in_.at_mark(";")) in_.next();
    in_.expect_mark(")", "after the variables");
    in_.expect_mark("{", "before the region");
  }

  Expr parse_region(DType root) {
    parse_header();
    Expr expr = parse_expr(in_, spec_.tensors, {root, spec_.accumulate});
    in_.expect_mark("}", "at the end of the region");
    return expr;
  }

  void parse_pair(std::string_view first, Expr& a, std::string_view second, Expr& b, DType root) {
    parse_header();
    const ExprContext context{root, spec_.accumulate};
    if (in_.accept_word(first)) a = parse_expr(in_, spec_.tensors, context);
    if (in_.accept_word(second)) b = parse_expr(in_, spec_.tensors, context);
    in_.expect_mark("}", fmt::format("after {} and {}", first, second));
  }

  void parse_normaliser() {
    if (in_.accept_word("none"))
      spec_.normaliser = Normaliser::none;
    else
      in_.expect_word("softmax", "or 'none' as the normaliser");
  }

  TextCursor in_;
  AttentionSpec spec_;
  std::set<std::string> seen_;
};

}  // namespace

Result<AttentionSpec> parse_attention(std::string_view text) { return AttentionParser(text).run(); }

}  // namespace tilewright
