// A module in shares that compile side by side: generated once for each, and kept to the functions of one.
#include <llvm/IR/Module.h>

#include <algorithm>

#include "codegen/cpu/cpu_codegen.h"
#include "codegen/cpu/llvm_builder.h"

namespace tilewright {

int64_t instruction_count(CpuModule& module) { return module.state().module->getInstructionCount(); }

void keep_share(CpuModule& module, size_t share, size_t shares) {
  // Code generation costs 10 to 20 µs an instruction, the less where it does not optimise, and as much as some thirty
  // instructions for a function at all.
  const auto work = [](const llvm::Function& function) {
    const auto count = static_cast<int64_t>(function.getInstructionCount());
    return 30 + (function.hasOptNone() ? count * 2 / 3 : count);
  };
  std::vector<llvm::Function*> defined;
  for (llvm::Function& function : *module.state().module)
    if (!function.isDeclaration()) defined.push_back(&function);
  std::stable_sort(defined.begin(), defined.end(), [&](const auto* a, const auto* b) { return work(*a) > work(*b); });
  std::vector<int64_t> load(shares, 0);
  for (llvm::Function* function : defined) {
    const auto least = std::min_element(load.begin(), load.end());
    *least += work(*function);
    const bool own = static_cast<size_t>(least - load.begin()) == share;
    const bool internal = function->hasInternalLinkage();
    if (!own) function->deleteBody();
    if (!internal) continue;
    function->setLinkage(llvm::GlobalValue::ExternalLinkage);
    function->setVisibility(llvm::GlobalValue::HiddenVisibility);
  }
}

}  // namespace tilewright
