#include "codegen/cpu/backward_source.h"

namespace tilewright::cpu {
using llvm::Value;

BackwardSource::BackwardSource(LlvmBuilder& builder, const BackwardSpec& spec, const ArgsLayout& args,
                               const BackwardLayout& layout)
    : b_(builder), spec_(spec), args_(args), copy_(builder, layout.dtype, layout.lanes) {
  for (const auto* list : {&layout.q_rows, &layout.kv_rows})
    for (const BackwardLayout::Rows& rows : *list) copy_.declare(rows.type);
  for (const BackwardLayout::Term& term : layout.terms) copy_.declare(term.key_type);
}

llvm::Function* BackwardSource::begin(const std::string& name) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  llvm::Function* function = b_.begin_internal(name, b_.ir.getVoidTy(), {p, i, i, i, i, p});
  b_.mark_cold();
  return function;
}

void BackwardSource::call(llvm::Function* function, Value* b, Value* h, Value* first, Value* count, Value* scratch) {
  b_.ir.CreateCall(function, {b_.argument(0), b, h, first, count, scratch});
}

BackwardSource::Reader::Reader(BackwardSource& source, Of rows)
    : s_(source), b_(source.b_), args_(source.b_, source.args_) {
  if (rows == Of::queries || s_.spec_.keep_kv.is_constant_true()) return;
  visible_.emplace(b_, args_, s_.spec_.tensors, s_.spec_.keep_kv, 1, Axis::kv);
  visible_->set_axis(Axis::b, b_.argument(1));
  visible_->set_axis(Axis::h, b_.argument(2));
  visible_->hoist();
}

RowAccess BackwardSource::Reader::resolve(const Access& access) {
  return resolve_access(b_, args_, s_.spec_, access, b_.argument(1), b_.argument(2));
}

void BackwardSource::Reader::query(const BackwardLayout::Rows& rows, const RowAccess& from, Value* number,
                                   Value* target, int64_t padded) {
  Value* exists = b_.ir.CreateICmpSLT(number, b_.argument(4));
  Value* position = b_.add(b_.argument(3), b_.ir.CreateSelect(exists, number, b_.i64(0)));
  s_.copy_.call(rows.type, target, b_.element_pointer(rows.type, from.base, b_.mul(position, from.stride_seq)),
                from.stride_dim, b_.ir.CreateSelect(exists, b_.i64(rows.width), b_.i64(0)), padded, rows.scale);
}

void BackwardSource::Reader::key(DType type, const RowAccess& from, Value* number, int64_t width, Value* target,
                                 int64_t padded) {
  Value *first = b_.argument(3), *count = b_.argument(4);
  Value* shown = b_.ir.CreateICmpSLT(number, count);
  Value* position = b_.add(first, b_.min(number, b_.sub(count, b_.i64(1))));
  if (visible_) {
    visible_->set_axis(Axis::kv, position);
    shown = b_.ir.CreateAnd(shown, visible_->emit());
  }
  s_.copy_.call(type, target, b_.element_pointer(type, from.base, b_.mul(position, from.stride_seq)), from.stride_dim,
                b_.ir.CreateSelect(shown, b_.i64(width), b_.i64(0)), padded);
}

}  // namespace tilewright::cpu
