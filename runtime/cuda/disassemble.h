// SASS of a cubin, through the toolkit's nvdisasm where there is one.
#pragma once

#include <string>
#include <string_view>

#include "ir/result.h"

namespace tilewright {

/// Errors: nvdisasm is not on PATH and not in the toolkit's folder, or does not take the cubin; one sentence.
Result<std::string> disassemble_cubin(std::string_view cubin);

}  // namespace tilewright
