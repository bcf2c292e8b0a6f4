#include "compiler/cuda_backward_layout.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

namespace tilewright {
namespace {

constexpr int64_t kMaxCopied = 1 << 16;

class Placer {
 public:
  explicit Placer(int64_t element) : element_(element) {}

  void place(std::string name, int64_t rows, int64_t columns) { place(std::move(name), rows, columns, element_); }
  /// A row is padded by one element (device/generic_tiles.cuh).
  void place(std::string name, int64_t rows, int64_t columns, int64_t element) {
    out_.tiles.push_back({std::move(name), rows, columns, out_.bytes});
    out_.bytes += (rows * (columns == 1 ? 1 : columns + 1) * element + 15) / 16 * 16;
  }
  CudaTiles take() { return std::move(out_); }

 private:
  int64_t element_;
  CudaTiles out_;
};

/// Of one axis; a product of several dims is no Dim.
std::optional<Dim> extent_of(const BackwardSpec& spec, Axis axis) {
  switch (axis) {
    case Axis::b: return product(spec.batch);
    case Axis::h: return product(spec.heads);
    case Axis::q: return spec.q_len;
    default: return spec.kv_len;
  }
}

bool reads_t(const BackwardSpec& spec, ExprId root) {
  return dependencies(spec.weights)[static_cast<size_t>(raw(root))] & kDependsOnT;
}

}  // namespace

bool CudaTiles::has(const std::string& name) const {
  return std::any_of(tiles.begin(), tiles.end(), [&](const CudaTile& tile) { return tile.name == name; });
}

bool CapturedAxes::owns(Axis axis) const { return std::find(owned.begin(), owned.end(), axis) != owned.end(); }

std::vector<BackwardSums> backward_kernels(const BackwardSpec& spec) {
  std::vector<BackwardSums> kernels;
  if (!spec.rows.empty()) kernels.push_back({BackwardSums::rows, 0});
  if (!spec.columns.empty()) kernels.push_back({BackwardSums::columns, 0});
  for (size_t i = 0; i < spec.captured.size(); ++i) kernels.push_back({BackwardSums::captured, static_cast<int>(i)});
  return kernels;
}

const std::vector<BackwardProduct>& products(const BackwardSpec& spec, const BackwardSums& sums) {
  static const std::vector<BackwardProduct> kNone;
  return sums.kind == BackwardSums::rows ? spec.rows : sums.kind == BackwardSums::columns ? spec.columns : kNone;
}

std::vector<ExprId> weight_roots(const BackwardSpec& spec, const BackwardSums& sums) {
  std::vector<ExprId> roots;
  const auto add = [&](ExprId root) {
    if (std::find(roots.begin(), roots.end(), root) == roots.end()) roots.push_back(root);
  };
  for (const BackwardProduct& product : products(spec, sums)) add(product.weight);
  if (sums.kind == BackwardSums::captured) add(spec.captured[static_cast<size_t>(sums.sum)].weight);
  return roots;
}

std::string operand_tile(const BackwardSpec& spec, const BackwardSums& sums, size_t product) {
  const BackwardProduct& p = products(spec, sums)[product];
  const bool keys = sums.kind == BackwardSums::rows;
  for (size_t i = 0; i < spec.dots.size(); ++i)
    if (spec.dots[i].head_dim == p.width && (keys ? spec.dots[i].key : spec.dots[i].query) == p.operand)
      return fmt::format("{}_{}", keys ? "k" : "q", i);
  if (const auto& t = spec.output_gradient; t && t->head_dim == p.width && (keys ? t->key : t->query) == p.operand)
    return keys ? "k_t" : "q_t";
  return fmt::format("x_{}", product);
}

CapturedAxes captured_axes(const BackwardSpec& spec, const CapturedSum& sum) {
  CapturedAxes axes;
  constexpr Axis kAxes[] = {Axis::b, Axis::h, Axis::q, Axis::kv};
  const std::vector<uint32_t> depends = dependencies(spec.weights);
  uint32_t all = 0;
  const Shape& shape = spec.tensors[static_cast<size_t>(sum.tensor)].type.shape;
  for (size_t i = 0; i < sum.index.size(); ++i) {
    all |= depends[static_cast<size_t>(raw(sum.index[i]))];
    const ExprNode& node = spec.weights[sum.index[i]];
    if (node.kind != ExprKind::index || axes.owns(node.axis)) continue;
    // Clamping keeps apart what fits.
    if (sum.in_bounds || shape[i] == extent_of(spec, node.axis)) axes.owned.push_back(node.axis);
  }
  std::sort(axes.owned.begin(), axes.owned.end());
  for (const Axis axis : kAxes)
    if (axes.owns(axis)) all &= ~bit(axis);
  axes.direct = axes.owns(Axis::q) && axes.owns(Axis::kv) && all == 0;
  // Small outputs have a copy per chunk of the queries.
  int64_t elements = 1;
  for (const Dim& dim : shape) elements = dim.is_constant() ? elements * dim.constant() : kMaxCopied + 1;
  if (!axes.owns(Axis::q) && elements <= kMaxCopied) axes.chunks = 16;
  return axes;
}

CudaTiles backward_tiles(const BackwardSpec& spec, const CudaSchedule& schedule, const BackwardSums& sums) {
  Placer placer(size_of(spec.accumulate));
  const int64_t q = schedule.block_q, kv = schedule.block_kv;
  const std::vector<ExprId> weights = weight_roots(spec, sums);
  for (size_t i = 0; i < spec.dots.size(); ++i) {
    placer.place(fmt::format("q_{}", i), q, spec.dots[i].head_dim);
    placer.place(fmt::format("k_{}", i), kv, spec.dots[i].head_dim);
  }
  placer.place("s", q, kv);
  const bool needs_t = std::any_of(weights.begin(), weights.end(), [&](ExprId root) { return reads_t(spec, root); });
  const auto& own = products(spec, sums);
  const auto reads = [&](const std::string& name) {
    for (size_t i = 0; i < own.size(); ++i)
      if (operand_tile(spec, sums, i) == name) return true;
    return false;
  };
  if (spec.output_gradient) {
    const int64_t width = spec.output_gradient->head_dim;
    if (needs_t || reads("q_t")) placer.place("q_t", q, width);
    if (needs_t || reads("k_t")) placer.place("k_t", kv, width);
    if (needs_t) placer.place("t", q, kv);
  }
  for (size_t i = 0; i < weights.size(); ++i) placer.place(fmt::format("w_{}", i), q, kv);
  const bool rows = sums.kind == BackwardSums::rows;
  for (size_t i = 0; i < own.size(); ++i) {
    if (const std::string name = operand_tile(spec, sums, i); name.starts_with('x'))
      placer.place(name, rows ? kv : q, own[i].width);
    placer.place(fmt::format("out_{}", i), rows ? q : kv, own[i].width);
  }
  if (sums.kind == BackwardSums::captured) {
    if (captured_axes(spec, spec.captured[static_cast<size_t>(sums.sum)]).direct)
      placer.place("out_0", q, kv);
    else
      placer.place("offsets", q, kv, 8);
  }
  return placer.take();
}

int64_t backward_shared_bytes(const BackwardSpec& spec, const CudaSchedule& schedule) {
  int64_t most = 0;
  for (const BackwardSums& sums : backward_kernels(spec))
    most = std::max(most, backward_tiles(spec, schedule, sums).bytes);
  return most;
}

}  // namespace tilewright
