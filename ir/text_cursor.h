// TextCursor: a reader over tokens with one error per statement. After an error it reads as if the text had ended,
// so that parsers need no checks between steps; `recover` goes on at the next statement.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "ir/lexer.h"
#include "ir/literal.h"
#include "ir/precision.h"

namespace tilewright {

class TextCursor {
 public:
  explicit TextCursor(std::string_view text) : tokens_(tokenize(text)) {}

  const Token& peek(size_t ahead = 0) const;
  Token next();
  bool at_mark(std::string_view mark, size_t ahead = 0) const;
  bool at_word(std::string_view word) const;
  bool accept_mark(std::string_view mark);
  bool accept_word(std::string_view word);
  void expect_mark(std::string_view mark, std::string_view where);
  void expect_word(std::string_view word, std::string_view where);
  /// Text of a token of the kind, or an error "expected WHAT, found …".
  std::string expect(TokenKind kind, std::string_view what);

  int64_t parse_int(std::string_view what);
  bool parse_bool(std::string_view what);
  Dim parse_dim();
  DType parse_dtype_word();
  TensorType parse_type();
  PrecisionPolicy parse_precision();
  bool at_literal() const;
  Literal parse_literal();

  /// A statement starts here; errors are about `value` from now on.
  void begin_statement(std::string value) {
    statement_ = position_;
    subject_ = std::move(value);
  }
  /// Records the error (the first one only until `recover`) at the current line, or at `line`.
  void fail(std::string message, int line = 0);
  /// "expected WHAT, found 'x'"; what stands on a later line than the rest of the statement is not named.
  void fail_expected(std::string_view what);
  bool failed() const { return failed_; }
  /// After an error: goes to the next token that starts a line, past the start of the statement.
  void recover();
  bool at_limit() const { return errors_.list.size() >= kMaxErrors; }
  Diagnostics& errors() { return errors_; }

 private:
  static constexpr size_t kMaxErrors = 50;
  std::vector<Token> tokens_;
  size_t position_ = 0;
  size_t statement_ = 0;
  bool failed_ = false;
  std::string subject_;
  Diagnostics errors_;
};

}  // namespace tilewright
