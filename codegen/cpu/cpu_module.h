// Making CpuModules: an empty LLVM module with the data layout of every target we generate for.
#pragma once

#include <string>

#include "codegen/cpu/cpu_codegen.h"

namespace tilewright {

/// Empty module named `name` in a context of its own, triple and data layout set.
CpuModule make_cpu_module(const std::string& name);

}  // namespace tilewright
