// Splits a masked score into what is scored and what is kept (semantics 4).
#pragma once

#include <tuple>

#include "compiler/fuse/tracer.h"

namespace tilewright::fusion {

/// What a masked-out position holds: -inf before a softmax, 0 in weights that no normaliser follows.
enum class Fill : uint8_t { minus_infinity, zero };

struct MaskedValue {
  ExprId value;
  std::optional<ExprId> keep;  ///< bool; nullopt = everything is kept
};

class ScoreReader {
 public:
  explicit ScoreReader(const Graph& graph, Tracer& tracer) : graph_(graph), t_(tracer) {}

  /// Masks are pulled out wherever what follows them keeps the fill value; others stay in the value.
  MaskedValue read(ValueId id, const Indices& at, Fill fill);

 private:
  using Keep = std::optional<ExprId>;
  MaskedValue read_anew(ValueId id, const Indices& at, Fill fill);
  MaskedValue operand(const Node& node, size_t i, const Indices& at, Fill fill);
  MaskedValue read_add(const Node& node, const Indices& at);
  MaskedValue read_select(const Node& node, const Indices& at, Fill fill);
  MaskedValue read_scaled(const Node& node, const Indices& at, Fill fill);
  MaskedValue read_sum_of_zeros(const Node& node, const Indices& at);
  /// keep of a value that is nothing but 0 and -inf; nullopt otherwise.
  Keep additive_mask(ValueId id, const Indices& at);
  /// keep of a bool cast to a number; nullopt otherwise.
  Keep indicator(ValueId id, const Indices& at);
  /// Masks that look at the score itself cannot be a keep predicate.
  bool depends_on_score(ExprId id) const { return depends(t_.pool, id) & kDependsOnScore; }
  bool is_fill(ValueId id, Fill fill) const;
  ExprId both(ExprId a, ExprId b);
  Keep both(const Keep& a, const Keep& b);
  /// What both masks hide; each value keeps a select for what only its own hides.
  Keep common_zeros(MaskedValue& a, MaskedValue& b);
  ExprId either(ExprId a, ExprId b);
  ExprId negated(ExprId a);
  ExprId boolean(bool value) { return t_.pool.constant_int(value, DType::boolean); }
  /// condition ? a : b on bools, with missing ones true.
  Keep choose(ExprId condition, const Keep& a, const Keep& b);

  const Graph& graph_;
  Tracer& t_;
  std::map<std::tuple<int32_t, Fill, std::vector<int32_t>>, MaskedValue> memo_;
};

}  // namespace tilewright::fusion
