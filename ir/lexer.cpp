#include "ir/lexer.h"

#include <fmt/format.h>

#include <algorithm>

namespace tilewright {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

class Lexer {
 public:
  explicit Lexer(std::string_view text) : text_(text) {}

  std::vector<Token> run() {
    std::vector<Token> tokens;
    do {
      skip_blanks();
      tokens.push_back(next());
      first_on_line_ = false;
    } while (tokens.back().kind != TokenKind::end);
    return tokens;
  }

 private:
  char at(size_t i) const { return i < text_.size() ? text_[i] : '\0'; }

  void skip_blanks() {
    for (; position_ < text_.size(); ++position_) {
      const char c = text_[position_];
      if (c == '\n') {
        ++line_;
        first_on_line_ = true;
      } else if (c == '/' && at(position_ + 1) == '/') {
        position_ = std::min(text_.find('\n', position_), text_.size()) - 1;
      } else if (c != ' ' && c != '\t' && c != '\r') {
        return;
      }
    }
  }

  Token take(TokenKind kind, size_t length, size_t prefix = 0) {
    const Token token{kind, text_.substr(position_ + prefix, length - prefix), line_, first_on_line_};
    position_ += length;
    return token;
  }

  size_t name_length(size_t from) const {
    size_t length = 0;
    while (from + length < text_.size() && is_name_character(text_[from + length])) ++length;
    return length;
  }

  size_t number_length() const {
    size_t end = position_;
    const auto digits = [&] {
      while (is_digit(at(end))) ++end;
    };
    digits();
    if (at(end) == '.' && is_digit(at(end + 1))) {
      ++end;
      digits();
    }
    if (at(end) == 'e' || at(end) == 'E') {
      const size_t exponent = end + 1 + (at(end + 1) == '+' || at(end + 1) == '-');
      if (is_digit(at(exponent))) {
        end = exponent;
        digits();
      }
    }
    return end - position_;
  }

  Token next() {
    if (position_ >= text_.size()) return {TokenKind::end, {}, line_, first_on_line_};
    const char c = text_[position_];
    if (is_digit(c)) return take(TokenKind::number, number_length());
    if (is_word_start(c)) return take(TokenKind::word, name_length(position_));
    if (c == '%' || c == '@') {
      const size_t length = name_length(position_ + 1);
      if (length == 0) return take(TokenKind::bad, 1);
      return take(c == '%' ? TokenKind::value : TokenKind::symbol, length + 1, 1);
    }
    if (c == '-' && at(position_ + 1) == '>') return take(TokenKind::mark, 2);
    const bool mark = std::string_view("()[]{},:;=+-*").find(c) != std::string_view::npos;
    return take(mark ? TokenKind::mark : TokenKind::bad, 1);
  }

  std::string_view text_;
  size_t position_ = 0;
  int line_ = 1;
  bool first_on_line_ = true;
};

}  // namespace

bool is_word_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_name_character(char c) { return is_word_start(c) || is_digit(c) || c == '.'; }
bool is_name(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_name_character);
}

std::vector<Token> tokenize(std::string_view text) { return Lexer(text).run(); }

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::end: return "the end of the text";
    case TokenKind::value: return fmt::format("'%{}'", token.text.substr(0, 60));
    case TokenKind::symbol: return fmt::format("'@{}'", token.text.substr(0, 60));
    case TokenKind::bad: break;
    default: return fmt::format("'{}'", token.text.substr(0, 60));
  }
  const char c = token.text[0];
  if (c > ' ' && c < '\x7f') return fmt::format("'{}'", c);
  return fmt::format("the byte {:#04x}", static_cast<unsigned char>(c));
}

}  // namespace tilewright
