// MemoryPlan: where temporaries, shared step memory and per-worker scratch lie in one workspace, for one run.
#pragma once

#include "runtime/compiled.h"
#include "runtime/inline_array.h"

namespace tilewright {

/// Layout: [temporaries][one area that the steps share in turn: workspace, then packed K/V][scratch per worker].
class MemoryPlan {
 public:
  /// `limit` < 0 is none. Packed K/V is left out of steps where it does not fit. Allocates nothing for programs of
  /// usual size. Call `error()` next.
  MemoryPlan(const Compiled& compiled, std::span<const int64_t> dims, int workers, int64_t limit);

  /// Why the program cannot run within the limit or at these sizes; nullptr-like empty Result otherwise.
  Result<Done> check() const;
  /// The same without the limit.
  Result<Done> check_sizes() const;

  int64_t total() const { return total_; }
  int64_t scratch_total() const { return scratch_stride_ * workers_; }
  int64_t shared_total() const { return total_ - scratch_total(); }

  /// Byte offsets into the workspace.
  int64_t temporary(size_t tensor) const { return temporaries_[tensor]; }  ///< -1: not a temporary
  int64_t step_area() const { return arena_; }
  int64_t scratch() const { return arena_ + shared_; }
  int64_t scratch_stride() const { return scratch_stride_; }

  size_t choice(size_t step) const { return steps_[step].choice; }
  int64_t workspace_bytes(size_t step) const { return steps_[step].workspace; }  ///< before packed
  bool packed(size_t step) const { return steps_[step].packed; }

 private:
  struct StepNeeds {
    size_t choice = 0;
    int64_t workspace = 0;
    int64_t packed_bytes = 0;
    bool packed = false;
  };
  void place_temporaries(const Compiled& compiled, std::span<const int64_t> dims);

  InlineArray<int64_t, 64> temporaries_, sizes_;
  InlineArray<StepNeeds, 32> steps_;
  int workers_;
  int64_t limit_;
  int64_t arena_ = 0, shared_ = 0, scratch_stride_ = 0, total_ = 0;
  bool overflow_ = false;
};

}  // namespace tilewright
