#include <fmt/format.h>

#include "codegen/cpu/target_features.h"

namespace tilewright {

extern const char kCodegenSourceHash[];  // written by codegen/source_hash.cmake

std::string codegen_version() { return fmt::format("llvm {} source {}", TILEWRIGHT_LLVM_VERSION, kCodegenSourceHash); }

}  // namespace tilewright
