// Random integer and bool expressions over b, h, q, kv with small captured tensors.
#pragma once

#include <random>
#include <vector>

#include "ir/attention_spec.h"
#include "ir/tensor_view.h"

namespace tilewright::testing {

/// Tensors that random_expr loads from: 0 doc i64[32], 1 block mask bool[2,8,8], 2 lengths i32[2], 3 offsets i64[2]
/// (garbage when asked for), 4 dense mask bool[32,32], 5 labels i8[32].
class MaskTensors {
 public:
  explicit MaskTensors(std::mt19937_64& random, bool garbage);
  const std::vector<SpecTensor>& types() const { return types_; }
  const std::vector<TensorView>& views() const { return views_; }

 private:
  std::vector<std::vector<char>> bytes_;
  std::vector<SpecTensor> types_;
  std::vector<TensorView> views_;
};

class RandomExpr {
 public:
  RandomExpr(std::mt19937_64& random, Expr& expr) : random_(random), e_(expr) {}
  ExprId boolean(int depth);
  ExprId integer(int depth, DType dtype);

 private:
  int64_t pick(int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random_); }
  ExprId leaf(DType dtype);

  std::mt19937_64& random_;
  Expr& e_;
};

/// The DAG, one node a line, for failure messages.
std::string dump(const Expr& expr);

}  // namespace tilewright::testing
