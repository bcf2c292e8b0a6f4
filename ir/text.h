// Textual IR. Graph, AttentionSpec and BackwardSpec print what they parse and parse what they print; TileProgram prints
// only.
#pragma once

#include <string>
#include <string_view>

#include "ir/backward_spec.h"
#include "ir/tile_program.h"

namespace tilewright {

std::string print(const Graph& graph);
std::string print(const AttentionSpec& spec);
std::string print(const BackwardSpec& spec);
std::string print(const TileProgram& program);
/// One line, as it stands inside a region: "mul(s, 0.125)"; tensors supplies names for loads.
std::string print(const Expr& expr, const std::vector<SpecTensor>& tensors);

/// First graph of the text. All errors found, each with its line. Does not verify (see ir/verify.h).
Result<Graph> parse_graph(std::string_view text);
Result<AttentionSpec> parse_attention(std::string_view text);
Result<BackwardSpec> parse_backward(std::string_view text);

}  // namespace tilewright
