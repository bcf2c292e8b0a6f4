// Attention specs with data, for tests of templates: one options struct, a spec made from it, guarded tensors, a plain
// reference and a comparison.
#pragma once

#include <string>

#include "codegen/cpu/cpu_codegen.h"
#include "compiler/passes.h"
#include "tests/support/test_tensor.h"

namespace tilewright::testing {

enum class Mask : uint8_t {
  none,
  causal,
  window,
  padding,
  causal_padding,
  tensor,
  holes,      ///< keys of a table by (b, kv), hidden among others
  everything  ///< but holes
};
enum class Score : uint8_t { scale, alibi, softcap, bias };
enum class Arrangement : uint8_t {
  bhsd,    ///< [B, H, S, D]
  bshd,    ///< [B, S, H, D]
  merged,  ///< [B, S, H·D]
  packed   ///< [B, S, 3·H·D]-like: q, k and v start at different offsets of the last axis
};

/// What becomes of the stored rows of Q and K before they enter the product.
enum class Rows : uint8_t {
  stored,
  rope_half,         ///< columns i and i + D/2 turn together; the last column of an odd D stays
  rope_interleaved,  ///< columns 2i and 2i + 1
  rms_norm,          ///< one sum
  layer_norm,        ///< two sums, the second of what the first is needed for
  norm_rope          ///< rms_norm, then rope_half
};

struct CaseOptions {
  DType dtype = DType::f32;  ///< of Q, K, V
  DType output = DType::f32;
  int64_t batch = 1, heads = 2, group = 1, sq = 7, sk = 9, dqk = 16, dv = 16;
  Mask mask = Mask::none;
  Score score = Score::scale;
  Arrangement arrangement = Arrangement::bhsd;
  Layout layout = Layout::contiguous;
  bool sink = false, lse = false;
  bool dropout = false;   ///< a weight_factor: 0 where random bits are below 0.3 · 2^32, else 1 / 0.7
  bool two_dots = false;  ///< a second term of head dim dqk / 2 + 1
  Rows query_rows = Rows::stored, key_rows = Rows::stored;
  Normaliser normaliser = Normaliser::softmax;
  std::string text() const;
};

struct AttentionCase {
  CaseOptions options;
  AttentionSpec spec;           ///< keep_kv and kv_range as make_case's own rules give them
  std::vector<DotTerm> stored;  ///< the spec's dots before any of their rows was computed
  DimBindings dims;
  std::vector<TestTensor> tensors;  ///< by spec tensor; outputs poisoned
};

/// Inputs are N(0,1); with a padding mask, K and V rows behind it are NaN, with holes those in them.
AttentionCase make_case(const CaseOptions& options, std::mt19937_64& random);

/// Generates, verifies, links and runs one schedule: phases in order, each split into `pieces` ranges of items, scratch
/// and workspace guarded and poisoned. Failures are gtest failures. Returns IR instructions.
int64_t run_case(const AttentionCase& test, const CpuSchedule& schedule, const CpuTarget& target, bool packed = true,
                 int64_t pieces = 3);

/// Compares all outputs with a plain f64 evaluation of the spec and checks that nothing else was written. Kernels may
/// round weights to `weights` (rule 19 allows the type of the inputs).
void check_case(const AttentionCase& test, DType weights = DType::f64);

}  // namespace tilewright::testing
