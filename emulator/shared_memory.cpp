#include "emulator/shared_memory.h"

#include <algorithm>
#include <array>

namespace tilewright {

int bank_passes(std::span<const uint32_t> addresses, uint32_t bytes) {
  std::vector<uint32_t> words;
  for (const uint32_t address : addresses)
    for (uint32_t at = address / 4; at <= (address + bytes - 1) / 4; ++at) words.push_back(at);
  std::sort(words.begin(), words.end());
  words.erase(std::unique(words.begin(), words.end()), words.end());
  std::array<int, 32> per_bank{};
  for (const uint32_t word : words) ++per_bank[word % 32];
  return *std::max_element(per_bank.begin(), per_bank.end());
}

}  // namespace tilewright
