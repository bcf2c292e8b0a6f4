#include "ir/space_text.h"

namespace tilewright {

void SpaceParser::parse_signature(std::string_view keyword) {
  in_.expect_word(keyword, "at the start");
  space_.name = in_.expect(TokenKind::symbol, fmt::format("the name, such as @prefill, of the {}", keyword));
  in_.expect_mark("(", "before the tensors");
  if (!in_.accept_mark(")")) {
    do parse_tensor();
    while (in_.accept_mark(","));
    in_.expect_mark(")", "or ',' after a tensor");
  }
  in_.expect_mark("{", "before the sections");
}

void SpaceParser::parse_tensor() {
  SpecTensor tensor;
  tensor.output = in_.accept_word("out");
  const Token token = in_.peek();
  tensor.name = in_.expect(TokenKind::value, "a tensor, such as %q: f32[B,8,S,64]");
  for (const SpecTensor& other : space_.tensors)
    if (other.name == tensor.name) in_.fail(fmt::format("%{} is listed twice", tensor.name), token.line);
  in_.expect_mark(":", "and the type of the tensor");
  tensor.type = in_.parse_type();
  space_.tensors.push_back(std::move(tensor));
}

std::string SpaceParser::parse_key(std::set<std::string, std::less<>> repeated) {
  in_.begin_statement({});
  const Token token = in_.peek();
  key_line_ = token.line;
  const std::string key = in_.expect(TokenKind::word, "a section, such as dot or keep");
  if (!seen_.insert(key).second && !repeated.count(key))
    in_.fail(fmt::format("the section '{}' stands twice", key), token.line);
  return key;
}

bool SpaceParser::parse_space_section(const std::string& key) {
  if (key == "batch") {
    space_.batch = parse_dims();
  } else if (key == "heads") {
    space_.heads = parse_dims();
    if (in_.accept_word("group")) space_.head_group = in_.parse_int("an integer after group");
  } else if (key == "q_len") {
    space_.q_len = in_.parse_dim();
  } else if (key == "kv_len") {
    space_.kv_len = in_.parse_dim();
  } else if (key == "accumulate") {
    for (const char* later : {"score", "sink", "weight_factor", "weights", "a computed row"})
      if (seen_.count(later)) in_.fail(fmt::format("'accumulate' must stand before {}", later), key_line_);
    space_.accumulate = in_.parse_dtype_word();
  } else if (key == "precision") {
    space_.precision = in_.parse_precision();
  } else if (key == "dot") {
    space_.dots.push_back(parse_dot());
  } else if (key == "keep") {
    space_.keep = parse_region(DType::boolean);
  } else if (key == "keep_kv") {
    space_.keep_kv = parse_region(DType::boolean);
  } else if (key == "kv_range") {
    parse_pair("begin", space_.kv_range.begin, "end", space_.kv_range.end, DType::i64);
  } else if (key == "block") {
    parse_pair("skip", space_.kv_range.skip, "full", space_.kv_range.full, DType::boolean);
  } else {
    return false;
  }
  return true;
}

void SpaceParser::fail_unknown(const std::string& key) {
  in_.fail(fmt::format("there is no section '{}'", key.substr(0, 60)), key_line_);
}

void SpaceParser::expect_sections(std::string_view what, std::initializer_list<const char*> needed) {
  for (const char* section : needed)
    if (!in_.failed() && !seen_.count(section))
      in_.fail(fmt::format("{} @{} has no section '{}'", what, space_.name, section));
  in_.expect_mark("}", fmt::format("at the end of the {}", what));
}

std::vector<Dim> SpaceParser::parse_dims() {
  std::vector<Dim> dims;
  in_.expect_mark("[", "before the dims");
  if (in_.accept_mark("]")) return dims;
  do dims.push_back(in_.parse_dim());
  while (in_.accept_mark(","));
  in_.expect_mark("]", "or ',' after a dim");
  return dims;
}

DotTerm SpaceParser::parse_dot() {
  DotTerm dot;
  dot.head_dim = in_.parse_int("the number of columns");
  in_.expect_mark("{", "after the number of columns");
  in_.expect_word("query", "of the product");
  parse_operand(dot.query, dot.query_row);
  in_.expect_word("key", "of the product");
  parse_operand(dot.key, dot.key_row);
  in_.expect_mark("}", "at the end of the product");
  return dot;
}

void SpaceParser::parse_operand(Access& stored, std::optional<RowProgram>& row) {
  const bool narrow = in_.peek().kind == TokenKind::word && !in_.at_word("row");
  const DType dtype = narrow ? in_.parse_dtype_word() : DType::f32;
  if (narrow) in_.expect_word("row", "after the dtype of a computed row");
  if (!narrow && !in_.accept_word("row")) {
    stored = parse_access(in_, space_.tensors);
    return;
  }
  row = parse_row();
  row->dtype = dtype;
}

RowProgram SpaceParser::parse_row() {
  seen_.insert("a computed row");
  parse_header();
  NamedExpr scope = parse_lets(in_, space_.tensors, {std::nullopt, space_.accumulate});
  const auto value = [&] { return parse_term(in_, scope, space_.tensors, context(space_.accumulate)); };
  RowProgram row;
  while (in_.accept_word("sum")) {
    RowSum& sum = row.sums.emplace_back();
    sum.count = in_.parse_int("the number of columns to sum over");
    sum.value = value();
  }
  while (in_.accept_word("columns")) {
    RowPiece& piece = row.pieces.emplace_back();
    piece.begin = in_.parse_int("the first column");
    in_.expect_mark(":", "and the end of the columns");
    const int64_t end = in_.parse_int("the end of the columns");
    if (in_.accept_mark(":")) piece.step = in_.parse_int("the step between columns");
    if (piece.begin < 0 || end <= piece.begin || end > kMaxRowColumns || piece.step < 1 ||
        piece.step > kMaxRowColumns) {
      in_.fail(fmt::format("columns {}:{}:{} do not ascend from 0 to at most {}", piece.begin, end, piece.step,
                           kMaxRowColumns));
      return row;
    }
    piece.count = (end - piece.begin + piece.step - 1) / piece.step;
    piece.value = value();
  }
  in_.expect_mark("}", "after 'sum' and 'columns' of the row");
  if (!in_.failed()) row.values = scope.expr.pruned(roots(row));
  return row;
}

void SpaceParser::parse_header() {
  in_.expect_mark("(", "and the variables of the region");
  while (in_.peek().kind == TokenKind::word || in_.at_mark(",") || in_.at_mark(";")) in_.next();
  in_.expect_mark(")", "after the variables");
  in_.expect_mark("{", "before the region");
}

Expr SpaceParser::parse_region(DType root) {
  parse_header();
  Expr expr = parse_expr(in_, space_.tensors, context(root));
  in_.expect_mark("}", "at the end of the region");
  return expr;
}

void SpaceParser::parse_pair(std::string_view first, Expr& a, std::string_view second, Expr& b, DType root) {
  parse_header();
  if (in_.accept_word(first)) a = parse_expr(in_, space_.tensors, context(root));
  if (in_.accept_word(second)) b = parse_expr(in_, space_.tensors, context(root));
  in_.expect_mark("}", fmt::format("after {} and {}", first, second));
}

}  // namespace tilewright
