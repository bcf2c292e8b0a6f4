// Shape classes: which shapes one tuned schedule serves. The tuning database is keyed by their text.
//
//   prefill avx512 | q f32 k f32 v f32 in f32 | d 64/64 group 1 | mask end | score plain | q_len <=512
//
// In it: the template and ISA or architecture; the precision policy when it is not f32; dtypes in memory and of the
// arithmetic; head dims; heads that share K and V; how the mask leaves work out (which borders of the kv range move
// with q, whether blocks are skipped or scanned, whether it reads tensors); what score code there is besides a scale;
// rows that are computed; and a bucket of the one length that decides how much work there is to share out. Not in it:
// batch, heads, strides, the number of threads.
#pragma once

#include <array>
#include <string>

#include "compiler/cuda_schedule.h"
#include "compiler/schedule_space.h"

namespace tilewright {

/// Buckets of a length: up to and including each, the last one without an end.
inline constexpr std::array<int64_t, 3> kLengthBuckets = {512, 2048, INT64_MAX};
inline constexpr size_t kBuckets = kLengthBuckets.size();
size_t length_bucket(int64_t length);
/// The bucket's shortest length.
int64_t shortest_in_bucket(size_t bucket);

/// What of a schedule a class depends on.
struct ClassTemplate {
  std::string name;         ///< "prefill avx512", "sm90_prefill sm_90a"
  bool decode = false;      ///< its buckets are of kv_len
  bool has_buckets = true;  ///< lengths matter to it
};
ClassTemplate class_template(const CpuSchedule& schedule);
ClassTemplate class_template(const CudaSchedule& schedule, const CudaTarget& target);

/// The length that buckets are of, i64 over dims: q_len; kv_len for decode; rows of a product.
Expr class_length(const ClassTemplate& kernel, const ScheduledStep& step);
/// Its value where it is no expression of named dims.
std::optional<int64_t> constant_length(const Expr& length);

/// The key.
std::string shape_class(const ClassTemplate& kernel, const ScheduledStep& step, size_t bucket);

}  // namespace tilewright
