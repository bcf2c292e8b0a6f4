// What the generic GPU backward template keeps in shared memory, kernel by kernel.
#pragma once

#include <string>
#include <vector>

#include "compiler/cuda_schedule.h"

namespace tilewright {

struct CudaTile {
  std::string name;
  int64_t rows = 0, columns = 0;
  int64_t offset = 0;  ///< bytes from the base
};
struct CudaTiles {
  std::vector<CudaTile> tiles;
  int64_t bytes = 0;
  bool has(const std::string& name) const;
};

/// Which sums a kernel makes: all row products, all column products, or one captured sum.
struct BackwardSums {
  enum Kind : uint8_t { rows, columns, captured } kind = rows;
  int sum = 0;  ///< captured: which
};

/// Of each kernel that the spec needs, in the order in which they run.
std::vector<BackwardSums> backward_kernels(const BackwardSpec& spec);

/// Tiles: q_i and k_i (operands of dot term i), q_t and k_t (of t), s, t, w_i (weight i of weight_roots), x_i (operand
/// of product i where it is none of the others), out_i (what product i sums up); captured: offsets (8 bytes each) or
/// out_0.
CudaTiles backward_tiles(const BackwardSpec& spec, const CudaSchedule& schedule, const BackwardSums& sums);
/// The tile that holds a product's operand.
std::string operand_tile(const BackwardSpec& spec, const BackwardSums& sums, size_t product);
/// Different weights of the kernel's sums.
std::vector<ExprId> weight_roots(const BackwardSpec& spec, const BackwardSums& sums);
const std::vector<BackwardProduct>& products(const BackwardSpec& spec, const BackwardSums& sums);

/// How a captured sum's kernel is cut: work items are blocks of the axes in `owned` (b, h, q, kv), which are an index
/// of the output as they are, so that items write different elements. `direct`: both q and kv are, and no index depends
/// on anything else.
struct CapturedAxes {
  std::vector<Axis> owned;
  bool direct = false;
  int64_t chunks = 1;  ///< items along q that have sums of their own, added up in order at the end
  bool owns(Axis axis) const;
};
CapturedAxes captured_axes(const BackwardSpec& spec, const CapturedSum& sum);

/// The most that a kernel of the spec takes.
int64_t backward_shared_bytes(const BackwardSpec& spec, const CudaSchedule& schedule);

}  // namespace tilewright
