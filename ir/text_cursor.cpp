#include "ir/text_cursor.h"

#include <algorithm>
#include <charconv>

namespace tilewright {

const Token& TextCursor::peek(size_t ahead) const {
  return failed_ ? tokens_.back() : tokens_[std::min(position_ + ahead, tokens_.size() - 1)];
}

Token TextCursor::next() {
  const Token token = peek();
  if (!failed_ && position_ + 1 < tokens_.size()) ++position_;
  return token;
}

bool TextCursor::at_mark(std::string_view mark, size_t ahead) const {
  return peek(ahead).kind == TokenKind::mark && peek(ahead).text == mark;
}

bool TextCursor::at_word(std::string_view word) const { return peek().kind == TokenKind::word && peek().text == word; }

bool TextCursor::accept_mark(std::string_view mark) {
  if (!at_mark(mark)) return false;
  next();
  return true;
}

bool TextCursor::accept_word(std::string_view word) {
  if (!at_word(word)) return false;
  next();
  return true;
}

void TextCursor::expect_mark(std::string_view mark, std::string_view where) {
  if (!accept_mark(mark)) fail_expected(fmt::format("'{}' {}", mark, where));
}

void TextCursor::expect_word(std::string_view word, std::string_view where) {
  if (!accept_word(word)) fail_expected(fmt::format("'{}' {}", word, where));
}

std::string TextCursor::expect(TokenKind kind, std::string_view what) {
  if (peek().kind == kind) return std::string(next().text);
  fail_expected(what);
  return {};
}

void TextCursor::fail(std::string message, int line) {
  if (failed_) return;
  errors_.add({ErrorKind::invalid, std::move(message), subject_, line > 0 ? line : peek().line});
  failed_ = true;
}

void TextCursor::fail_expected(std::string_view what) {
  if (peek().first_on_line && position_ > statement_)
    fail(fmt::format("expected {}, found the end of the line", what), tokens_[position_ - 1].line);
  else
    fail(fmt::format("expected {}, found {}", what, describe(peek())));
}

void TextCursor::recover() {
  failed_ = false;
  if (position_ == statement_ && position_ + 1 < tokens_.size()) ++position_;
  while (tokens_[position_].kind != TokenKind::end && !tokens_[position_].first_on_line) ++position_;
}

int64_t TextCursor::parse_int(std::string_view what) {
  const bool negative = accept_mark("-");
  if (peek().kind != TokenKind::number) {
    fail_expected(what);
    return 0;
  }
  const std::string text = (negative ? "-" : "") + std::string(peek().text);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc())
    fail(fmt::format("{} does not fit 64 bits", text));
  else if (end != text.data() + text.size())
    fail_expected(what);
  next();
  return value;
}

bool TextCursor::parse_bool(std::string_view what) {
  if (accept_word("true")) return true;
  if (!accept_word("false")) fail_expected(fmt::format("true or false for {}", what));
  return false;
}

Dim TextCursor::parse_dim() {
  Dim sum = 0;
  bool first = true;
  do {
    const bool negative = accept_mark("-");
    if (!negative && !first) expect_mark("+", "between the terms of a dim");
    first = false;
    int64_t factor = 1;
    std::string name;
    if (peek().kind == TokenKind::number) {
      factor = parse_int("an integer");
      if (accept_mark("*")) name = expect(TokenKind::word, "the name of a dim after '*'");
    } else {
      name = expect(TokenKind::word, "a dim: an integer, a name or a sum of them");
      if (accept_mark("*")) factor = parse_int("an integer after '*', as dims are sums and not products");
    }
    const auto term = checked_multiply(name.empty() ? Dim(factor) : Dim::named(name, factor), negative ? -1 : 1);
    const auto next_sum = term ? checked_add(sum, *term) : std::nullopt;
    if (!next_sum) {
      fail("a coefficient of this dim does not fit 64 bits");
      return 0;
    }
    sum = *next_sum;
  } while (at_mark("+") || at_mark("-"));
  return failed_ ? Dim(0) : sum;
}

DType TextCursor::parse_dtype_word() {
  if (peek().kind == TokenKind::word)
    if (const auto dtype = parse_dtype(peek().text)) {
      next();
      return *dtype;
    }
  fail_expected("a dtype (f64, f32, f16, bf16, i64, i32, i8 or bool)");
  return DType::f32;
}

PrecisionPolicy TextCursor::parse_precision() {
  const Token token = peek();
  const std::string word = expect(TokenKind::word, "a precision policy (f32, f32_fma, f32_x3 or bf16)");
  const auto policy = parse_precision_policy(word);
  if (!policy && !failed()) fail(policy.error().list[0].message, token.line);
  return policy ? *policy : PrecisionPolicy::f32;
}

TensorType TextCursor::parse_type() {
  TensorType type{parse_dtype_word(), {}};
  expect_mark("[", "of a shape");
  if (!accept_mark("]")) {
    do type.shape.push_back(parse_dim());
    while (accept_mark(","));
    expect_mark("]", "or ',' in a shape");
  }
  return type;
}

bool TextCursor::at_literal() const {
  const size_t ahead = at_mark("-") ? 1 : 0;
  const Token& token = peek(ahead);
  if (token.kind == TokenKind::number) return true;
  if (token.kind != TokenKind::word) return false;
  if (token.text == "inf" || token.text == "nan") return true;
  return ahead == 0 && (token.text == "true" || token.text == "false" || (parse_dtype(token.text) && at_mark("(", 1)));
}

Literal TextCursor::parse_literal() {
  if (!at_literal()) {
    fail_expected("a literal");
    return {};
  }
  if (peek().kind == TokenKind::word && at_mark("(", 1)) {
    const DType dtype = parse_dtype_word();
    expect_mark("(", "of a typed literal");
    if (at_mark("(", 1)) fail_expected("a number");
    Literal literal = parse_literal();
    expect_mark(")", "of a typed literal");
    literal.explicit_dtype = dtype;
    return literal;
  }
  Literal literal;
  if (accept_mark("-")) literal.text = "-";
  const Token token = next();
  literal.text += token.text;
  if (token.text == "true" || token.text == "false")
    literal.kind = LiteralKind::boolean;
  else if (token.text.find_first_not_of("0123456789") != std::string_view::npos)
    literal.kind = LiteralKind::real;
  return literal;
}

}  // namespace tilewright
