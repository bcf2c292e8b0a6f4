// Materialised attention: the same graph with every value in memory, the yardstick of fusion.
#pragma once

#include "cli/report.h"

namespace tilewright::cli {

/// Times the report's graph without fusion, next to the fused kernel at the same dims: the report's own where memory
/// and a few seconds allow, else with the sequence halved until they do, which the result says.
Result<Materialised> time_materialised(const Report& report, std::span<const TensorView> inputs, const Engine& engine);

}  // namespace tilewright::cli
