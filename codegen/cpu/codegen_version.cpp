#include <fmt/format.h>
#include <llvm/Config/llvm-config.h>

#include "codegen/cpu/target_features.h"

namespace tilewright {

extern const char kCodegenSourceHash[];  // written by codegen/source_hash.cmake

std::string codegen_version() { return fmt::format("llvm {} source {}", LLVM_VERSION_STRING, kCodegenSourceHash); }

}  // namespace tilewright
