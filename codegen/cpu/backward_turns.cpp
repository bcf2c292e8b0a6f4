// Turns: counters in the workspace that keep sums over chunks in a fixed order (backward_template.cpp says why they
// cannot deadlock).
#include <llvm/IR/IntrinsicsX86.h>

#include "codegen/cpu/backward_emitter.h"

namespace tilewright::cpu {
using llvm::Value;

Value* BackwardEmitter::turn_counter(ArgsReader& args, Value* chunk, Value* b, Value* h) {
  Value* number = b_.add(b_.mul(b_.add(b_.mul(chunk, batch_), b), heads_), h);
  return b_.element_pointer(DType::i64, args.workspace(), number);
}

/// Spins until the counter is at least `least`; what was written before it was published is then visible.
void BackwardEmitter::wait_for(Value* counter, Value* least) {
  auto& ir = b_.ir;
  auto read = [&] {
    auto* load = ir.CreateAlignedLoad(b_.i64_type(), counter, llvm::Align(8));
    load->setAtomic(llvm::AtomicOrdering::Acquire);
    return load;
  };
  auto* check = llvm::BasicBlock::Create(b_.context(), "wait", b_.function());
  auto* pause = llvm::BasicBlock::Create(b_.context(), "pause", b_.function());
  auto* ready = llvm::BasicBlock::Create(b_.context(), "ready", b_.function());
  ir.CreateBr(check);
  ir.SetInsertPoint(check);
  ir.CreateCondBr(ir.CreateICmpSGE(read(), least), ready, pause);
  ir.SetInsertPoint(pause);
  ir.CreateIntrinsic(llvm::Intrinsic::x86_sse2_pause, {}, {});
  ir.CreateBr(check);
  ir.SetInsertPoint(ready);
}

void BackwardEmitter::publish(Value* counter, Value* value) {
  b_.ir.CreateAlignedStore(value, counter, llvm::Align(8))->setAtomic(llvm::AtomicOrdering::Release);
}

}  // namespace tilewright::cpu
