#include "examples/train_char_lm/corpus.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>

namespace char_lm {

Corpus Corpus::read(const std::string& path) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    for (const fs::directory_entry& entry : fs::directory_iterator(path, ignored))
      if (entry.is_regular_file(ignored) && !entry.is_symlink(ignored)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
  } else {
    files.emplace_back(path);
  }
  std::string text;
  for (const fs::path& file : files) {
    std::ifstream stream(file, std::ios::binary);
    text.append(std::istreambuf_iterator<char>(stream), {});
  }
  // Other bytes than printable ASCII and line breaks are rare in these texts and would only widen the vocabulary.
  std::erase_if(text, [](char c) { return c != '\n' && (c < ' ' || c > '~'); });
  const std::set<char> distinct(text.begin(), text.end());
  Corpus corpus;
  corpus.characters_.assign(distinct.begin(), distinct.end());
  corpus.tokens_ = corpus.encode(text);
  return corpus;
}

std::vector<int32_t> Corpus::encode(const std::string& text) const {
  std::vector<int32_t> tokens;
  for (char c : text)
    if (const size_t at = characters_.find(c); at != std::string::npos) tokens.push_back(static_cast<int32_t>(at));
  return tokens;
}

void Corpus::sample(int64_t batch, int64_t length, std::mt19937_64& random, std::vector<int32_t>& tokens,
                    std::vector<int32_t>& targets) const {
  tokens.clear();
  targets.clear();
  for (int64_t i = 0; i < batch; ++i) {
    const auto start = static_cast<int64_t>(random() % static_cast<uint64_t>(size() - length));
    const auto first = tokens_.begin() + start;
    tokens.insert(tokens.end(), first, first + length);
    targets.insert(targets.end(), first + 1, first + length + 1);
  }
}

}  // namespace char_lm
