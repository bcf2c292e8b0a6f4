// A graph as text, taken through canonicalize and fuse and run against the oracle on random data.
#pragma once

#include <string>
#include <vector>

#include "compiler/program.h"
#include "ir/shape.h"

namespace tilewright::testing {

/// Every stage verified, every result compared with the oracle of the input graph. Dims that the graph names and
/// `dims` does not give are 5. Integer parameters hold 0 … 6, bools are a fair coin, floats are N(0,1).
Program fuse_and_check(const std::string& graph, DimBindings dims = {});

Program fuse_and_check(const Graph& graph, DimBindings dims = {});

/// What a graph, its canonical form and a program of it disagree in on random data; nothing when they agree.
std::string difference_to_oracle(const Graph& graph, const Graph& canonical, const Program& program, DimBindings dims);

std::vector<const AttentionSpec*> attentions(const Program& program);
std::vector<const BackwardSpec*> backwards(const Program& program);
/// The attention of a program that must hold nothing else.
const AttentionSpec& only_attention(const Program& program);

/// "%q[b, h, q, d]", as the fused text has it.
std::string text(const AttentionSpec& spec, const Access& access);
std::string text(const AttentionSpec& spec, const Expr& expr);

}  // namespace tilewright::testing
