// Making CpuModules: an empty LLVM module with the data layout of every target we generate for.
#pragma once

#include <cstdint>
#include <string>

#include "codegen/cpu/cpu_codegen.h"

namespace tilewright {

/// Who orders the instructions of a module: LLVM's machine scheduler, or the template, whose loops are emitted in the
/// order that suits registers and ports. Scheduling takes a twentieth of a compile.
enum class InstructionOrder : uint8_t { scheduled, emitted };

/// Empty module named `name` in a context of its own, triple and data layout set.
CpuModule make_cpu_module(const std::string& name, InstructionOrder order = InstructionOrder::scheduled);
InstructionOrder instruction_order(CpuModule& module);

}  // namespace tilewright
