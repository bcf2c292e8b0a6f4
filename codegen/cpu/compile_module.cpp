// Module → object code. No IR pipeline runs: templates emit loops with phis in place, and O2 on top cost 12–104 ms for
// no speed (docs/decisions.md).
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/Transforms/Utils/Cloning.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string_view>

#include "codegen/cpu/llvm_builder.h"
#include "codegen/cpu/target_features.h"

namespace tilewright {
namespace {

void initialize_native_target() {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
  });
}

using Machine = std::unique_ptr<llvm::TargetMachine>;

/// TargetMachines that no compile is using. Making one costs as much as compiling a small function, and two threads may
/// not share one; a pool serves short-lived compile threads, too, which thread-local ones would not.
class MachinePool {
 public:
  static MachinePool& instance() {
    static auto* pool = new MachinePool;  // never destroyed: threads may compile until the process ends
    return *pool;
  }
  Machine take(const std::string& key) {
    const std::lock_guard lock(mutex_);
    auto& idle = idle_[key];
    if (idle.empty()) return nullptr;
    Machine machine = std::move(idle.back());
    idle.pop_back();
    return machine;
  }
  void give_back(const std::string& key, Machine machine) {
    const std::lock_guard lock(mutex_);
    idle_[key].push_back(std::move(machine));
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<Machine>> idle_;
};

/// A TargetMachine for the duration of one compile; null when LLVM has no such target.
class BorrowedMachine {
 public:
  BorrowedMachine(const CpuTarget& target, const std::string& triple) {
    const std::string cpu = target_cpu_name(target), features = target_features(target);
    key_ = cpu + " " + features;
    machine_ = MachinePool::instance().take(key_);
    if (machine_) return;
    initialize_native_target();
    std::string error;
    const llvm::Target* found = llvm::TargetRegistry::lookupTarget(triple, error);
    if (!found) return;
    llvm::TargetOptions options;
    options.EnableFastISel = false;
    options.AllowFPOpFusion = llvm::FPOpFusion::Standard;  // `contract` flags decide, never the machine
    machine_.reset(found->createTargetMachine(triple, cpu, features, options, llvm::Reloc::PIC_, llvm::CodeModel::Small,
                                              llvm::CodeGenOptLevel::Default, /*JIT=*/true));
  }
  ~BorrowedMachine() {
    if (machine_) MachinePool::instance().give_back(key_, std::move(machine_));
  }
  BorrowedMachine(const BorrowedMachine&) = delete;
  BorrowedMachine& operator=(const BorrowedMachine&) = delete;
  llvm::TargetMachine* operator->() const { return machine_.get(); }
  llvm::TargetMachine& operator*() const { return *machine_; }
  explicit operator bool() const { return machine_ != nullptr; }

 private:
  std::string key_;
  Machine machine_;
};

/// Optimisations that find nothing to do in code that templates have already laid out, by the names LLVM prints.
/// Together they cost a third of a compile. A name that another LLVM release does not know changes nothing.
constexpr std::string_view kLeftOut[] = {
    "Loop Strength Reduction",  // templates place their own induction variables
    "Canonicalize Freeze Instructions in Loops",
    "Constant Hoisting",
    "Merge contiguous icmps into a memcmp",
    "Expand memcmp() to load/stores",
    "Replace intrinsics with calls to vector library",
    "Partially inline calls to library functions",
    "Interleaved Access Pass",
    "X86 Partial Reduction",
    "X86 Domain Reassignment Pass",
    "Early Tail Duplication",
    "Tail Duplication",
    "Early If-Conversion",
    "Machine InstCombiner",
    "X86 cmov Conversion",
    "X86 LEA Optimize",
    "X86 LEA Fixup",
    "X86 Fixup SetCC",
    "X86 Fixup Inst Tuning",
    "X86 Avoid Store Forwarding Blocks",
    "Live Range Shrink",
    "Shrink Wrapping analysis",
    "PostRA Machine Sink",
    "Machine Late Instructions Cleanup Pass",
    "Post RA top-down list latency scheduler",
};

/// Leaves those passes out. TargetPassConfig can only drop what it adds by id, and LLVM's command line options are
/// global to a process that may hold other users of LLVM.
class LeanPassManager final : public llvm::legacy::PassManager {
 public:
  void add(llvm::Pass* pass) override {
    const llvm::StringRef name = pass->getPassName();
    if (std::find(std::begin(kLeftOut), std::end(kLeftOut), std::string_view(name)) == std::end(kLeftOut))
      return PassManager::add(pass);
    delete pass;
  }
};

bool emit(llvm::TargetMachine& machine, llvm::Module& module, llvm::CodeGenFileType type,
          llvm::SmallVectorImpl<char>& bytes) {
  llvm::raw_svector_ostream stream(bytes);
  LeanPassManager passes;
  if (machine.addPassesToEmitFile(passes, stream, nullptr, type, /*DisableVerify=*/true)) return false;
  passes.run(module);
  return true;
}

}  // namespace

Result<ObjectCode> compile_module(CpuModule source, const CpuTarget& target, const EmitOptions& options) {
  llvm::Module& module = *source.state().module;
  const BorrowedMachine machine(target, module.getTargetTriple());
  if (!machine) return unsupported("LLVM has no code generator for {}", module.getTargetTriple());
  TW_CHECK(machine->createDataLayout() == module.getDataLayout());

  if (options.verify) {
    std::string complaints;
    llvm::raw_string_ostream stream(complaints);
    if (llvm::verifyModule(module, &stream))
      return invalid("the generated module {} is malformed: {}", module.getName().str(), complaints);
  }
  ObjectCode code;
  code.ir_instructions = module.getInstructionCount();
  llvm::SmallVector<char, 0> bytes;
  if (options.want_text) {
    code.final_ir = source.text();
    const auto copy = llvm::CloneModule(module);  // code generation rewrites its module
    if (!emit(*machine, *copy, llvm::CodeGenFileType::AssemblyFile, bytes))
      return unsupported("LLVM cannot print assembly for {}", module.getTargetTriple());
    code.assembly.assign(bytes.begin(), bytes.end());
    bytes.clear();
  }
  if (!emit(*machine, module, llvm::CodeGenFileType::ObjectFile, bytes))
    return unsupported("LLVM cannot emit object code for {}", module.getTargetTriple());
  code.bytes.assign(bytes.begin(), bytes.end());
  return code;
}

}  // namespace tilewright
