#include "codegen/cpu/cpu_module.h"

#include <llvm/Support/raw_ostream.h>

#include "codegen/cpu/llvm_builder.h"

namespace tilewright {
namespace {

constexpr const char* kTriple = "x86_64-unknown-linux-gnu";
// LLVM's own for the triple; compile_module checks that they agree.
constexpr const char* kDataLayout = "e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-i128:128-f80:128-n8:16:32:64-S128";
constexpr const char* kEmittedOrder = "tilewright.emitted_order";

}  // namespace

CpuModule::CpuModule(std::unique_ptr<State> state) : state_(std::move(state)) {}
CpuModule::CpuModule(CpuModule&&) noexcept = default;
CpuModule& CpuModule::operator=(CpuModule&&) noexcept = default;
CpuModule::~CpuModule() {
  if (state_) state_->module.reset();  // before its context
}

std::string CpuModule::text() const {
  std::string text;
  llvm::raw_string_ostream stream(text);
  state_->module->print(stream, nullptr);
  return text;
}

CpuModule make_cpu_module(const std::string& name, InstructionOrder order) {
  auto state = std::make_unique<CpuModule::State>();
  state->context = std::make_unique<llvm::LLVMContext>();
  // Values are known by their order; names would cost time and memory in every compile.
  state->context->setDiscardValueNames(true);
  state->module = std::make_unique<llvm::Module>(name, *state->context);
  state->module->setTargetTriple(kTriple);
  state->module->setDataLayout(kDataLayout);
  if (order == InstructionOrder::emitted) state->module->getOrInsertNamedMetadata(kEmittedOrder);
  return CpuModule(std::move(state));
}

InstructionOrder instruction_order(CpuModule& module) {
  return module.state().module->getNamedMetadata(kEmittedOrder) ? InstructionOrder::emitted
                                                                : InstructionOrder::scheduled;
}

}  // namespace tilewright
