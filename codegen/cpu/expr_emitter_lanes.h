// LaneBuilder: how PointwiseWalker's operations are spelled over vector lanes. Internal to expr_emitter*.cpp.
//
// Values stay as uniform as they can: an integer that runs evenly along the lanes is one scalar, a comparison of the
// position with a uniform value is one 32-bit threshold. Vectors of integers are 32 bits wide whenever the node's range
// fits, whatever the declared width.
#pragma once

#include <array>
#include <map>
#include <optional>

#include "codegen/cpu/expr_emitter.h"
#include "codegen/cpu/expr_emitter_facts.h"
#include "codegen/cpu/llvm_builder.h"
#include "codegen/pointwise.h"
#include "ir/attention_spec.h"

namespace tilewright::cpu {

/// Exactly one of scalar and vector is set.
struct LaneValue {
  /// uniform: the value; affine: the value at position 0 (i64); threshold: T (i32), true where position PRED T;
  /// strided: address at position 0.
  llvm::Value* scalar = nullptr;
  llvm::Value* vector = nullptr;
  llvm::CmpInst::Predicate predicate{};           ///< threshold
  llvm::Value* stride = nullptr;                  ///< strided: elements per position
  llvm::Value* first = nullptr;                   ///< strided, clamped: the index that varies, at position 0
  llvm::Value *left = nullptr, *right = nullptr;  ///< uniform float products: the factors of `scalar`
};

class LaneBuilder {
 public:
  using Operand = LaneValue;
  using Operands = std::vector<LaneValue>;

  LaneBuilder(LlvmBuilder& b, ArgsReader& args, const std::vector<SpecTensor>& tensors, const Expr& expr, int64_t lanes,
              Axis vary);

  // Where in the index space code is being emitted.
  void set_axis(Axis axis, llvm::Value* value);
  void promise_aligned() { aligned_ = true; }
  void begin_emit(llvm::Value* vary_base, const ScoreLanes& scores, llvm::Value* mask);
  /// A root as emit() returns it.
  llvm::Value* result(ExprId id, const LaneValue& value);
  bool uniform(ExprId id) const { return form(id) == LaneForm::uniform; }

  /// A load of lanes that lie in a row, which moves with `axis`.
  bool streams(ExprId id, Axis axis) const {
    return form(id) == LaneForm::strided && (depends_[static_cast<size_t>(raw(id))] & bit(axis)) != 0;
  }
  void prefetch(ExprId id, const LaneValue& at);

  // What PointwiseWalker asks for.
  bool ready(ExprId id, uint32_t known) const;
  void stage(ExprId id, const std::vector<std::optional<LaneValue>>& values);
  LaneValue finish(ExprId id, const LaneValue& value);
  LaneValue constant(ExprId id);
  LaneValue index(ExprId id);
  LaneValue dim(ExprId id);
  LaneValue score(ExprId id);
  LaneValue load(ExprId id, const Operands& args);
  LaneValue load_extreme(ExprId id, const Operands& args);
  LaneValue real(ExprId id, Op op, const Operands& args);
  llvm::Value* sum_with_product(ExprId id, Op op, const Operands& args);
  LaneValue integer(ExprId id, Op op, const Operands& args);
  LaneValue logic(ExprId id, Op op, const Operands& args);
  LaneValue compare_real(ExprId id, Op op, const Operands& args);
  LaneValue compare_integer(ExprId id, Op op, const Operands& args);
  LaneValue compare_logic(ExprId id, Op op, const Operands& args);
  LaneValue select(ExprId id, const Operands& args);
  LaneValue convert(ExprId id, DType from, const LaneValue& arg);

 private:
  /// Run-time facts of a tensor that loads read, fetched once.
  struct TensorInfo {
    llvm::Value* base = nullptr;
    std::vector<llvm::Value*> limit, stride;  ///< per axis: largest index (0 where the tensor is empty), elements
    llvm::Value* small = nullptr;             ///< i1: every byte offset, a little beyond the ends, fits in 32 bits
  };

  const ExprNode& node(ExprId id) const { return expr_[id]; }
  const NodeFacts& facts(ExprId id) const { return facts_[static_cast<size_t>(raw(id))]; }
  LaneForm form(ExprId id) const { return facts(id).form; }
  ExprId arg_id(ExprId id, size_t i) const { return expr_[id].args[i]; }
  bool narrow(ExprId id) const { return facts(id).range.fits_i32(); }
  llvm::Type* lanes_type(llvm::Type* scalar) const;
  llvm::Value* splat(llvm::Value* scalar) { return b_.splat(scalar, lanes_); }

  // Values as vectors (or scalars when the node is uniform), see expr_emitter_lanes.cpp.
  llvm::Value* reals(const LaneValue& value);
  llvm::Value* bools(const LaneValue& value);
  llvm::Value* integers(ExprId id, const LaneValue& value, unsigned bits);
  llvm::Value* as_i64(ExprId id, const LaneValue& value);   ///< uniform and affine: the scalar
  llvm::Value* at_base(ExprId id, const LaneValue& value);  ///< affine: the first lane's value

  // Integer arithmetic on LLVM values of one type (scalar or vector), expr_emitter_integers.cpp.
  llvm::Value* integer_op(ExprId id, Op op, llvm::Value* a, llvm::Value* b);
  llvm::Value* divide(ExprId id, Op op, llvm::Value* a, llvm::Value* b);
  llvm::Value* divide_by_constant(ExprId id, Op op, llvm::Value* a, int64_t divisor);
  llvm::Value* divide_narrow(ExprId id, Op op, llvm::Value* a, llvm::Value* b);
  llvm::Value* wrap(ExprId id, llvm::Value* value);

  // Random numbers, expr_emitter_random.cpp.
  /// What random_bits needs of a row, a lane per block.
  struct RandomRow {
    llvm::Value *first, *c3;                        ///< joins the first round; word 3 after the second
    std::array<llvm::Value*, 2> second;             ///< joins the second round
    std::vector<std::array<llvm::Value*, 2>> keys;  ///< of the rounds after that
  };
  bool one_block_per_four_lanes(ExprId id) const;
  LaneValue random_bits(ExprId id, const Operands& args);
  RandomRow random_row(const std::vector<const LaneValue*>& args);
  llvm::Value* random_blocks(const RandomRow& row, llvm::Value* kv);
  llvm::Value* random_word(const std::vector<llvm::Value*>& args);
  llvm::Value* compare_random(llvm::CmpInst::Predicate predicate, ExprId left, ExprId right, const LaneValue& value);

  // Loads, expr_emitter_loads.cpp. Offsets and strides are in elements.
  TensorInfo read_tensor(int tensor, ArgsReader& args);
  llvm::Value* clamp(llvm::Value* index, llvm::Value* limit);
  /// Address with all uniform (and, for strided loads, affine) indices applied, the others at 0.
  llvm::Value* address(ExprId id, const std::vector<const LaneValue*>& args);
  llvm::Value* read_strided(ExprId id, const LaneValue& at);
  llvm::Value* read_run(DType dtype, llvm::Value* pointer, llvm::Value* stride);
  llvm::Value* run_indices(llvm::Value* first, int64_t factor, llvm::Value* limit, unsigned bits);
  llvm::Value* gather_load(ExprId id, llvm::Value* pointer, const Operands& args);
  llvm::Value* lane_index(ExprId id, size_t axis, const LaneValue& value, unsigned bits);
  llvm::Value* gather(DType dtype, llvm::Value* pointer, llvm::Value* offset, llvm::Value* mask);
  llvm::Value* extreme_over(ExprId id, const Values& low, const Values& high, size_t axis, llvm::Value* pointer,
                            llvm::Value* best);
  llvm::Value* extreme_of_run(ExprId id, llvm::Value* pointer, llvm::Value* count, llvm::Value* stride,
                              llvm::Value* best);
  llvm::Value* pick(ExprId id, llvm::Value* a, llvm::Value* b);
  LaneValue loaded(ExprId id, llvm::Value* value);

  LlvmBuilder& b_;
  const std::vector<SpecTensor>& tensors_;
  const Expr& expr_;
  int64_t lanes_;
  Axis vary_;
  std::vector<NodeFacts> facts_;
  std::vector<uint32_t> depends_;
  std::map<int, TensorInfo> tensor_info_;
  std::map<int32_t, llvm::Value*> dims_;      ///< by node
  std::map<int32_t, llvm::Value*> row_base_;  ///< gathers whose uniform indices were hoisted: the address
  std::map<int32_t, RandomRow> random_rows_;  ///< random_bits whose uniform operands were hoisted
  bool aligned_ = false;
  std::array<llvm::Value*, 16> axes_{};
  // One emit:
  llvm::Value *base_ = nullptr, *base32_ = nullptr, *mask_ = nullptr;
  ScoreLanes scores_{};
};

}  // namespace tilewright::cpu
