// A cheap identity for graphs and compile options: a cache hit must not print, verify or canonicalize anything.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/engine.h"

namespace tilewright {

/// Bytes that tell any two (graph, options) pairs apart that could compile or report differently, under one state of
/// the tuning databases. Reuses `out`.
void serialise_key(const Graph& graph, const CompileOptions& options, uint64_t tuning_generation, std::string& out);

struct KeyHash {
  uint64_t low = 0, high = 0;
  friend bool operator==(const KeyHash&, const KeyHash&) = default;
};
KeyHash hash_key(const std::string& bytes);
/// 16 hex digits.
std::string to_string(const KeyHash& hash);
/// All 32.
std::string full_hex(const KeyHash& hash);

}  // namespace tilewright
