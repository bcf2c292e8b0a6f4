// The text, its characters as numbers, and random pieces of it.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

namespace char_lm {

class Corpus {
 public:
  /// Every regular file of a folder in the order of their names, or one file. Empty when there is none to read.
  static Corpus read(const std::string& path);

  bool empty() const { return tokens_.empty(); }
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }
  int64_t vocab() const { return static_cast<int64_t>(characters_.size()); }
  std::vector<int32_t> encode(const std::string& text) const;
  char decode(int32_t token) const { return characters_[static_cast<size_t>(token)]; }

  /// `batch` pieces of `length` tokens and, as targets, the same pieces one token later; [batch, length] row-major.
  void sample(int64_t batch, int64_t length, std::mt19937_64& random, std::vector<int32_t>& tokens,
              std::vector<int32_t>& targets) const;

 private:
  std::vector<int32_t> tokens_;
  std::string characters_;  ///< by token
};

}  // namespace char_lm
