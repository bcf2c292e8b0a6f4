// The pieces random graphs are made of: dice, parameters with fills, score modifications and masks.
#pragma once

#include <initializer_list>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "tests/support/random_graph.h"

namespace tilewright::testing {

/// Where scores live: [prefix…, q_len, kv_len], prefix being [B, H] or [B, Hkv, G].
struct ScoreFrame {
  Shape prefix;
  Dim batch, q_len, kv_len;
  int64_t heads = 1;
  bool split_heads = false;
  DType accumulate = DType::f32;

  int64_t rank() const { return static_cast<int64_t>(prefix.size()) + 2; }
  Shape shape() const;
};

class RandomParts {
 public:
  explicit RandomParts(uint64_t seed) : b("random"), random_(seed * 0x9e3779b97f4a7c15ull + 1) {}

  int64_t below(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  bool chance(double probability) { return std::uniform_real_distribution<>()(random_) < probability; }
  /// A named dim bound to `size`, or the constant itself with probability `constant`.
  Dim named_or_constant(const std::string& name, int64_t size, double constant = 0.2);
  /// Draws one of the spellings, records "what: choice", returns its position.
  int pick(const std::string& what, std::initializer_list<const char*> choices);
  ValueId param(const std::string& name, TensorType type, Fill how, bool inout = false);
  int64_t size_of_dim(const Dim& dim) const { return *dim.evaluate(dims); }

  /// Zero to two score modifications, then zero to three masks (now and then a mask comes first).
  ValueId modify_and_mask(ValueId scores, const ScoreFrame& frame);

  GraphBuilder b;
  DimBindings dims;
  std::vector<Fill> fills;
  std::set<std::string> spellings;

 private:
  ValueId modify(ValueId s, const ScoreFrame& f);
  ValueId mask(ValueId s, const ScoreFrame& f);
  /// A tensor that enters scores, now and then narrower than f64 scores are.
  ValueId captured(const char* stem, const Shape& shape, Fill how, const ScoreFrame& f);
  /// Bool tensor that broadcasts to the scores: true = attend.
  ValueId keep_condition(const ScoreFrame& f);
  /// Position along axis of the scores, counted from the front, in the accumulation shape of rank f.rank().
  ValueId position(const ScoreFrame& f, int64_t axis, DType dtype);
  /// A tensor type that broadcasts to the scores from a random rank.
  Shape broadcastable(const ScoreFrame& f);
  ValueId integer(int64_t value, DType dtype = DType::i64) { return b.constant_int(value, dtype); }
  ValueId real(double value, const ScoreFrame& f) { return b.constant(value, f.accumulate); }
  std::string fresh(const std::string& stem) { return stem + std::to_string(counter_++); }

  std::mt19937_64 random_;
  int counter_ = 0;
};

}  // namespace tilewright::testing
