// Runs a Program step by step with the oracle's Expr evaluation: what fusion made of a graph, with no kernel involved.
#pragma once

#include "compiler/program.h"
#include "ir/interp.h"

namespace tilewright::testing {

/// Results in return order. Floats are held in f64 between steps, so that the only difference to the graph oracle is
/// the order of summation.
Result<std::vector<OracleTensor>> run_program(const Program& program, const DimBindings& dims,
                                              std::span<const TensorView> params);

}  // namespace tilewright::testing
