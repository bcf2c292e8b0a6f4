#include "codegen/cpu/amx_prefill_step.h"

#include <algorithm>

#include "codegen/cpu/amx_pack.h"

namespace tilewright::cpu {
using llvm::Value;

AmxPrefillStep::AmxPrefillStep(LlvmBuilder& builder, AmxTiles& tiles, AmxScorePass& scores, const AttentionSpec& spec,
                               const AmxPrefillLayout& layout)
    : b_(builder),
      tiles_(tiles),
      scores_(scores),
      spec_(spec),
      layout_(layout),
      guesses_(scores.plain() && spec.normaliser == Normaliser::softmax && layout.rescale_log2 > 0) {
  llvm::Type *p = b_.pointer_type(), *i = b_.i64_type();
  function_ = b_.begin_internal("step", i, {p, i, i, p});
  emit();
  weights_.reset();
}

void AmxPrefillStep::call(Value* b, Value* h, Value* scratch) {
  const auto run = [&] { return b_.ir.CreateCall(function_, {b_.argument(0), b, h, scratch}); };
  Value* again = run();
  if (!guesses_) return;
  b_.when(b_.ir.CreateICmpNE(again, b_.i64(0)), [&] {
    const auto word = [&](int64_t at) { return b_.byte_pointer(scratch, b_.i64(layout_.state_at + 8 * at)); };
    Value* next = word(State::next + Field::steps);
    Value* steps = b_.load(DType::i64, next);
    for (Value* at : {next, word(State::previous + Field::steps), word(State::current + Field::whole)})
      b_.store(DType::i64, b_.i64(0), at);
    run();
    b_.store(DType::i64, steps, next);
  });
}

Value* AmxPrefillStep::may_guess(const Unit& unit, Value* max) {
  Value* none = b_.constant(DType::f32, kMinusInfinity, kLanes);
  // The second group's slices run over whole turns of columns: past a unit that ends before its block, to keys whose
  // scores only the pass hides.
  Value* may = b_.ir.CreateAnd(b_.ir.CreateICmpNE(unit.whole, b_.i64(0)),
                               b_.ir.CreateICmpEQ(unit.columns, b_.i64(layout_.block_kv)));
  for (int64_t group = 0; group < 2; ++group) {
    Value* reached = b_.load_vector(DType::f32, b_.byte_pointer(max, b_.i64(group * kLanes * 4)), kLanes);
    may = b_.ir.CreateAnd(may, b_.ir.CreateAndReduce(b_.ir.CreateFCmpOGT(reached, none)));
  }
  return may;
}

Value* AmxPrefillStep::outgrown(int64_t group, const Values& carried) {
  Value* top = b_.max_ignoring_nan(carried[2], carried[3]);
  if (scores_.plain_scale() != 1) top = b_.ir.CreateFMul(top, b_.constant(DType::f32, scores_.plain_scale(), kLanes));
  Value* limit = b_.ir.CreateFAdd(groups_[group].reference,
                                  b_.constant(DType::f32, static_cast<double>(layout_.rescale_log2), kLanes));
  return b_.ir.CreateOrReduce(b_.ir.CreateFCmpOGT(top, limit));
}

Value* AmxPrefillStep::state_word(int64_t word) { return place(layout_.state_at + 8 * word); }

AmxPrefillStep::Unit AmxPrefillStep::read_unit(int64_t which) {
  const auto word = [&](int64_t field) { return b_.load(DType::i64, state_word(which + field)); };
  const auto pointer = [&](int64_t field) { return b_.ir.CreateIntToPtr(word(field), b_.pointer_type()); };
  return {word(Field::row),       word(Field::q),         word(Field::rows),      word(Field::kv),
          word(Field::columns),   word(Field::whole),     word(Field::steps),     pointer(Field::keys),
          pointer(Field::values), pointer(Field::scores), pointer(Field::weights)};
}

/// Where the unit of `row` lies in a region of `unit_bytes` per unit.
Value* AmxPrefillStep::per_row(int64_t at, Value* row, int64_t unit_bytes) {
  return b_.byte_pointer(place(at), b_.mul(row, b_.i64(unit_bytes / Layout::kUnit)));
}

void AmxPrefillStep::emit() {
  const Layout& l = layout_;
  const auto is_zero = [&](Value* number) { return b_.ir.CreateICmpEQ(number, b_.i64(0)); };
  tiles_.enter(place(l.file_at));
  const Unit next = read_unit(State::next), current = read_unit(State::current), previous = read_unit(State::previous);
  const bool softmax_on = spec_.normaliser == Normaliser::softmax;
  weights_.emplace(b_, spec_, scores_.plain_scale(), b_.argument(1), b_.argument(2));
  Value* has_current = b_.ir.CreateICmpSGT(current.steps, b_.i64(0));
  Value* has_previous = b_.ir.CreateICmpSGT(previous.steps, b_.i64(0));
  Value* max = per_row(l.max_at, current.row, Layout::kUnit * 4);
  Value* sum = per_row(l.sum_at, current.row, Layout::kUnit * 4);
  Value* guessed = guesses_ ? b_.ir.CreateAnd(has_current, may_guess(current, max)) : b_.ir.getFalse();
  Value* changed = b_.branch(
      guesses_ ? b_.ir.CreateAnd(has_current, b_.ir.CreateNot(guessed)) : has_current,
      [&] {
        return Values{scores_.call({b_.argument(1), b_.argument(2), current.q, current.rows, current.kv,
                                    current.columns, current.whole, current.scores, max, sum, place(l.factor_at)})};
      },
      [&] { return Values{b_.i64(0)}; })[0];
  for (int64_t group = 0; group < 2; ++group)
    groups_[group] = weights_->group(current.q, current.rows, b_.i64(group * kLanes), max);

  // Scores of the next unit, 32 keys a turn, beside the weights of the first group.
  Values zeros(2, b_.constant(DType::f32, 0, kLanes));
  if (guesses_) zeros.resize(4, b_.constant(DType::f32, kMinusInfinity, kLanes));
  Value* queries = per_row(l.queries_at, next.row, l.unit_queries());
  constexpr int64_t kPairs = Layout::kStep / 2;
  Values sums = b_.loop(b_.i64(0), b_.max(next.steps, current.steps), 1, zeros, [&](Value* step, const Values& before) {
    Value* scores_here = b_.ir.CreateICmpSLT(step, next.steps);
    Value* weights_here = b_.ir.CreateICmpSLT(step, current.steps);
    Value* keys = b_.byte_pointer(next.keys, b_.mul(step, b_.i64(l.key_step_bytes())));
    Value* first = b_.mul(step, b_.i64(kPairs));
    const int64_t turns = l.key_steps();
    const Values after = b_.loop_nonempty(b_.i64(0), b_.i64(turns), 1, before, [&](Value* d, const Values& carried) {
      b_.when(scores_here, [&] {
        Value* tile = b_.mul(d, b_.i64(kTile));
        const Operands at{b_.byte_pointer(keys, tile),
                          b_.byte_pointer(queries, tile),
                          l.key_step_bytes() / 2,
                          l.unit_queries() / 2,
                          turns * kTile,
                          turns * kTile};
        b_.when(is_zero(d), [&] { begin_sums(nullptr, 0); });
        products(at, l.products);
      });
      return b_.branch(
          weights_here, [&] { return softmax(current, 0, first, kPairs, d, turns, carried); }, [&] { return carried; });
    });
    b_.when(scores_here,
            [&] { defer(b_.byte_pointer(next.scores, b_.mul(step, b_.i64(2 * kTile))), l.score_group()); });
    return after;
  });
  Value* first_sum = b_.ir.CreateFAdd(sums[0], sums[1]);
  Value* grew = guesses_ ? outgrown(0, sums) : nullptr;

  // Outputs of the previous unit, 32 columns a turn, beside the weights of the second group.
  Value* outputs = per_row(l.outputs_at, previous.row, l.unit_outputs());
  const int64_t pairs = l.block_kv / 2 / l.value_steps();
  Value* pairs_end = b_.mul(current.steps, b_.i64(kPairs));
  sums = b_.loop_nonempty(b_.i64(0), b_.i64(l.value_steps()), 1, zeros, [&](Value* turn, const Values& before) {
    Value* first = b_.mul(turn, b_.i64(pairs));
    Value* weights_here = b_.ir.CreateICmpSLT(first, pairs_end);
    Value* sum_tiles = b_.byte_pointer(outputs, b_.mul(turn, b_.i64(2 * kTile)));
    Value* values = b_.byte_pointer(previous.values, b_.mul(turn, b_.i64(2 * l.value_parts * kTile)));
    const int64_t steps = l.kv_steps();
    const Values after = b_.loop_nonempty(b_.i64(0), b_.i64(steps), 1, before, [&](Value* step, const Values& carried) {
      b_.when(b_.ir.CreateICmpSLT(step, previous.steps), [&] {
        const Operands at{b_.byte_pointer(values, b_.mul(step, b_.i64(l.value_step_bytes()))),
                          b_.byte_pointer(previous.weights, b_.mul(step, b_.i64(kTile))),
                          l.value_parts * kTile,
                          l.weight_group(),
                          kTile,
                          steps * kTile};
        b_.when(is_zero(step), [&] { begin_sums(sum_tiles, l.output_group()); });
        products(at, l.value_products);
      });
      return b_.branch(
          weights_here, [&] { return softmax(current, 1, first, pairs, step, steps, carried); },
          [&] { return carried; });
    });
    b_.when(has_previous, [&] { defer(sum_tiles, l.output_group()); });
    return after;
  });

  // The next step reads the next unit's scores; a product of outputs has had the last of them stored.
  b_.when(b_.ir.CreateNot(has_previous), [&] { flush(); });
  Value* again = guesses_ ? b_.ir.CreateAnd(guessed, b_.ir.CreateOr(grew, outgrown(1, sums))) : nullptr;
  if (softmax_on)
    b_.when(again ? b_.ir.CreateAnd(has_current, b_.ir.CreateNot(again)) : has_current, [&] {
      add_sum(current, 0, first_sum);
      add_sum(current, 1, b_.ir.CreateFAdd(sums[0], sums[1]));
    });
  b_.when(b_.ir.CreateICmpNE(changed, b_.i64(0)), [&] {
    flush();
    rescale_outputs(b_, l, per_row(l.outputs_at, current.row, l.unit_outputs()), place(l.factor_at));
  });
  b_.ir.CreateRet(again ? b_.ir.CreateZExt(again, b_.i64_type()) : b_.i64(0));
}

void AmxPrefillStep::begin_sums(Value* start, int64_t start_distance) {
  Value* line = b_.i64(64);
  Value* pending = b_.ir.CreateIntToPtr(b_.load(DType::i64, state_word(State::pending)), b_.pointer_type());
  Value* distance = b_.load(DType::i64, state_word(State::distance));
  // Tile 2a + b of the sums; its place is `a` KB and `b` groups on.
  for (int tile = 0; tile < 4; ++tile) {
    const int64_t row = tile / 2 * kTile, group = tile % 2;
    Value* to = b_.byte_pointer(pending, b_.i64(row));
    tiles_.store(tile, group ? b_.byte_pointer(to, distance) : to, line);
    if (start)
      tiles_.load(tile, b_.byte_pointer(start, b_.i64(row + group * start_distance)), line);
    else
      tiles_.zero(tile);
  }
}

void AmxPrefillStep::products(const Operands& at, int64_t count) {
  const std::span<const SplitTerm> terms = split_terms(count);
  for (size_t t = 0; t < terms.size(); ++t) {
    const bool load_a = t == 0 || terms[t].a != terms[t - 1].a, load_b = t == 0 || terms[t].b != terms[t - 1].b;
    const auto load = [&](int tile, Value* base, int64_t offset) {
      tiles_.load(tile, b_.byte_pointer(base, b_.i64(offset)), b_.i64(64));
    };
    const int64_t a = terms[t].a * at.a_part, b = terms[t].b * at.b_part;
    if (load_a) load(4, at.a, a);
    if (load_b) load(6, at.b, b);
    tiles_.dp_bf16(0, 4, 6);
    if (load_b) load(7, at.b, b + at.b_next);
    tiles_.dp_bf16(1, 4, 7);
    if (load_a) load(5, at.a, a + at.a_next);
    tiles_.dp_bf16(2, 5, 6);
    tiles_.dp_bf16(3, 5, 7);
  }
}

void AmxPrefillStep::defer(Value* base, int64_t distance) {
  b_.store(DType::i64, b_.ir.CreatePtrToInt(base, b_.i64_type()), state_word(State::pending));
  b_.store(DType::i64, b_.i64(distance), state_word(State::distance));
}

void AmxPrefillStep::flush() {
  Value* pending = b_.ir.CreateIntToPtr(b_.load(DType::i64, state_word(State::pending)), b_.pointer_type());
  Value* distance = b_.load(DType::i64, state_word(State::distance));
  for (int tile = 0; tile < 4; ++tile) {
    Value* to = b_.byte_pointer(pending, b_.i64(tile / 2 * kTile));
    tiles_.store(tile, tile % 2 ? b_.byte_pointer(to, distance) : to, b_.i64(64));
  }
  defer(place(layout_.dummy_at), 2 * kTile);
}

Values AmxPrefillStep::softmax(const Unit& unit, int64_t group, Value* first_pair, int64_t pairs, Value* slice,
                               int64_t slices, const Values& carried) {
  // Pairs side by side hide the latency of exp2; beside a factor or the products of parts there is time for it.
  int64_t unroll = std::min<int64_t>(pairs, weights_->has_factor() || layout_.value_parts > 1 ? 1 : 4);
  while (pairs % unroll != 0) --unroll;
  const int64_t rounds = pairs / unroll;
  if (rounds == slices)
    return softmax_pairs(unit, group, b_.add(first_pair, b_.mul(slice, b_.i64(unroll))), unroll, carried);
  const auto share = [&](Value* number) {
    Value* begin = b_.mul(number, b_.i64(rounds));
    return rounds % slices == 0 ? b_.mul(number, b_.i64(rounds / slices)) : b_.ir.CreateUDiv(begin, b_.i64(slices));
  };
  return b_.loop(share(slice), share(b_.add(slice, b_.i64(1))), 1, carried, [&](Value* round, const Values& before) {
    return softmax_pairs(unit, group, b_.add(first_pair, b_.mul(round, b_.i64(unroll))), unroll, before);
  });
}

/// Carried: the sums of weights of even and of odd keys, and where maxima are guessed those of scores.
Values AmxPrefillStep::softmax_pairs(const Unit& unit, int64_t group, Value* first_pair, int64_t pairs,
                                     const Values& sums) {
  const Layout& l = layout_;
  Values next = sums;
  Value* from = b_.byte_pointer(b_.byte_pointer(unit.scores, b_.i64(group * l.score_group())),
                                b_.mul(first_pair, b_.i64(2 * kLanes * 4)));
  Value* to =
      b_.byte_pointer(b_.byte_pointer(unit.weights, b_.i64(group * l.weight_group())), b_.mul(first_pair, b_.i64(64)));
  Value* first_kv = b_.add(unit.kv, b_.mul(first_pair, b_.i64(2)));
  for (int64_t pair = 0; pair < pairs; ++pair) {
    Value* weights[2];
    for (int64_t odd = 0; odd < 2; ++odd) {
      const int64_t key = 2 * pair + odd;
      Value* s = b_.load_vector(DType::f32, b_.byte_pointer(from, b_.i64(key * kLanes * 4)), kLanes);
      if (guesses_) {
        Value*& top = next[static_cast<size_t>(2 + odd)];
        top = b_.max_ignoring_nan(s, top);
      }
      weights[odd] = weights_->weigh(groups_[group], b_.add(first_kv, b_.i64(key)), s, next[static_cast<size_t>(odd)]);
    }
    for (int64_t part = 0; part < l.value_parts; ++part) {
      Value* high[2];
      for (int64_t odd = 0; odd < 2; ++odd)
        high[odd] = part + 1 < l.value_parts ? peel_bf16(b_, weights[odd])
                                             : round_bf16(b_, weights[odd], /*keep_nan=*/!weights_->normalised());
      Value* word = pair_bf16(b_, high[0], high[1]);
      llvm::Type* words = b_.vector_type(DType::i32, kLanes);
      b_.store_vector(DType::i32, b_.ir.CreateBitCast(word, words),
                      b_.byte_pointer(to, b_.i64(pair * 64 + part * l.kv_steps() * kTile)));
    }
  }
  return next;
}

void AmxPrefillStep::add_sum(const Unit& unit, int64_t group, Value* added) {
  Value* slot = b_.byte_pointer(per_row(layout_.sum_at, unit.row, Layout::kUnit * 4), b_.i64(group * kLanes * 4));
  b_.store_vector(DType::f32, b_.ir.CreateFAdd(b_.load_vector(DType::f32, slot, kLanes), added), slot);
}

}  // namespace tilewright::cpu
