// Tokens of the textual IR. The lexer never fails: bytes that belong to nothing become `bad` tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tilewright {

enum class TokenKind : uint8_t {
  end,
  word,    ///< graph, f32, axis, Sq
  value,   ///< %name, text without the %
  symbol,  ///< @name, text without the @
  number,  ///< unsigned: 12, 0.5, 1e-5
  mark,    ///< ( ) [ ] { } , : ; = + - * ->
  bad      ///< a byte or a lone % or @ that starts no token
};

struct Token {
  TokenKind kind = TokenKind::end;
  std::string_view text;
  int line = 0;  ///< 1-based
  bool first_on_line = false;
};

/// All tokens of `text`, which must outlive them, with an `end` token last. `//` starts a comment.
std::vector<Token> tokenize(std::string_view text);

/// The token as it stands in an error message: "'%x'", "the end of the text", "the byte 0x80".
std::string describe(const Token& token);

/// Letters, digits, _ and . make names; words start with a letter or _.
bool is_name_character(char c);
bool is_word_start(char c);
bool is_name(std::string_view text);

}  // namespace tilewright
