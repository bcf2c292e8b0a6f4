// kv ranges against brute force: keep evaluated at every point by the oracle.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "compiler/passes.h"
#include "ir/interp.h"
#include "tests/support/random_expr.h"

namespace tilewright {
namespace {

constexpr int64_t kB = 2, kH = 2, kQ = 20, kKv = 32;

enum class Exactness { sound, exact };

struct Case {
  AttentionSpec spec;
  const testing::MaskTensors* tensors = nullptr;
  DimBindings dims{{"B", kB}, {"Sq", kQ}, {"Sk", kKv}};
  int64_t missed_skip = 0, missed_full = 0, blocks = 0;

  explicit Case(const Expr& keep, const testing::MaskTensors& data) : tensors(&data) {
    spec.batch = {Dim::named("B")};
    spec.heads = {kH};
    spec.q_len = Dim::named("Sq");
    spec.kv_len = Dim::named("Sk");
    spec.tensors = data.types();
    spec.keep = keep;
    analyze_mask(spec);
  }

  int64_t at(const Expr& expr, std::vector<int64_t> axes) const {
    axes.resize(12);
    return evaluate_int(expr, dims, tensors->views(), axes);
  }

  void check(const std::vector<std::pair<int64_t, int64_t>>& block_sizes, Exactness exactness,
             std::mt19937_64& random) {
    for (int64_t b = 0; b < kB; ++b)
      for (int64_t h = 0; h < kH; ++h) {
        std::vector<char> kept(kQ * kKv);
        for (int64_t q = 0; q < kQ; ++q)
          for (int64_t kv = 0; kv < kKv; ++kv) {
            kept[static_cast<size_t>(q * kKv + kv)] = at(spec.keep, {b, h, q, kv}) != 0;
            if (kept[static_cast<size_t>(q * kKv + kv)]) {
              EXPECT_TRUE(at(spec.keep_kv, {b, h, 0, kv})) << "keep_kv hides a kept key";
            }
          }
        for (const auto& [block_q, block_kv] : block_sizes)
          for (int64_t q_lo = 0; q_lo < kQ; q_lo += block_q) {
            const int64_t q_hi = std::min(q_lo + block_q, kQ) - 1;
            check_rows(b, h, q_lo, q_hi, kept, exactness);
            for (int64_t kv_lo = static_cast<int64_t>(random() % 3); kv_lo < kKv; kv_lo += block_kv)
              check_block(b, h, q_lo, q_hi, kv_lo, std::min(kv_lo + block_kv, kKv) - 1, kept, exactness);
          }
      }
  }

  void check_rows(int64_t b, int64_t h, int64_t q_lo, int64_t q_hi, const std::vector<char>& kept,
                  Exactness exactness) {
    const std::vector<int64_t> axes{b, h, 0, 0, 0, 0, 0, 0, q_lo, q_hi};
    const int64_t begin = at(spec.kv_range.begin, axes), end = at(spec.kv_range.end, axes);
    int64_t first = kKv, last = -1;
    for (int64_t q = q_lo; q <= q_hi; ++q)
      for (int64_t kv = 0; kv < kKv; ++kv)
        if (kept[static_cast<size_t>(q * kKv + kv)]) {
          ASSERT_TRUE(begin <= kv && kv < end) << q << " " << kv << ": [" << begin << ", " << end << ")\n"
                                               << testing::dump(spec.keep) << "\n"
                                               << testing::dump(spec.kv_range.end);
          first = std::min(first, kv);
          last = std::max(last, kv);
        }
    if (exactness == Exactness::exact && last >= 0) {
      EXPECT_EQ(std::max<int64_t>(begin, 0), first) << testing::dump(spec.kv_range.begin);
      EXPECT_EQ(std::min(end, kKv) - 1, last) << testing::dump(spec.kv_range.end);
    }
  }

  void check_block(int64_t b, int64_t h, int64_t q_lo, int64_t q_hi, int64_t kv_lo, int64_t kv_hi,
                   const std::vector<char>& kept, Exactness exactness) {
    const std::vector<int64_t> axes{b, h, 0, 0, 0, 0, 0, 0, q_lo, q_hi, kv_lo, kv_hi};
    bool any = false, all = true;
    for (int64_t q = q_lo; q <= q_hi; ++q)
      for (int64_t kv = kv_lo; kv <= kv_hi; ++kv) {
        const bool keep = kept[static_cast<size_t>(q * kKv + kv)];
        any |= keep;
        all &= keep;
      }
    const bool skip = at(spec.kv_range.skip, axes), full = at(spec.kv_range.full, axes);
    const auto where = [&] {
      return fmt::format("b {} h {} q {}..{} kv {}..{}\n{}\nskip\n{}\nfull\n{}", b, h, q_lo, q_hi, kv_lo, kv_hi,
                         testing::dump(spec.keep), testing::dump(spec.kv_range.skip),
                         testing::dump(spec.kv_range.full));
    };
    ASSERT_FALSE(skip && any) << where();
    ASSERT_FALSE(full && !all) << where();
    if (exactness == Exactness::exact) {
      ASSERT_EQ(skip, !any) << where();
      ASSERT_EQ(full, all) << where();
    }
    ++blocks;
    missed_skip += !any && !skip;
    missed_full += all && !full;
  }
};

/// Writes keep expressions briefly.
struct Mask {
  Expr e;
  DType dtype;
  explicit Mask(DType type = DType::i64) : dtype(type) {}
  ExprId q() { return e.index(Axis::q, dtype); }
  ExprId kv() { return e.index(Axis::kv, dtype); }
  ExprId c(int64_t v) { return e.constant_int(v, dtype); }
  ExprId i(Op op, ExprId a, ExprId b) { return e.op(op, dtype, {a, b}); }
  ExprId t(Op op, ExprId a, ExprId b) { return e.op(op, DType::boolean, {a, b}); }
  ExprId no(ExprId a) { return e.op(Op::logical_not, DType::boolean, {a}); }
  ExprId both(ExprId a, ExprId b) { return t(Op::logical_and, a, b); }
  ExprId either(ExprId a, ExprId b) { return t(Op::logical_or, a, b); }
  ExprId doc(ExprId position) { return e.load(0, DType::i64, {position}, false); }
  ExprId length() { return e.op(Op::cast, DType::i64, {e.load(2, DType::i32, {e.index(Axis::b)}, false)}); }
  ExprId offset() { return e.load(3, DType::i64, {e.index(Axis::b)}, false); }
  ExprId label(ExprId position) { return e.load(5, DType::i8, {position}, false); }
  ExprId causal() { return t(Op::le, kv(), q()); }
};

using Spelling = std::function<ExprId(Mask&)>;
const std::vector<std::pair<int64_t, int64_t>> kBlocks{{4, 4}, {8, 16}, {3, 5}, {1, 1}, {20, 32}, {1, 8}};

void check_all(const std::vector<Spelling>& spellings, Exactness exactness, std::vector<DType> dtypes = {DType::i64},
               bool garbage = false) {
  std::mt19937_64 random(7);
  for (size_t n = 0; n < spellings.size(); ++n)
    for (DType dtype : dtypes)
      for (int round = 0; round < 4; ++round) {
        SCOPED_TRACE(fmt::format("spelling {} {} round {}", n, to_string(dtype), round));
        testing::MaskTensors tensors(random, garbage);
        Mask mask(dtype);
        mask.e.set_root(spellings[n](mask));
        Case test(mask.e, tensors);
        test.check(kBlocks, exactness, random);
        if (::testing::Test::HasFailure()) return;
      }
}

TEST(AnalyzeMask, CausalIsExactHoweverItIsSpelled) {
  check_all({[](Mask& m) { return m.t(Op::le, m.kv(), m.q()); }, [](Mask& m) { return m.t(Op::ge, m.q(), m.kv()); },
             [](Mask& m) { return m.t(Op::ge, m.i(Op::sub, m.q(), m.kv()), m.c(0)); },
             [](Mask& m) { return m.t(Op::lt, m.i(Op::sub, m.kv(), m.q()), m.c(1)); },
             [](Mask& m) { return m.no(m.t(Op::gt, m.kv(), m.q())); },
             [](Mask& m) { return m.no(m.t(Op::lt, m.q(), m.kv())); },
             [](Mask& m) { return m.t(Op::lt, m.kv(), m.i(Op::add, m.q(), m.c(1))); },
             [](Mask& m) { return m.t(Op::le, m.i(Op::mul, m.kv(), m.c(2)), m.i(Op::mul, m.c(2), m.q())); },
             [](Mask& m) { return m.t(Op::le, m.i(Op::sub, m.kv(), m.c(5)), m.q()); },
             [](Mask& m) {
               return m.e.op(Op::select, DType::boolean,
                             {m.t(Op::gt, m.kv(), m.q()), m.e.constant_int(0, DType::boolean),
                              m.e.constant_int(1, DType::boolean)});
             }},
            Exactness::exact, {DType::i64, DType::i32});
}

TEST(AnalyzeMask, CausalWithOffsetIsExact) {
  const auto p = [](Mask& m) { return m.i(Op::add, m.q(), m.offset()); };
  const auto aligned = [](Mask& m) { return m.i(Op::add, m.q(), m.e.dim(Dim::named("Sk") - Dim::named("Sq"))); };
  check_all({[&](Mask& m) { return m.t(Op::le, m.kv(), p(m)); },
             [&](Mask& m) { return m.t(Op::ge, m.i(Op::sub, p(m), m.kv()), m.c(0)); },
             [&](Mask& m) { return m.t(Op::le, m.i(Op::sub, m.kv(), m.offset()), m.q()); },
             [&](Mask& m) { return m.t(Op::le, m.kv(), m.i(Op::add, m.q(), m.length())); },
             [&](Mask& m) { return m.t(Op::le, m.kv(), aligned(m)); },
             [&](Mask& m) { return m.t(Op::lt, m.i(Op::sub, aligned(m), m.kv()), m.c(3)); }},
            Exactness::exact);
}

TEST(AnalyzeMask, WindowIsExact) {
  const auto both_sides = [](Mask& m, ExprId p) {
    return m.both(m.t(Op::gt, m.kv(), m.i(Op::sub, p, m.c(5))), m.t(Op::le, m.kv(), p));
  };
  check_all({[&](Mask& m) { return both_sides(m, m.q()); },
             [&](Mask& m) { return m.both(m.causal(), m.t(Op::lt, m.i(Op::sub, m.q(), m.kv()), m.c(5))); },
             [&](Mask& m) { return m.t(Op::le, m.e.op(Op::abs, m.dtype, {m.i(Op::sub, m.q(), m.kv())}), m.c(3)); },
             [&](Mask& m) {
               return m.no(m.either(m.t(Op::gt, m.kv(), m.q()), m.t(Op::ge, m.i(Op::sub, m.q(), m.kv()), m.c(4))));
             }},
            Exactness::exact, {DType::i64, DType::i32});
  check_all({[&](Mask& m) { return both_sides(m, m.i(Op::add, m.q(), m.offset())); }}, Exactness::exact);
}

TEST(AnalyzeMask, PaddingAndPrefixAreExact) {
  const auto prefix = [](Mask& m) { return m.t(Op::lt, m.kv(), m.length()); };
  check_all({[&](Mask& m) { return prefix(m); }, [&](Mask& m) { return m.t(Op::lt, m.kv(), m.offset()); },
             [&](Mask& m) { return m.either(m.causal(), prefix(m)); },
             [&](Mask& m) { return m.no(m.both(m.t(Op::gt, m.kv(), m.q()), m.t(Op::ge, m.kv(), m.length()))); },
             [&](Mask& m) { return m.t(Op::le, m.kv(), m.i(Op::max, m.q(), m.i(Op::sub, m.length(), m.c(1)))); }},
            Exactness::exact);
}

TEST(AnalyzeMask, ChunksAreExact) {
  const auto chunk = [](Mask& m, ExprId p) {
    return m.t(Op::eq, m.i(Op::div, m.kv(), m.c(8)), m.i(Op::div, p, m.c(8)));
  };
  check_all({[&](Mask& m) { return m.both(m.causal(), chunk(m, m.q())); }, [&](Mask& m) { return chunk(m, m.q()); },
             [&](Mask& m) { return m.t(Op::eq, m.i(Op::shr, m.q(), m.c(2)), m.i(Op::shr, m.kv(), m.c(2))); }},
            Exactness::exact, {DType::i64, DType::i32});
}

void check_skips(const std::vector<Spelling>& spellings) {
  std::mt19937_64 random(11);
  for (const Spelling& spelling : spellings)
    for (int round = 0; round < 6; ++round) {
      testing::MaskTensors tensors(random, false);
      Mask mask;
      mask.e.set_root(spelling(mask));
      Case test(mask.e, tensors);
      test.check(kBlocks, Exactness::sound, random);
      EXPECT_EQ(test.missed_skip, 0);
      EXPECT_EQ(test.missed_full, 0);
    }
}

TEST(AnalyzeMask, SortedDocumentsAndBlockMasksMissNothing) {
  const auto document = [](Mask& m) { return m.t(Op::eq, m.doc(m.q()), m.doc(m.kv())); };
  check_skips({document, [&](Mask& m) { return m.both(document(m), m.causal()); },
               [](Mask& m) {
                 return m.e.load(1, DType::boolean,
                                 {m.e.index(Axis::h), m.i(Op::div, m.q(), m.c(4)), m.i(Op::div, m.kv(), m.c(4))},
                                 false);
               }});
}

TEST(AnalyzeMask, OtherFamiliesAreSound) {
  const auto clamped = [](Mask& m, ExprId x) { return m.i(Op::min, m.i(Op::max, x, m.c(1)), m.c(2)); };
  const auto near = [](Mask& m, ExprId a, ExprId b) {
    return m.t(Op::le, m.e.op(Op::abs, m.dtype, {m.i(Op::sub, a, b)}), m.c(1));
  };
  check_all({[](Mask& m) {  // dilated
               const ExprId distance = m.i(Op::sub, m.q(), m.kv());
               return m.both(m.t(Op::ge, distance, m.c(0)), m.t(Op::eq, m.i(Op::mod, distance, m.c(3)), m.c(0)));
             },
             [&](Mask& m) {  // NATTEN, 4 wide
               const ExprId y = clamped(m, m.i(Op::div, m.q(), m.c(4))), x = clamped(m, m.i(Op::mod, m.q(), m.c(4)));
               return m.both(near(m, y, m.i(Op::div, m.kv(), m.c(4))), near(m, x, m.i(Op::mod, m.kv(), m.c(4))));
             },
             [](Mask& m) {  // StreamingLLM
               const ExprId near_by = m.t(Op::lt, m.i(Op::sub, m.q(), m.kv()), m.c(6));
               return m.both(m.causal(), m.either(m.t(Op::lt, m.kv(), m.c(2)), near_by));
             },
             [](Mask& m) {  // tree: context, then ancestors
               const ExprId anc = m.e.load(4, DType::boolean, {m.q(), m.i(Op::sub, m.kv(), m.length())}, false);
               return m.either(m.t(Op::lt, m.kv(), m.length()), anc);
             },
             [](Mask& m) { return m.t(Op::eq, m.label(m.q()), m.label(m.kv())); },
             [](Mask& m) {  // documents of absolute positions, ragged queries
               const ExprId p = m.i(Op::add, m.q(), m.offset());
               return m.both(m.t(Op::eq, m.doc(p), m.doc(m.kv())), m.t(Op::lt, m.q(), m.length()));
             }},
            Exactness::sound);
}

TEST(AnalyzeMask, GarbageLengthsNeverMakeItWrong) {
  const auto p = [](Mask& m) { return m.i(Op::add, m.q(), m.offset()); };
  check_all({[&](Mask& m) { return m.t(Op::le, m.kv(), p(m)); },
             [&](Mask& m) { return m.t(Op::lt, m.i(Op::sub, p(m), m.kv()), m.c(9)); },
             [&](Mask& m) { return m.t(Op::lt, m.kv(), m.offset()); },
             [&](Mask& m) { return m.t(Op::lt, m.i(Op::sub, m.kv(), m.offset()), m.length()); },
             [&](Mask& m) { return m.t(Op::eq, m.doc(p(m)), m.doc(m.kv())); },
             [&](Mask& m) { return m.t(Op::eq, m.i(Op::div, p(m), m.c(8)), m.i(Op::div, m.kv(), m.c(8))); }},
            Exactness::sound, {DType::i64}, true);
}

TEST(AnalyzeMask, FindsWhatHidesKeysFromAllQueries) {
  std::mt19937_64 random(3);
  testing::MaskTensors tensors(random, false);
  Mask m;
  m.e.set_root(m.both(m.causal(), m.both(m.t(Op::lt, m.kv(), m.length()), m.t(Op::lt, m.q(), m.length()))));
  const Case padded(m.e, tensors);
  const auto depends = dependencies(padded.spec.keep_kv);
  EXPECT_EQ(depends[static_cast<size_t>(raw(padded.spec.keep_kv.root()))], bit(Axis::kv) | bit(Axis::b));
  Mask plain;
  plain.e.set_root(plain.causal());
  EXPECT_TRUE(Case(plain.e, tensors).spec.keep_kv.is_constant_true());
}

TEST(AnalyzeMask, DenseMasksStayUndecided) {
  std::mt19937_64 random(3);
  testing::MaskTensors tensors(random, false);
  Mask m;
  m.e.set_root(m.e.load(4, DType::boolean, {m.q(), m.kv()}, true));
  const Case dense(m.e, tensors);
  for (const Expr* test : {&dense.spec.kv_range.skip, &dense.spec.kv_range.full}) EXPECT_EQ(test->nodes().size(), 1u);
}

TEST(AnalyzeMask, CommonTestsStaySmall) {
  std::mt19937_64 random(3);
  testing::MaskTensors tensors(random, false);
  Mask m;
  m.e.set_root(m.both(m.t(Op::le, m.kv(), m.q()), m.t(Op::lt, m.i(Op::sub, m.q(), m.kv()), m.c(128))));
  const Case window(m.e, tensors);
  EXPECT_LE(window.spec.kv_range.skip.nodes().size(), 12u) << testing::dump(window.spec.kv_range.skip);
  EXPECT_LE(window.spec.kv_range.begin.nodes().size(), 5u) << testing::dump(window.spec.kv_range.begin);
  EXPECT_LE(window.spec.kv_range.end.nodes().size(), 5u) << testing::dump(window.spec.kv_range.end);
}

TEST(AnalyzeMask, RandomMasksAreNeverWrong) {
  std::mt19937_64 random(99);
  for (int round = 0; round < 600; ++round) {
    testing::MaskTensors tensors(random, round % 3 == 0);
    Expr keep;
    keep.set_root(testing::RandomExpr(random, keep).boolean(round % 2 ? 3 : 5));
    Case test(keep, tensors);
    test.check({{4, 4}, {7, 9}, {1, 16}}, Exactness::sound, random);
    if (HasFailure()) break;
  }
}

}  // namespace
}  // namespace tilewright
