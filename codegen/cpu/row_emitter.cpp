#include "codegen/cpu/row_emitter.h"

namespace tilewright::cpu {
using llvm::Value;

namespace {

/// Emits the body of one row.
class RowBody {
 public:
  RowBody(LlvmBuilder& builder, ArgsReader& args, const ScoreSpace& space, const RowProgram& row, int64_t lanes)
      : b_(builder), row_(row), type_(space.accumulate), lanes_(lanes) {
    const auto emitter = [&](const std::vector<ExprId>& roots) {
      return ExprEmitter(b_, args, space.tensors, row.values, roots, lanes, Axis::d);
    };
    for (const RowSum& sum : row.sums) sums_.push_back(emitter({sum.value}));
    for (const RowPiece& piece : row.pieces) {
      const auto same = [&](const Group& group) { return group.pieces[0].count == piece.count; };
      auto group = std::find_if(groups_.begin(), groups_.end(), same);
      if (group == groups_.end()) group = groups_.insert(groups_.end(), Group{});
      group->pieces.push_back(piece);
    }
    for (const Group& group : groups_) {
      std::vector<ExprId> roots;
      for (const RowPiece& piece : group.pieces) roots.push_back(piece.value);
      values_.push_back(emitter(roots));
    }
  }

  void set_axis(Axis axis, Value* value) {
    for (auto* emitters : {&sums_, &values_})
      for (ExprEmitter& emitter : *emitters) emitter.set_axis(axis, value);
  }
  void hoist() {
    for (auto* emitters : {&sums_, &values_})
      for (ExprEmitter& emitter : *emitters) emitter.hoist();
  }

  void emit(Value* dst) {
    ScoreLanes sums{};
    for (Value*& sum : sums) sum = b_.constant(type_, 0, lanes_);
    for (size_t i = 0; i < sums_.size(); ++i) sums[i] = b_.splat(sum(sums_[i], row_.sums[i].count, sums), lanes_);
    for (size_t g = 0; g < groups_.size(); ++g)
      for_vectors(groups_[g].pieces[0].count, {}, [&](Value* i, Value* mask, const Values&) {
        const Values values = values_[g].emit_roots(i, sums, mask);
        for (size_t n = 0; n < values.size(); ++n) {
          const RowPiece& piece = groups_[g].pieces[n];
          Value* to = b_.element_pointer(type_, dst, b_.add(b_.mul(i, b_.i64(piece.step)), b_.i64(piece.begin)));
          b_.store_strided(type_, b_.splat(values[n], lanes_), to, b_.i64(piece.step), mask);
        }
        return Values{};
      });
  }

 private:
  /// Pieces of one length.
  struct Group {
    std::vector<RowPiece> pieces;
  };

  Value* sum(ExprEmitter& emitter, int64_t count, const ScoreLanes& sums) {
    Value* zero = b_.constant(type_, 0, lanes_);
    return b_.reduce_add(for_vectors(count, {zero}, [&](Value* i, Value* mask, const Values& carried) {
      Value* next = b_.splat(emitter.emit_roots(i, sums, mask)[0], lanes_);
      if (mask) next = b_.ir.CreateSelect(mask, next, zero);
      return Values{b_.ir.CreateFAdd(carried[0], next)};
    })[0]);
  }

  /// body(first column, mask, carried) for every vector; the mask is null but for the last, partial one.
  Values for_vectors(int64_t count, Values carried, const std::function<Values(Value*, Value*, const Values&)>& body) {
    const int64_t whole = count / lanes_ * lanes_;
    if (whole)
      carried = b_.loop_nonempty(b_.i64(0), b_.i64(whole), lanes_, carried,
                                 [&](Value* i, const Values& so_far) { return body(i, nullptr, so_far); });
    if (whole < count) carried = body(b_.i64(whole), b_.lane_mask(b_.i64(count - whole), lanes_), carried);
    return carried;
  }

  LlvmBuilder& b_;
  const RowProgram& row_;
  DType type_;
  int64_t lanes_;
  std::vector<Group> groups_;
  std::vector<ExprEmitter> sums_, values_;  ///< by sum, by group
};

}  // namespace

/// void name(args, b, h, first, count, dst)
RowEmitter::RowEmitter(LlvmBuilder& builder, const ScoreSpace& space, const ArgsLayout& layout, const RowProgram& row,
                       Axis position, int64_t stride, int64_t lanes, const std::string& name)
    : b_(builder) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  function_ = b_.begin_internal(name, b_.ir.getVoidTy(), {p, i, i, i, i, p});
  ArgsReader args(b_, layout);
  RowBody body(b_, args, space, row, lanes);
  body.set_axis(Axis::b, b_.argument(1));
  body.set_axis(Axis::h, b_.argument(2));
  body.hoist();
  b_.loop(b_.i64(0), b_.argument(4), 1, [&](Value* n) {
    body.set_axis(position, b_.add(b_.argument(3), n));
    body.hoist();
    body.emit(b_.element_pointer(space.accumulate, b_.argument(5), b_.mul(n, b_.i64(stride))));
  });
  b_.ret();
}

void RowEmitter::call(Value* b, Value* h, Value* first, Value* count, Value* dst) const {
  b_.ir.CreateCall(function_, {b_.argument(0), b, h, first, count, dst});
}

DotRows emit_rows(LlvmBuilder& b, const ScoreSpace& space, const ArgsLayout& args, const DotTerm& dot, int64_t lanes,
                  const std::string& name) {
  DotRows rows;
  if (dot.query_row) rows.query.emplace(b, space, args, *dot.query_row, Axis::q, dot.head_dim, lanes, name + "_q");
  if (dot.key_row) rows.key.emplace(b, space, args, *dot.key_row, Axis::kv, dot.head_dim, lanes, name + "_k");
  return rows;
}

RowAccess resolve_stored(LlvmBuilder& b, ArgsReader& args, const ScoreSpace& space, const Access& access,
                         const std::optional<RowProgram>& row, Value* batch, Value* head) {
  if (!row) return resolve_access(b, args, space, access, batch, head);
  return {llvm::ConstantPointerNull::get(b.ir.getPtrTy()), b.i64(0), b.i64(1)};
}

}  // namespace tilewright::cpu
