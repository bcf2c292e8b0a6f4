// The online-softmax recurrence, written once for every target.
#include <limits>
#include <numbers>

#include "compiler/passes.h"
#include "ir/result.h"

namespace tilewright {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

struct Writer {
  TileProgram& program;

  int value(std::string name, TileShape shape) {
    program.values.push_back({std::move(name), shape});
    return static_cast<int>(program.values.size()) - 1;
  }
};

void put(std::vector<TileInst>& code, TileOp op, int dst, int a = -1, int b = -1, double literal = 0) {
  code.push_back({op, dst, a, b, literal});
}

/// Scores of the block, −inf (softmax) or 0 where nothing is kept.
void put_scores(TileProgram& program, int s, double hidden) {
  put(program.step, TileOp::dot, s);
  put(program.step, TileOp::map_score, s, s);
  if (!program.spec.keep.is_constant_true()) put(program.step, TileOp::mask, s, s, -1, hidden);
}

void build_softmax(TileProgram& program) {
  Writer w{program};
  const int m = w.value("m", TileShape::column);
  const int l = w.value("l", TileShape::column);
  const int acc = w.value("acc", TileShape::tile_qv);
  program.state = {m, l, acc};
  const int s = w.value("s", TileShape::tile_qk);
  const int p = w.value("p", TileShape::tile_qk);
  const int block_max = w.value("block_max", TileShape::column);
  const int block_sum = w.value("block_sum", TileShape::column);
  const int ref = w.value("ref", TileShape::column);
  const int alpha = w.value("alpha", TileShape::column);
  const int beta = w.value("beta", TileShape::column);
  const int acc_right = w.value("acc_right", TileShape::tile_qv);
  const int sink = program.spec.sink ? w.value("sink", TileShape::column) : -1;

  put(program.init, TileOp::fill, m, -1, -1, kMinusInfinity);
  put(program.init, TileOp::fill, l);
  put(program.init, TileOp::fill, acc);

  auto& step = program.step;
  put_scores(program, s, kMinusInfinity);
  put(step, TileOp::row_max, block_max, s);
  put(step, TileOp::max, ref, m, block_max);
  put(step, TileOp::finite_or_zero, ref, ref);
  put(step, TileOp::exp2_sub, p, s, ref);
  put(step, TileOp::exp2_sub, alpha, m, ref);
  put(step, TileOp::max, m, m, block_max);
  put(step, TileOp::row_sum, block_sum, p);
  put(step, TileOp::mul, l, l, alpha);
  put(step, TileOp::add, l, l, block_sum);
  put(step, TileOp::mul, acc, acc, alpha);
  if (program.spec.weight_factor) put(step, TileOp::map_weight, p, p);
  put(step, TileOp::dot_value, acc, acc, p);

  auto& merge = program.merge;
  const auto right = [&](int id) { return id + static_cast<int>(program.values.size()); };
  put(merge, TileOp::max, ref, m, right(m));
  put(merge, TileOp::finite_or_zero, ref, ref);
  put(merge, TileOp::exp2_sub, alpha, m, ref);
  put(merge, TileOp::exp2_sub, beta, right(m), ref);
  put(merge, TileOp::max, m, m, right(m));
  put(merge, TileOp::mul, l, l, alpha);
  put(merge, TileOp::mul, block_sum, right(l), beta);
  put(merge, TileOp::add, l, l, block_sum);
  put(merge, TileOp::mul, acc, acc, alpha);
  put(merge, TileOp::mul, acc_right, right(acc), beta);
  put(merge, TileOp::add, acc, acc, acc_right);

  auto& finish = program.finish;
  if (program.spec.sink) {
    put(finish, TileOp::load_sink, sink);
    put(finish, TileOp::max, ref, m, sink);
    put(finish, TileOp::finite_or_zero, ref, ref);
    put(finish, TileOp::exp2_sub, alpha, m, ref);
    put(finish, TileOp::exp2_sub, beta, sink, ref);
    put(finish, TileOp::max, m, m, sink);
    put(finish, TileOp::mul, l, l, alpha);
    put(finish, TileOp::add, l, l, beta);
    put(finish, TileOp::mul, acc, acc, alpha);
  }
  put(finish, TileOp::div_or_zero, acc, acc, l);
  put(finish, TileOp::store_output, -1, acc);
  if (program.spec.logsumexp) {
    put(finish, TileOp::log2_add, m, m, l);
    put(finish, TileOp::store_lse, -1, m);
  }
}

void build_unnormalised(TileProgram& program) {
  Writer w{program};
  const int acc = w.value("acc", TileShape::tile_qv);
  program.state = {acc};
  const int p = w.value("p", TileShape::tile_qk);
  put(program.init, TileOp::fill, acc);
  put_scores(program, p, 0);
  put(program.step, TileOp::dot_value, acc, acc, p);
  put(program.merge, TileOp::add, acc, acc, acc + static_cast<int>(program.values.size()));
  put(program.finish, TileOp::store_output, -1, acc);
}

}  // namespace

TileProgram build_tile_program(const AttentionSpec& spec) {
  TileProgram program;
  program.spec = spec;
  if (spec.normaliser == Normaliser::none) {
    TW_CHECK(!spec.sink && !spec.logsumexp && !spec.weight_factor);
    program.score = spec.score;
    build_unnormalised(program);
  } else {
    FoldedScale folded = fold_softmax_scale(spec.score, std::numbers::log2e);
    program.score = std::move(folded.expr);
    program.score_scale = folded.left_over;
    build_softmax(program);
  }
  return program;
}

}  // namespace tilewright
