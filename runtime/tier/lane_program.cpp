#include "runtime/tier/lane_program.h"

#include <algorithm>

#include "codegen/pointwise.h"
#include "ir/result.h"

namespace tilewright::tier {
namespace {

/// PointwiseWalker's builder: a value is the register of its node. Registers are virtual, one per node, until the
/// program is complete.
class InstrBuilder {
 public:
  using Operand = int;
  using Operands = std::vector<int>;

  InstrBuilder(LaneProgram& program, const Expr& expr, Axis vary, const std::vector<SpecTensor>& tensors,
               const ArgsLayout& layout)
      : code_(&program.once),
        expr_(expr),
        vary_(vary),
        tensors_(tensors),
        layout_(layout),
        depends_(dependencies(expr)) {}

  void write_to(std::vector<Instr>& code) { code_ = &code; }
  uint32_t depends(ExprId id) const { return depends_[static_cast<size_t>(raw(id))]; }
  bool equal(ExprId id) const { return (depends(id) & (bit(vary_) | kDependsOnScore | kDependsOnT)) == 0; }

  bool ready(ExprId id, uint32_t known) const { return equal(id) && (depends(id) & ~known) == 0; }
  void stage(ExprId, const std::vector<std::optional<int>>&) {}
  int finish(ExprId, int value) { return value; }

  int constant(ExprId id) {
    Instr instr = start(InstrKind::constant, id, {});
    instr.literal = expr_[id].literal;
    return put(std::move(instr));
  }
  int index(ExprId id) {
    Instr instr = start(expr_[id].axis == vary_ ? InstrKind::position : InstrKind::axis, id, {});
    instr.axis = expr_[id].axis;
    return put(std::move(instr));
  }
  int dim(ExprId id) {
    Instr instr = start(InstrKind::dim, id, {});
    instr.dim = DimFormula(expr_[id].dim, layout_.dims);
    return put(std::move(instr));
  }
  int score(ExprId id) {
    Instr instr = start(InstrKind::product, id, {});
    instr.product = expr_[id].product;
    return put(std::move(instr));
  }
  int load(ExprId id, const Operands& args) { return read(InstrKind::load, id, args); }
  int load_extreme(ExprId id, const Operands& args) {
    TW_CHECK(equal(id) && "boxes do not vary along lanes");
    return read(InstrKind::load_extreme, id, args);
  }
  int real(ExprId id, Op, const Operands& args) { return put(start(InstrKind::real, id, args)); }
  int integer(ExprId id, Op op, const Operands& args) {
    return put(start(op == Op::random_bits ? InstrKind::random : InstrKind::integer, id, args));
  }
  int logic(ExprId id, Op op, const Operands& args) {
    Instr instr = start(InstrKind::integer, id, args);
    // Bools add as `or` and multiply as `and`: no wrap is needed.
    if (op == Op::mul || op == Op::min) instr.op = Op::logical_and;
    if (op == Op::add || op == Op::max) instr.op = Op::logical_or;
    return put(std::move(instr));
  }
  int compare_real(ExprId id, Op, const Operands& args) { return put(start(InstrKind::compare, id, args)); }
  int compare_integer(ExprId id, Op, const Operands& args) { return put(start(InstrKind::compare, id, args)); }
  int compare_logic(ExprId id, Op, const Operands& args) { return put(start(InstrKind::compare, id, args)); }
  int select(ExprId id, const Operands& args) { return put(start(InstrKind::select, id, args)); }
  int convert(ExprId id, DType, int arg) { return put(start(InstrKind::convert, id, {arg})); }

  int registers() const { return next_; }

 private:
  Instr start(InstrKind kind, ExprId id, const Operands& args) {
    const ExprNode& node = expr_[id];
    Instr instr;
    instr.kind = kind;
    instr.op = node.op;
    instr.dtype = node.dtype;
    if (!node.args.empty()) instr.from = expr_[node.args[0]].dtype;
    TW_CHECK(args.size() <= instr.args.size());
    instr.count = static_cast<int>(args.size());
    std::copy(args.begin(), args.end(), instr.args.begin());
    for (size_t i = 0; i < node.args.size(); ++i) instr.equal_args |= equal(node.args[i]) ? 1u << i : 0u;
    return instr;
  }
  int read(InstrKind kind, ExprId id, const Operands& args) {
    const ExprNode& node = expr_[id];
    Instr instr = start(kind, id, args);
    instr.tensor = node.tensor;
    instr.in_bounds = node.in_bounds;
    instr.least = node.kind == ExprKind::load_min;
    const auto tensor = static_cast<size_t>(node.tensor);
    instr.from = tensors_[tensor].type.dtype;
    instr.shape_at = layout_.shape_offset[tensor];
    instr.stride_at = layout_.stride_offset[tensor];
    return put(std::move(instr));
  }
  int put(Instr instr) {
    instr.dst = next_++;
    code_->push_back(std::move(instr));
    return next_ - 1;
  }

  std::vector<Instr>* code_;
  const Expr& expr_;
  Axis vary_;
  const std::vector<SpecTensor>& tensors_;
  const ArgsLayout& layout_;
  std::vector<uint32_t> depends_;
  int next_ = 0;
};

/// Gives `lanes` registers that are reused after their last reader; those of `once` and `row` keep theirs.
class RegisterAllocator {
 public:
  RegisterAllocator(LaneProgram& program, int virtual_registers)
      : program_(program), last_use_(static_cast<size_t>(virtual_registers), -1), at_(last_use_.size(), -1) {}

  void run() {
    auto& lanes = program_.lanes;
    for (const auto* code : {&program_.once, &program_.row})
      for (const Instr& instr : *code) at_[static_cast<size_t>(instr.dst)] = next_++;
    for (size_t i = 0; i < lanes.size(); ++i)
      for (int arg = 0; arg < lanes[i].count; ++arg)
        last_use_[static_cast<size_t>(lanes[i].args[static_cast<size_t>(arg)])] = static_cast<int>(i);
    for (const LaneProgram::Root& root : program_.roots)
      last_use_[static_cast<size_t>(root.reg)] = static_cast<int>(lanes.size());
    for (const auto& [code, spread] :
         {std::pair(&program_.once, &program_.spread_once), std::pair(&program_.row, &program_.spread_row)})
      for (const Instr& instr : *code)
        if (last_use_[static_cast<size_t>(instr.dst)] >= 0) spread->push_back(at_[static_cast<size_t>(instr.dst)]);
    const int kept = next_;
    for (size_t i = 0; i < lanes.size(); ++i) {
      Instr& instr = lanes[i];
      const int virtual_dst = instr.dst;
      at_[static_cast<size_t>(virtual_dst)] = take();
      std::vector<int> done;
      for (int arg = 0; arg < instr.count; ++arg) {
        const auto reg = static_cast<size_t>(instr.args[static_cast<size_t>(arg)]);
        if (last_use_[reg] == static_cast<int>(i) && at_[reg] >= kept) done.push_back(at_[reg]);
        instr.args[static_cast<size_t>(arg)] = at_[reg];
      }
      std::sort(done.begin(), done.end());
      done.erase(std::unique(done.begin(), done.end()), done.end());
      free_.insert(free_.end(), done.begin(), done.end());
      instr.dst = at_[static_cast<size_t>(virtual_dst)];
    }
    for (auto* code : {&program_.once, &program_.row})
      for (Instr& instr : *code) {
        for (int arg = 0; arg < instr.count; ++arg)
          instr.args[static_cast<size_t>(arg)] = at_[static_cast<size_t>(instr.args[static_cast<size_t>(arg)])];
        instr.dst = at_[static_cast<size_t>(instr.dst)];
      }
    for (LaneProgram::Root& root : program_.roots) root.reg = at_[static_cast<size_t>(root.reg)];
    program_.registers = next_;
  }

 private:
  int take() {
    if (free_.empty()) return next_++;
    const int reg = free_.back();
    free_.pop_back();
    return reg;
  }

  LaneProgram& program_;
  std::vector<int> last_use_, at_;  ///< by virtual register: instruction of `lanes`, its place
  std::vector<int> free_;
  int next_ = 0;
};

}  // namespace

LaneProgram::LaneProgram(const Expr& whole, const std::vector<ExprId>& wanted, Axis vary,
                         const std::vector<SpecTensor>& tensors, const ArgsLayout& layout) {
  Expr expr;
  std::vector<ExprId> ids;
  for (const ExprId root : wanted) ids.push_back(expr.import(whole, root));
  InstrBuilder builder(*this, expr, vary, tensors, layout);
  PointwiseWalker<InstrBuilder> walker(builder, expr);
  builder.write_to(once);
  walker.hoist(0);
  builder.write_to(row);
  walker.hoist(~0u);
  builder.write_to(lanes);
  const std::vector<int> found = walker.roots(ids);
  for (size_t i = 0; i < ids.size(); ++i)
    roots.push_back({found[i], lane_of(expr[ids[i]].dtype), builder.equal(ids[i])});
  RegisterAllocator(*this, builder.registers()).run();
}

}  // namespace tilewright::tier
