// Verifiers: every diagnostic of a graph or spec, each naming its value, its line and what was expected.
#pragma once

#include "ir/attention_spec.h"
#include "ir/backward_spec.h"

namespace tilewright {

/// Empty when the graph is well-formed: defined-before-use, arity, dtypes, ranks, shapes, attributes, Hq % Hkv,
/// constant indices in range, results present, params used consistently.
Diagnostics verify(const Graph& graph);
Diagnostics verify(const AttentionSpec& spec);
Diagnostics verify(const BackwardSpec& spec);

}  // namespace tilewright
