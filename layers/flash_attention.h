// FlashAttention: attention as a function of Q, K and V, with masks and biases, fused or materialised.
#pragma once

#include <optional>
#include <string>

#include "layers/graph_parts.h"
#include "layers/named_kernel.h"
#include "layers/tensor.h"

namespace tilewright {

struct FlashAttentionOptions {
  bool causal = false;          ///< get_mask() on top of what is given
  double dropout = 0;           ///< of attention weights while training, in [0, 1]
  bool flash = true;            ///< false: every value in memory, scores included; the same result
  double temperature = 1;       ///< divides the scores; above 0
  std::optional<double> scale;  ///< on Q·Kᵀ; nullopt = 1/√D
  ScheduleOverride tiles;       ///< block sizes of queries and keys
  uint64_t seed = 1;            ///< of dropout
};

/// Right-aligned to [B,H,Sq,Sk], each axis 1 or in full; semantics 15.
struct AttentionMasks {
  std::optional<TensorView> mask;  ///< bool, true = attend
  std::optional<TensorView> bias;  ///< in the dtype of q, added to the scores
};

struct AttentionBenchmark {
  double naive_ms = 0, flash_ms = 0;  ///< medians
  double speed_up = 0;
  double memory_reduction = 0;  ///< bytes of naive over bytes of flash
  double max_error = 0;         ///< largest difference between the two results
  std::vector<int64_t> query_shape, key_shape;
};

/// Bytes that one call allocates: results, temporaries and scratch of all workers. Inputs are not counted.
struct AttentionMemory {
  int64_t naive = 0, flash = 0;
  double ratio = 0;  ///< naive over flash
};

/// T is float or double. Kernels are compiled at first use for a combination of head counts, widths and mask forms, and
/// serve every batch and length. Not safe to use from several threads at once.
template <class T>
class FlashAttention {
 public:
  /// Without an engine it makes its own. Errors: dropout outside [0, 1], a temperature that is not above 0, tiles.
  static Result<FlashAttention> create(const FlashAttentionOptions& options = {},
                                       const std::optional<Engine>& engine = {});

  /// q [B,H,Sq,D], k [B,G,Sk,D], v [B,G,Sk,Dv] → [B,H,Sq,Dv]; H a multiple of G. Causal attention of Sq ≠ Sk keys
  /// aligns the last query with the last key. Errors name the tensors and sizes that do not fit.
  Result<Tensor<T>> attention(const TensorView& q, const TensorView& k, const TensorView& v,
                              const AttentionMasks& masks = {});
  /// The same with every value in memory, whatever options().flash says.
  Result<Tensor<T>> naive_attention(const TensorView& q, const TensorView& k, const TensorView& v,
                                    const AttentionMasks& masks = {});
  /// x [B,H,S,D] attends to itself.
  Result<Tensor<T>> self_attention(const TensorView& x, const AttentionMasks& masks = {});
  /// x [B,H,Sq,D] attends to context [B,G,Sk,D].
  Result<Tensor<T>> cross_attention(const TensorView& x, const TensorView& context, const AttentionMasks& masks = {});

  /// [queries, keys], true where `causal` attends: the last query sees every key.
  Tensor<uint8_t> get_mask(int64_t queries, int64_t keys) const;

  /// Both paths on random [1,heads,n,head_dim]. Errors: sizes below 1.
  Result<AttentionBenchmark> benchmark(int64_t n, int64_t heads = 8, int64_t head_dim = 64);
  Result<AttentionMemory> memory_estimate(int64_t n, int64_t heads = 8, int64_t head_dim = 64);

  const FlashAttentionOptions& options() const { return options_; }
  /// Dropout is for training, in which an object begins; call n (from 0) draws the bits of (seed, n).
  void set_training(bool training) { training_ = training; }
  /// Of the kernel that ran last; nothing before the first run.
  const std::optional<KernelDiagnostics>& diagnostics() const { return diagnostics_; }

 private:
  FlashAttention(FlashAttentionOptions options, Engine engine) : options_(options), engine_(std::move(engine)) {}
  Result<Tensor<T>> run(const TensorView& q, const TensorView& k, const TensorView& v, const AttentionMasks& masks,
                        bool flash);
  Result<NamedKernel> compile(const TensorsByName& inputs, bool flash, double dropout) const;
  double present_dropout() const { return training_ ? options_.dropout : 0; }

  FlashAttentionOptions options_;
  Engine engine_;
  bool training_ = true;
  int64_t calls_ = 0;
  std::optional<KernelDiagnostics> diagnostics_;
};

extern template class FlashAttention<float>;
extern template class FlashAttention<double>;

}  // namespace tilewright
