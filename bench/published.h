// Figures from elsewhere, to stand beside ours: labelled, never a limit and never judged against.
#pragma once

#include <span>
#include <string_view>

#include "ir/dtype.h"

namespace tilewright::bench {

/// Where all of them are from, in one sentence.
std::string_view published_source();

/// A limit of the machine that they were measured on.
struct PublishedLimit {
  std::string_view name;  ///< of our limit row
  double figure;
  std::string_view unit;
};
std::span<const PublishedLimit> published_limits();
/// nullptr when that page has no such figure.
const PublishedLimit* published_limit(std::string_view row);

/// What somebody's kernel reached there: one thread, causal counted as half.
struct PublishedRate {
  std::string_view who;
  DType dtype;  ///< of Q, K and V
  int heads, kv_heads, head_dim, length;
  bool causal;
  double gflops;
  bool amx;  ///< ran on AMX tiles
};
std::span<const PublishedRate> published_rates();

}  // namespace tilewright::bench
