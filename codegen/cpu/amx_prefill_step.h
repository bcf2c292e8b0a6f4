// One step of the AMX prefill pipeline. A unit is 32 query rows against one block of keys; while the scores of the
// current one become weights, tiles make the scores of the next and add the outputs of the previous one:
//
//    step t    vectors   softmax(t)   ||  tiles   Sᵀ(t+1) = K·Qᵀ,  Oᵀ(t-1) += Vᵀ·Pᵀ
//
//    tiles 0 1 = sums, 2×2 of 16×16: rows 16 keys (16 columns of V), columns 16 queries
//          2 3
//    tiles 4 5 = two tiles of K (Vᵀ), 6 7 = two of Qᵀ (Pᵀ): 4 loads for 4 products, fewer for split operands, whose
//                terms share tiles (split_terms.h)
//
// Both kinds of work are emitted in small slices in turn, 64 · products cycles of tiles against a few keys of softmax:
// the core's window is long enough to run them side by side, LLVM is not asked to. A tile of sums is stored only just
// before its register is needed again, by the next 2×2 of whatever product, so that no load waits for a store.
//
// References follow maxima (amx_prefill_scores.h), which a pass before the slices finds. Where scores are what products
// leave and a whole block of them is kept, that pass is left out for rows that have a reference: weights are taken
// against it and the maxima found beside them, and only where one has outgrown it is the step done again, with the pass
// and without tiles. What is computed is the same to the bit.
//
// Registers: a slice of softmax holds two vectors of scores, the sums of weights and maxima (two each), the references,
// and the constants of exp2: some 18 of 32; tiles take none.
#pragma once

#include "codegen/cpu/amx_prefill_weights.h"
#include "codegen/cpu/amx_tiles.h"
#include "codegen/cpu/split_terms.h"

namespace tilewright::cpu {

class AmxPrefillStep {
 public:
  /// Emits the internal function i64 step(args, b, h, scratch), which works on the units in scratch (AmxPipelineState).
  AmxPrefillStep(LlvmBuilder& builder, AmxTiles& tiles, AmxScorePass& scores, const AttentionSpec& spec,
                 const AmxPrefillLayout& layout);
  /// A step, and its repetition where a reference was outgrown.
  void call(llvm::Value* b, llvm::Value* h, llvm::Value* scratch);

 private:
  using Layout = AmxPrefillLayout;
  using State = AmxPipelineState;
  using Field = AmxUnitFields;
  static constexpr int64_t kLanes = Layout::kGroup, kTile = Layout::kTile;

  /// A unit's fields, read from scratch.
  struct Unit {
    llvm::Value *row, *q, *rows, *kv, *columns, *whole, *steps, *keys, *values, *scores, *weights;
  };
  Unit read_unit(int64_t which);
  llvm::Value* state_word(int64_t word);
  llvm::Value* place(int64_t at) { return b_.byte_pointer(b_.argument(3), b_.i64(at)); }
  llvm::Value* per_row(int64_t at, llvm::Value* row, int64_t unit_bytes);

  void emit();
  /// i1: the current unit's maxima may be found beside its weights.
  llvm::Value* may_guess(const Unit& unit, llvm::Value* max);
  /// i1: scores of the group exceed its references by more than they may.
  llvm::Value* outgrown(int64_t group, const Values& carried);
  /// Where the operands of a 2×2 of products lie for one 32 of the summed dimension.
  struct Operands {
    llvm::Value *a, *b;      ///< tile (part 0) of the first row of A tiles, column of B tiles
    int64_t a_next, b_next;  ///< bytes to the second
    int64_t a_part, b_part;  ///< bytes between parts
  };
  /// Stores what the tiles of sums held before and starts them at zero, or at `start`, whose groups are
  /// `start_distance` bytes apart.
  void begin_sums(llvm::Value* start, int64_t start_distance);
  /// Of one 32 of the summed dimension.
  void products(const Operands& at, int64_t count);
  void defer(llvm::Value* base, int64_t distance);
  void flush();
  /// Slice `slice` of `slices` equal ones: scores of its share of `pairs` pairs of keys become weights, split and
  /// paired as tiles of P.
  Values softmax(const Unit& unit, int64_t group, llvm::Value* first_pair, int64_t pairs, llvm::Value* slice,
                 int64_t slices, const Values& carried);
  Values softmax_pairs(const Unit& unit, int64_t group, llvm::Value* first_pair, int64_t pairs, const Values& sums);
  void add_sum(const Unit& unit, int64_t group, llvm::Value* added);

  LlvmBuilder& b_;
  AmxTiles& tiles_;
  AmxScorePass& scores_;
  const AttentionSpec& spec_;
  const AmxPrefillLayout& layout_;
  const bool guesses_;  ///< scores are plain: maxima are carried beside the sums of weights
  llvm::Function* function_ = nullptr;
  std::optional<AmxWeights> weights_;
  AmxWeights::Group groups_[2] = {};
};

}  // namespace tilewright::cpu
