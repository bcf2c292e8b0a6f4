// Each JitCode owns an ExecutionSession of its own: nothing is shared between kernels, so loading is thread-safe
// without a lock, freeing one kernel frees its pages, and creation skips the platform set-up that LLJIT does.
#include "runtime/orc_jit.h"

#include <llvm/ExecutionEngine/JITLink/JITLinkMemoryManager.h>
#include <llvm/ExecutionEngine/Orc/Core.h>
#include <llvm/ExecutionEngine/Orc/ExecutorProcessControl.h>
#include <llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h>
#include <llvm/Object/ELFObjectFile.h>
#include <llvm/Support/MemoryBuffer.h>

#include <map>
#include <set>

namespace tilewright {
namespace orc = llvm::orc;

struct JitCode::State {
  std::unique_ptr<orc::ExecutionSession> session;
  std::unique_ptr<orc::ObjectLinkingLayer> linker;
  std::map<std::string, void*, std::less<>> functions;

  ~State() {
    if (session) llvm::consumeError(session->endSession());
  }
};

JitCode::JitCode(std::unique_ptr<State> state) : state_(std::move(state)) {}
JitCode::~JitCode() = default;

namespace {

Diagnostic failed(llvm::Error error) {
  return invalid("linking the generated code failed: {}", llvm::toString(std::move(error)));
}

struct Symbols {
  std::set<std::string> functions;  ///< to find
  std::set<std::string> defined;    ///< for other objects, too
  std::set<std::string> wanted;
};

/// Adds an object's.
llvm::Error add_symbols(llvm::MemoryBufferRef buffer, Symbols& symbols) {
  auto object = llvm::object::ObjectFile::createObjectFile(buffer);
  if (!object) return object.takeError();
  for (const llvm::object::SymbolRef& symbol : (*object)->symbols()) {
    auto flags = symbol.getFlags();
    if (!flags) return flags.takeError();
    auto name = symbol.getName();
    if (!name) return name.takeError();
    if ((*flags & llvm::object::SymbolRef::SF_Undefined) && !name->empty() && *name != "_GLOBAL_OFFSET_TABLE_")
      symbols.wanted.insert(name->str());
    else if (*flags & llvm::object::SymbolRef::SF_Global)
      symbols.defined.insert(name->str());
    auto type = symbol.getType();
    if (!type) return type.takeError();
    if ((*flags & llvm::object::SymbolRef::SF_Exported) && *type == llvm::object::SymbolRef::ST_Function)
      symbols.functions.insert(name->str());
  }
  return llvm::Error::success();
}

}  // namespace

Result<std::shared_ptr<const JitCode>> JitCode::load(std::span<const std::vector<char>> objects) {
  Symbols symbols;
  std::vector<std::unique_ptr<llvm::MemoryBuffer>> buffers;
  for (const std::vector<char>& object : objects) {
    buffers.push_back(llvm::MemoryBuffer::getMemBufferCopy(llvm::StringRef(object.data(), object.size()), "kernel"));
    if (auto error = add_symbols(buffers.back()->getMemBufferRef(), symbols)) return failed(std::move(error));
  }
  // An error here, by name: generated code calls nothing but itself.
  for (const std::string& name : symbols.wanted)
    if (!symbols.defined.contains(name)) return invalid("linking the generated code failed: undefined symbol {}", name);

  auto control = orc::SelfExecutorProcessControl::Create();
  if (!control) return failed(control.takeError());
  auto state = std::make_unique<State>();
  state->session = std::make_unique<orc::ExecutionSession>(std::move(*control));
  state->session->setErrorReporter([](llvm::Error error) { llvm::consumeError(std::move(error)); });
  auto memory = llvm::jitlink::InProcessMemoryManager::Create();
  if (!memory) return failed(memory.takeError());
  state->linker = std::make_unique<orc::ObjectLinkingLayer>(*state->session, std::move(*memory));

  orc::JITDylib& library = state->session->createBareJITDylib("kernel");
  for (auto& buffer : buffers)
    if (auto error = state->linker->add(library, std::move(buffer))) return failed(std::move(error));
  orc::SymbolLookupSet wanted;
  for (const std::string& name : symbols.functions) wanted.add(state->session->intern(name));
  auto found = state->session->lookup(orc::makeJITDylibSearchOrder(&library), std::move(wanted));
  if (!found) return failed(found.takeError());
  for (const auto& [name, symbol] : *found) state->functions[(*name).str()] = symbol.getAddress().toPtr<void*>();
  return std::shared_ptr<const JitCode>(new JitCode(std::move(state)));
}

Result<std::shared_ptr<const JitCode>> JitCode::load(const std::vector<char>& object) { return load({&object, 1}); }

void* JitCode::find(const std::string& symbol) const {
  const auto found = state_->functions.find(symbol);
  return found == state_->functions.end() ? nullptr : found->second;
}

}  // namespace tilewright
