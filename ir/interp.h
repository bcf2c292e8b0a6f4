// The oracle: evaluates Graph, AttentionSpec, BackwardSpec and TileProgram in f64 (long double for f64 graphs). Shares
// no code with lowering; slow and obvious on purpose.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "ir/backward_spec.h"
#include "ir/bind.h"
#include "ir/tile_program.h"

namespace tilewright {

enum class Precision : uint8_t {
  oracle,  ///< f64 (long double when the graph holds f64); casts between floats do not round
  naive    ///< semantics 19: each value rounded to its declared dtype, dot products accumulated in f32 (f64 for f64
           ///< inputs), sequentially in k
};

/// Half-open box of a tensor: begin[i] <= index[i] < end[i].
struct Box {
  std::vector<int64_t> begin, end;
};

/// Dense row-major values of a box.
struct OracleTensor {
  Box box;
  std::vector<long double> values;
};

/// Evaluates result `result` of a verified graph over `box` only (the whole result when nullopt): needed parts of the
/// inputs are found backwards, so that one row of a long sequence costs O(Sk·D).
/// `params` are in signature order and already bound.
Result<OracleTensor> interpret(const Graph& graph, const DimBindings& dims, std::span<const TensorView> params,
                               size_t result, const std::optional<Box>& box, Precision precision);

/// Sorted distinct indices, one list per axis; they stand for their product.
using IndexLists = std::vector<std::vector<int64_t>>;

/// A graph bound to real tensors, evaluated piece by piece: sampled rows of a long sequence, one head at a time.
/// Parameters are read in place and never copied whole; the views must stay valid. Safe to use from several threads.
class GraphOracle {
 public:
  /// Errors: unbound dims, sizes that do not fit the ops, parameters of another shape or dtype.
  static Result<GraphOracle> create(const Graph& graph, const DimBindings& dims, std::span<const TensorView> params);

  struct Options {
    Precision precision = Precision::oracle;
    bool flush_subnormals = false;  ///< f32, bf16 and f64 subnormals of the parameters read as zero (semantics 19)
  };
  /// Elements of `value` (any value of the graph) at the product of the lists, row-major.
  std::vector<long double> evaluate(ValueId value, const IndexLists& lists, const Options& options) const;

  const std::vector<int64_t>& shape(ValueId value) const;
  const Graph& graph() const;  ///< decomposed softmax and logsumexp spellings raised; same ValueIds as the input

 private:
  struct State;
  explicit GraphOracle(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

/// Evaluates a spec over all (b, h, q): outputs in the order of the spec's output tensors.
Result<std::vector<OracleTensor>> interpret(const AttentionSpec& spec, const DimBindings& dims,
                                            std::span<const TensorView> tensors);

/// The same for a backward pass: every kept point adds to its sums. A captured sum is 0 where nothing is added; other
/// outputs are NaN where no product reaches.
Result<std::vector<OracleTensor>> interpret(const BackwardSpec& spec, const DimBindings& dims,
                                            std::span<const TensorView> tensors);

/// Runs the recurrence with the given tile sizes; `splits` > 1 merges partial states.
Result<std::vector<OracleTensor>> interpret(const TileProgram& program, const DimBindings& dims,
                                            std::span<const TensorView> tensors, int64_t block_q, int64_t block_kv,
                                            int64_t splits);

/// One point of an Expr. `axis_values` is indexed by Axis. Loads read `tensors`.
long double evaluate(const Expr& expr, const DimBindings& dims, std::span<const TensorView> tensors,
                     std::span<const int64_t> axis_values, long double score);
/// Several roots at once, integers converted (exact); `products` are s and t.
std::vector<long double> evaluate(const Expr& expr, std::span<const ExprId> roots, const DimBindings& dims,
                                  std::span<const TensorView> tensors, std::span<const int64_t> axis_values,
                                  std::span<const long double> products);
/// One integer or bool root, exact.
int64_t evaluate_int(const Expr& expr, const DimBindings& dims, std::span<const TensorView> tensors,
                     std::span<const int64_t> axis_values);

}  // namespace tilewright
