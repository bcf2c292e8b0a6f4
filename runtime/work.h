// How much work an attention is: multiply-adds of the scores that the mask keeps, and bytes that must be read.
#pragma once

#include <span>

#include "compiler/program.h"
#include "ir/tensor_view.h"

namespace tilewright {

struct Work {
  double scores = 0;  ///< kept (b, h, q, kv)
  double all = 0;     ///< B·H·Sq·Sk
  double flops = 0;   ///< 2 · kept · (Dqk + Dv)
};

/// Of one fused step. Exact when the mask's kv range says everything; otherwise from sampled rows. `tensors` are the
/// step's inputs by spec tensor; a mask that reads a tensor with null data counts as keeping all.
Work count_work(const AttentionSpec& spec, const DimBindings& dims, std::span<const TensorView> tensors);
/// FLOPs of any step by the rule of docs/performance-log.md: a backward pass has five products, of the kept scores; a
/// contraction multiplies all its extents; other loops count as 0.
double count_flops(const Step& step, const DimBindings& dims, std::span<const TensorView> tensors);
/// Of all fused steps of a program whose masks read parameters only.
Work count_work(const Program& program, const DimBindings& dims, std::span<const TensorView> inputs);

/// How finely a template leaves scores out: strips of `rows`, blocks of `keys` by the block test, and within them
/// panels of `panel` keys by the kv range.
struct VisitGrain {
  int64_t rows = 1, keys = 1, panel = 1;
};
/// Scores that a template of that grain has to visit. Of b = h = 0, times B·H.
double count_visited(const AttentionSpec& spec, const DimBindings& dims, std::span<const TensorView> tensors,
                     const VisitGrain& grain);
/// The tensors of an attention step by spec tensor; those that are no inputs have null data.
std::vector<TensorView> step_tensors(const Program& program, const Step& step, std::span<const TensorView> inputs);

}  // namespace tilewright
