// The variant suite (examples/variants) as test cases: a graph file respelled in another dtype and head dim, its dims,
// and data that fits the role of each parameter.
#pragma once

#include <ostream>
#include <string>

#include "ir/graph.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

/// How Q, K, V and the output are stored.
enum class Numbers : uint8_t {
  f64,  ///< the whole graph
  f32,  ///< as the file has it
  f16,
  bf16,  ///< narrow products: scores in f32, P cast down before P·V
  f16_cast,
  bf16_cast  ///< everything in f32 between a cast up of Q, K, V and a cast down of the result
};
std::string_view to_string(Numbers numbers);

/// The number that starts the file name ("07_gemma_alternation.attn" → 7) and its graph.
struct Variant {
  int number = 0;
  std::string stem;
  Graph graph;
  friend void PrintTo(const Variant& variant, std::ostream* out) { *out << variant.stem; }  ///< for gtest
};
/// All of examples/variants, in order.
std::vector<Variant> all_variants(const std::string& folder);
/// Those that have a kernel in this version.
std::vector<Variant> variants(const std::string& folder);

/// The variant with other numbers and head dims. Aborts when the file is not what the suite expects (a test of ours).
Graph respell(const Graph& graph, Numbers numbers, int64_t qk_dim, int64_t value_dim);

struct Sizes {
  std::string name;
  int64_t batch, sq, sk;
};
/// Binds every dim of the graph; graphs with one sequence length take `sk`.
DimBindings bind_sizes(const Graph& graph, const Sizes& sizes);

/// What K and V hold at the keys that no query may see. Only fused kernels promise not to read them (semantics 4).
enum class Hidden : uint8_t { nan, finite };

/// Parameters in signature order: lengths within [0, Sk+2] with a zero among them, sorted document ids, table indices a
/// little outside the table, masks with whole rows off.
std::vector<TestTensor> variant_inputs(const Graph& graph, const DimBindings& dims, std::mt19937_64& random,
                                       Hidden hidden = Hidden::nan);

}  // namespace tilewright::testing
