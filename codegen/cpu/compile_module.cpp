// Module → object code. No IR pipeline runs: templates emit loops with phis in place, and O2 on top cost 12–104 ms for
// no speed (docs/decisions.md).
#include <llvm/CodeGen/MachineFunction.h>
#include <llvm/CodeGen/MachineRegisterInfo.h>
#include <llvm/CodeGen/Passes.h>
#include <llvm/CodeGen/RegAllocCommon.h>
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

#include "codegen/cpu/cpu_module.h"
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

/// Passes that find nothing to do in code that templates have already laid out, by the names LLVM prints. Together they
/// cost more than a third of a compile, each little: it is their number that counts, once per function. A name that
/// another LLVM release does not know changes nothing.
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
    // Registers of integer and of float vectors are the same to the machines that we generate for, bar a cycle.
    "X86 Execution Dependency Fix",
    "BreakFalseDeps",
    // Optimisations of stack slots, calls and constants that are few here.
    "Merge disjoint stack slots",
    "Local Stack Slot Allocation",
    "Stack Slot Coloring",
    "Machine Loop Invariant Code Motion",
    "X86 Optimize Call Frame",
    "X86 Byte/Word Instruction Fixup",
    "X86 Fixup Vector Constants",
    "Detect Dead Lanes",
    "Init Undef Pass",
    "Rename Disconnected Subregister Components",
    "X86 Atom pad short functions",
    "X86 Insert Cache Prefetches",
    "X86 Discriminate Memory Operands",
    // What generated code does not have: exceptions, collected or thread-local memory, debug and profile data, patch
    // points, hardening against its own caller.
    "Lower Garbage Collection Instructions",
    "Shadow Stack GC Lowering",
    "Expand vector predication intrinsics",
    "Instrument function entry/exit with calls to e.g. mcount() (post inlining)",
    "TLS Variable Hoist",
    "Expand indirectbr instructions",
    "Exception handling preparation",
    "Prepare callbr",
    "Safe Stack instrumentation pass",
    "Insert stack protectors",
    "Local Dynamic TLS Access Clean-up",
    "X86 Windows Fixup Buffer Security Check",
    "X86 speculative load hardening",
    "Register Allocation Pass Scoring",
    "X86 Load Value Injection (LVI) Load Hardening",
    "Remove Redundant DEBUG_VALUE analysis",
    "Fixup Statepoint Caller Saved",
    "Insert KCFI indirect call checks",
    "Analyze Machine Code For Garbage Collection",
    "Insert fentry calls",
    "Insert XRay ops",
    "Implement the 'patchable-function' attribute",
    "X86 Indirect Branch Tracking",
    "X86 insert wait instruction",
    "Contiguously Lay Out Funclets",
    "StackMap Liveness Analysis",
    "Live DEBUG_VALUE analysis",
    "Machine Sanitizer Binary Metadata",
    "Stack Frame Layout Analysis",
    "X86 Speculative Execution Side Effect Suppression",
    "X86 Indirect Thunks",
    "X86 Return Thunks",
    "Check CFA info and insert CFI instructions if needed",
    "X86 Load Value Injection (LVI) Ret-Hardening",
    "Pseudo Probe Inserter",
    "Unpack machine instruction bundles",
};

/// Registers of functions that are marked cold.
bool is_cold(const llvm::TargetRegisterInfo&, const llvm::MachineRegisterInfo& registers, llvm::Register which) {
  return !registers.reg_empty(which) &&
         registers.reg_instr_begin(which)->getMF()->getFunction().hasFnAttribute(llvm::Attribute::OptimizeNone);
}

/// Leaves those passes out, and lets cold functions keep the registers that the basic allocator gives them, before the
/// greedy one, whose splitting takes a third of their time, finds none left to give. TargetPassConfig can only drop
/// what it adds by id, and LLVM's command line options are global to a process that may hold other users of LLVM.
class LeanPassManager final : public llvm::legacy::PassManager {
 public:
  explicit LeanPassManager(InstructionOrder order) : order_(order) {}

  void add(llvm::Pass* pass) override {
    const llvm::StringRef name = pass->getPassName();
    if (name == "Greedy Register Allocator") PassManager::add(llvm::createBasicRegisterAllocator(is_cold));
    const bool reorders = name == "Machine Instruction Scheduler";
    if ((reorders && order_ == InstructionOrder::emitted) ||
        std::find(std::begin(kLeftOut), std::end(kLeftOut), std::string_view(name)) != std::end(kLeftOut))
      delete pass;
    else
      PassManager::add(pass);
  }

 private:
  InstructionOrder order_;
};

bool add_passes(llvm::TargetMachine& machine, LeanPassManager& passes, llvm::raw_pwrite_stream& stream,
                llvm::CodeGenFileType type) {
  return !machine.addPassesToEmitFile(passes, stream, nullptr, type, /*DisableVerify=*/true);
}

/// The code generator for one kind of target: its passes, which write to one buffer, and the TargetMachine behind them.
struct CodeGenerator {
  explicit CodeGenerator(InstructionOrder order) : object_passes(order) {}

  std::unique_ptr<llvm::TargetMachine> machine;
  llvm::SmallVector<char, 0> bytes;
  llvm::raw_svector_ostream stream{bytes};
  LeanPassManager object_passes;  ///< run once per module (llc's -compile-twice tests that they may be)
};

/// Code generators that no compile is using. Making one costs as much as compiling a small function, and two threads
/// may not share one; a pool serves short-lived compile threads, too, which thread-local ones would not.
class GeneratorPool {
 public:
  static GeneratorPool& instance() {
    static auto* pool = new GeneratorPool;  // never destroyed: threads may compile until the process ends
    return *pool;
  }
  std::unique_ptr<CodeGenerator> take(const std::string& key) {
    const std::lock_guard lock(mutex_);
    auto& idle = idle_[key];
    if (idle.empty()) return nullptr;
    auto generator = std::move(idle.back());
    idle.pop_back();
    return generator;
  }
  void give_back(const std::string& key, std::unique_ptr<CodeGenerator> generator) {
    const std::lock_guard lock(mutex_);
    idle_[key].push_back(std::move(generator));
  }

 private:
  std::mutex mutex_;
  std::map<std::string, std::vector<std::unique_ptr<CodeGenerator>>> idle_;
};

/// A CodeGenerator for the duration of one compile; null when LLVM cannot make object code for such a target.
class BorrowedGenerator {
 public:
  BorrowedGenerator(const CpuTarget& target, const std::string& triple, InstructionOrder order) {
    const std::string cpu = target_cpu_name(target), features = target_features(target);
    key_ = cpu + " " + features + (order == InstructionOrder::emitted ? " emitted" : " scheduled");
    generator_ = GeneratorPool::instance().take(key_);
    if (generator_) return;
    initialize_native_target();
    std::string error;
    const llvm::Target* found = llvm::TargetRegistry::lookupTarget(triple, error);
    if (!found) return;
    llvm::TargetOptions options;
    options.EnableFastISel = false;
    options.AllowFPOpFusion = llvm::FPOpFusion::Standard;  // `contract` flags decide, never the machine
    auto made = std::make_unique<CodeGenerator>(order);
    made->machine.reset(found->createTargetMachine(triple, cpu, features, options, llvm::Reloc::PIC_,
                                                   llvm::CodeModel::Small, llvm::CodeGenOptLevel::Default,
                                                   /*JIT=*/true));
    if (add_passes(*made->machine, made->object_passes, made->stream, llvm::CodeGenFileType::ObjectFile))
      generator_ = std::move(made);
  }
  ~BorrowedGenerator() {
    if (generator_) GeneratorPool::instance().give_back(key_, std::move(generator_));
  }
  BorrowedGenerator(const BorrowedGenerator&) = delete;
  BorrowedGenerator& operator=(const BorrowedGenerator&) = delete;
  CodeGenerator* operator->() const { return generator_.get(); }
  explicit operator bool() const { return generator_ != nullptr; }

 private:
  std::string key_;
  std::unique_ptr<CodeGenerator> generator_;
};

}  // namespace

Result<ObjectCode> compile_module(CpuModule source, const CpuTarget& target, const EmitOptions& options) {
  llvm::Module& module = *source.state().module;
  const InstructionOrder order = instruction_order(source);
  const BorrowedGenerator generator(target, module.getTargetTriple(), order);
  if (!generator) return unsupported("LLVM has no code generator for {}", module.getTargetTriple());
  TW_CHECK(generator->machine->createDataLayout() == module.getDataLayout());

  if (options.verify) {
    std::string complaints;
    llvm::raw_string_ostream stream(complaints);
    if (llvm::verifyModule(module, &stream))
      return invalid("the generated module {} is malformed: {}", module.getName().str(), complaints);
  }
  ObjectCode code;
  code.ir_instructions = module.getInstructionCount();
  if (options.want_text) {
    code.final_ir = source.text();
    const auto copy = llvm::CloneModule(module);  // code generation rewrites its module
    llvm::SmallVector<char, 0> assembly;
    llvm::raw_svector_ostream stream(assembly);
    LeanPassManager passes(order);
    if (!add_passes(*generator->machine, passes, stream, llvm::CodeGenFileType::AssemblyFile))
      return unsupported("LLVM cannot print assembly for {}", module.getTargetTriple());
    passes.run(*copy);
    code.assembly.assign(assembly.begin(), assembly.end());
  }
  generator->object_passes.run(module);
  code.bytes.assign(generator->bytes.begin(), generator->bytes.end());
  generator->bytes.clear();
  return code;
}

}  // namespace tilewright
