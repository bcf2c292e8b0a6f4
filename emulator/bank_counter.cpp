#include "emulator/bank_counter.h"

#include <algorithm>

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

void BankCounter::note(int warp, int lane, bool is_store, uint32_t address, uint32_t bytes) {
  Warp& state = warps_[static_cast<size_t>(warp)];
  const uint64_t number = state.next[static_cast<size_t>(lane)]++;
  if (number < state.first) return;  // counted already, by a flush in between
  if (number - state.first >= state.open.size()) state.open.resize(number - state.first + 1);
  std::vector<Access>& kinds = state.open[number - state.first];
  auto found = std::find_if(kinds.begin(), kinds.end(),
                            [&](const Access& other) { return other.is_store == is_store && other.bytes == bytes; });
  if (found == kinds.end()) found = kinds.insert(kinds.end(), {is_store, bytes, {}});
  found->lanes.emplace_back(lane, address);
  // What all lanes have passed is complete.
  const uint64_t passed = *std::min_element(state.next.begin(), state.next.end());
  while (state.first < passed && !state.open.empty()) {
    for (const Access& access : state.open.front()) count(access);
    state.open.pop_front();
    ++state.first;
  }
}

void BankCounter::flush(int warp) {
  Warp& state = warps_[static_cast<size_t>(warp)];
  for (const std::vector<Access>& kinds : state.open)
    for (const Access& access : kinds) count(access);
  state = Warp{};
}

void BankCounter::count(const Access& access) {
  BankCounts& counts = access.is_store ? statistics_.stores : statistics_.loads;
  ++counts.accesses;
  const int lanes_of_a_phase = access.bytes == 16 ? 8 : access.bytes == 8 ? 16 : 32;
  for (int first = 0; first < 32; first += lanes_of_a_phase) {
    std::vector<uint32_t> addresses;
    for (const auto& [lane, address] : access.lanes)
      if (lane >= first && lane < first + lanes_of_a_phase) addresses.push_back(address);
    if (!addresses.empty()) counts.passes += bank_passes(addresses, access.bytes);
  }
}

}  // namespace tilewright
