#include "runtime/memory_plan.h"

#include <algorithm>

#include "runtime/aligned_buffer.h"

namespace tilewright {
namespace {

/// Beyond this a size is treated as an overflow; leaves room for sums.
constexpr int64_t kLargest = int64_t{1} << 60;

}  // namespace

bool TensorSize::bytes(std::span<const int64_t> dims, int64_t& result) const {
  result = element_bytes;
  bool empty = false;
  for (const DimFormula& axis : shape) {
    int64_t size = 0;
    if (!axis.evaluate_checked(dims, size) || size < 0) return false;
    empty |= size == 0;
    if (__builtin_mul_overflow(result, std::max<int64_t>(size, 1), &result) || result > kLargest) return false;
  }
  if (empty) result = 0;
  return true;
}

MemoryPlan::MemoryPlan(const Compiled& compiled, std::span<const int64_t> dims, int workers, int64_t limit)
    : temporaries_(compiled.tensors.size(), -1),
      sizes_(compiled.tensors.size()),
      steps_(compiled.steps.size()),
      workers_(workers),
      limit_(limit) {
  place_temporaries(compiled, dims);
  int64_t workspace = 0;
  for (size_t i = 0; i < compiled.steps.size(); ++i) {
    const auto& choices = compiled.steps[i].choices;
    StepNeeds& needs = steps_[i];
    while (needs.choice + 1 < choices.size() && !choices[needs.choice].use_when.evaluate(dims)) ++needs.choice;
    const CompiledChoice& choice = choices[needs.choice];
    needs.workspace = choice.workspace_bytes.evaluate(dims);
    needs.packed_bytes = choice.packed_bytes.evaluate(dims);
    overflow_ |= needs.workspace < 0 || needs.workspace > kLargest;
    if (overflow_) return;
    needs.workspace = align_up(needs.workspace);
    workspace = std::max(workspace, needs.workspace);
    scratch_stride_ = std::max(scratch_stride_, align_up(choice.scratch_bytes));
  }
  const int64_t fixed = arena_ + scratch_stride_ * workers_;
  shared_ = workspace;
  for (size_t i = 0; i < compiled.steps.size(); ++i) {
    StepNeeds& needs = steps_[i];
    if (needs.packed_bytes <= 0 || needs.packed_bytes > kLargest) continue;
    const int64_t with_packed = needs.workspace + align_up(needs.packed_bytes);
    if (limit_ >= 0 && fixed + with_packed > limit_) continue;
    needs.packed = true;
    shared_ = std::max(shared_, with_packed);
  }
  total_ = fixed + shared_;
}

void MemoryPlan::place_temporaries(const Compiled& compiled, std::span<const int64_t> dims) {
  const auto& tensors = compiled.program.tensors;
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].role != TensorRole::temporary) continue;
    if (!compiled.tensors[i].bytes(dims, sizes_[i])) {
      overflow_ = true;
      return;
    }
    sizes_[i] = align_up(sizes_[i]);
    // First fit: the lowest place free of every placed temporary that lives at the same time.
    int64_t offset = 0;
    for (bool moved = true; moved;) {
      moved = false;
      for (size_t j = 0; j < i; ++j) {
        const bool together = temporaries_[j] >= 0 && tensors[j].first_step <= tensors[i].last_step &&
                              tensors[i].first_step <= tensors[j].last_step;
        if (!together || offset >= temporaries_[j] + sizes_[j] || temporaries_[j] >= offset + sizes_[i]) continue;
        offset = temporaries_[j] + sizes_[j];
        moved = true;
      }
    }
    temporaries_[i] = offset;
    arena_ = std::max(arena_, offset + sizes_[i]);
  }
}

Result<Done> MemoryPlan::check_sizes() const {
  if (overflow_) return invalid("the memory between the steps overflows 64 bits at these sizes");
  return Done{};
}

Result<Done> MemoryPlan::check() const {
  if (auto sizes = check_sizes(); !sizes) return sizes;
  if (limit_ >= 0 && total_ > limit_)
    return invalid(
        "the workspace limit is {} bytes, but {} are needed: {} for temporaries and states, {} for the "
        "scratch of {} workers",
        limit_, total_, shared_total(), scratch_total(), workers_);
  return Done{};
}

}  // namespace tilewright
