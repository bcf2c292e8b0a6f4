// LLVM's spelling of a CpuTarget. Derived from feature bits, never from the host's CPU name, which can lie in a VM.
#pragma once

#include <string>

#include "ir/target.h"

namespace tilewright {

/// A scheduling model that is known to be good for the level: "skylake-avx512" / "haswell" families.
std::string target_cpu_name(const CpuTarget& target);
/// "+avx512f,+avx512bw,…,-avx10.1-256"; part of every cache key.
std::string target_features(const CpuTarget& target);

/// The version of LLVM and a hash of the sources of ir, compiler and codegen: what object code depends on besides its
/// inputs. Part of every key on disk.
std::string codegen_version();

}  // namespace tilewright
