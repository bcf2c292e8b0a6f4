#include "tests/support/attention_case.h"

#include <cmath>
#include <limits>

#include "ir/result.h"
#include "tests/support/attention_rows.h"

namespace tilewright::testing {
namespace {

/// Terse Expr building.
struct Make {
  Expr e;
  ExprId i(int64_t value) { return e.constant_int(value, DType::i64); }
  ExprId axis(Axis a) { return e.index(a); }
  ExprId op(Op op, ExprId a, ExprId b) { return e.op(op, DType::i64, {a, b}); }
  ExprId test(Op op, ExprId a, ExprId b) { return e.op(op, DType::boolean, {a, b}); }
  Expr done(ExprId root) {
    e.set_root(root);
    return e.pruned();
  }
};

struct SpecBuilder {
  const CaseOptions& o;
  AttentionCase c;

  int tensor(std::string name, DType dtype, Shape shape, bool output = false) {
    c.spec.tensors.push_back({std::move(name), {dtype, std::move(shape)}, output});
    return static_cast<int>(c.spec.tensors.size()) - 1;
  }

  /// A [B, heads, S, D] operand in the case's arrangement; query head h reads head floor(h / group).
  Access operand(const std::string& name, DType dtype, Axis seq, const Dim& length, int64_t heads, int64_t group,
                 int64_t dim, int64_t start, bool output) {
    const Dim B = Dim::named("B");
    const auto one = [](Axis a) {
      Make m;
      return m.done(m.axis(a));
    };
    Make head;
    const Expr h = head.done(group == 1 ? head.axis(Axis::h) : head.op(Op::div, head.axis(Axis::h), head.i(group)));
    if (o.arrangement == Arrangement::bhsd)
      return {tensor(name, dtype, {B, heads, length, dim}, output), {one(Axis::b), h, one(seq), one(Axis::d)}};
    if (o.arrangement == Arrangement::bshd)
      return {tensor(name, dtype, {B, length, heads, dim}, output), {one(Axis::b), one(seq), h, one(Axis::d)}};
    const int64_t offset = o.arrangement == Arrangement::packed && !output ? start : 0;
    Make m;
    const ExprId scaled = m.op(Op::mul, m.e.import(h), m.i(dim));
    const Expr last = m.done(m.op(Op::add, m.op(Op::add, scaled, m.axis(Axis::d)), m.i(offset)));
    return {tensor(name, dtype, {B, length, heads * dim + offset}, output), {one(Axis::b), one(seq), last}};
  }

  /// Programs in the place of the first term's operands.
  void compute_rows() {
    if (o.query_rows == Rows::stored && o.key_rows == Rows::stored) return;
    DotTerm& dot = c.spec.dots[0];
    const Dim P = Dim::named("P");
    const int64_t half = std::max<int64_t>(dot.head_dim / 2, 1);
    const RowTables tables{tensor("cos", DType::f32, {P, half}), tensor("sin", DType::f32, {P, half}),
                           tensor("weight", DType::f32, {Dim(dot.head_dim)})};
    for (const bool query : {true, false}) {
      const Rows rows = query ? o.query_rows : o.key_rows;
      if (rows == Rows::stored) continue;
      Access& stored = query ? dot.query : dot.key;
      (query ? dot.query_row : dot.key_row) =
          make_row(rows, c.spec, stored, query ? Axis::q : Axis::kv, dot.head_dim, tables);
      stored = {};
    }
  }

  ExprId score(Make& m) {
    const DType t = c.spec.accumulate;
    const auto f = [&](Op op, ExprId a, ExprId b) { return m.e.op(op, t, {a, b}); };
    const ExprId scaled = f(Op::mul, m.e.score(t), m.e.constant(1 / std::sqrt(double(o.dqk)), t));
    switch (o.score) {
      case Score::scale: return scaled;
      case Score::alibi: {
        const int slopes = tensor("slopes", DType::f32, {Dim(o.heads)});
        ExprId slope = m.e.load(slopes, DType::f32, {m.axis(Axis::h)}, true);
        if (t != DType::f32) slope = m.e.op(Op::cast, t, {slope});
        const ExprId distance = m.e.op(Op::cast, t, {m.op(Op::sub, m.axis(Axis::kv), m.axis(Axis::q))});
        return f(Op::add, scaled, f(Op::mul, slope, distance));
      }
      case Score::softcap: {
        const ExprId cap = m.e.constant(2, t);
        return f(Op::mul, m.e.op(Op::tanh, t, {f(Op::div, scaled, cap)}), cap);
      }
      case Score::bias: {
        const int bias = tensor("bias", o.dtype, {Dim(1), Dim(o.heads), c.spec.q_len, c.spec.kv_len});
        ExprId value = m.e.load(bias, o.dtype, {m.i(0), m.axis(Axis::h), m.axis(Axis::q), m.axis(Axis::kv)}, true);
        if (o.dtype != t) value = m.e.op(Op::cast, t, {value});
        return f(Op::add, scaled, value);
      }
    }
    TW_CHECK(false);
  }

  bool has(Mask mask) const {
    return o.mask == mask || (o.mask == Mask::everything && mask != Mask::holes) ||
           (o.mask == Mask::causal_padding && (mask == Mask::causal || mask == Mask::padding));
  }

  /// keep, keep_kv and kv_range. Bottom-right causal: kv <= q + Sk - Sq; window: p - kv <= 5.
  void masks() {
    Make keep, keep_kv, end, begin, skip;
    const auto both = [](Make& m, ExprId a, ExprId b) { return m.test(Op::logical_and, a, b); };
    const auto yes = [](Make& m) { return m.e.constant_int(1, DType::boolean); };
    ExprId all = yes(keep), all_kv = yes(keep_kv), last = end.e.dim(c.spec.kv_len), first = begin.i(0);
    ExprId nothing = skip.e.constant_int(0, DType::boolean);
    const Dim shift = c.spec.kv_len - c.spec.q_len;
    const auto position = [&](Make& m, Axis a) { return m.op(Op::add, m.axis(a), m.e.dim(shift)); };
    if (has(Mask::causal)) {
      all = both(keep, all, keep.test(Op::le, keep.axis(Axis::kv), position(keep, Axis::q)));
      last = end.op(Op::min, last, end.op(Op::add, position(end, Axis::q_hi), end.i(1)));
      nothing = skip.test(Op::gt, skip.axis(Axis::kv_lo), position(skip, Axis::q_hi));
    }
    if (has(Mask::window)) {
      const ExprId distance = keep.op(Op::sub, position(keep, Axis::q), keep.axis(Axis::kv));
      all = both(keep, all, keep.test(Op::le, distance, keep.i(5)));
      first = begin.op(Op::max, first, begin.op(Op::sub, position(begin, Axis::q_lo), begin.i(5)));
    }
    if (has(Mask::padding)) {
      const int lengths = tensor("lengths", DType::i32, {Dim::named("B")});
      for (auto [make, root] : {std::pair{&keep, &all}, std::pair{&keep_kv, &all_kv}}) {
        const ExprId load = make->e.load(lengths, DType::i32, {make->axis(Axis::b)}, true);
        const ExprId length = make->e.op(Op::cast, DType::i64, {load});
        *root = both(*make, *root, make->test(Op::lt, make->axis(Axis::kv), length));
      }
    }
    if (has(Mask::holes)) {
      const int valid = tensor("valid", DType::boolean, {Dim::named("B"), c.spec.kv_len});
      for (auto [make, root] : {std::pair{&keep, &all}, std::pair{&keep_kv, &all_kv}})
        *root =
            both(*make, *root, make->e.load(valid, DType::boolean, {make->axis(Axis::b), make->axis(Axis::kv)}, true));
    }
    if (has(Mask::tensor)) {
      const int table = tensor("mask", DType::boolean, {Dim(1), Dim(1), c.spec.q_len, c.spec.kv_len});
      all = both(
          keep, all,
          keep.e.load(table, DType::boolean, {keep.i(0), keep.i(0), keep.axis(Axis::q), keep.axis(Axis::kv)}, true));
    }
    if (o.mask == Mask::none) {
      c.spec.keep.set_root(c.spec.keep.constant_int(1, DType::boolean));
    } else {
      c.spec.keep = keep.done(all);
    }
    c.spec.keep_kv = keep_kv.done(all_kv);
    if (!has(Mask::padding) && !has(Mask::holes)) {
      c.spec.keep_kv = Expr();
      c.spec.keep_kv.set_root(c.spec.keep_kv.constant_int(1, DType::boolean));
    }
    Expr no;
    no.set_root(no.constant_int(0, DType::boolean));
    c.spec.kv_range = {begin.done(first), end.done(last), skip.done(nothing), no};
  }
};

std::string shape_text(const CaseOptions& o) {
  return fmt::format("B{} H{}/{} Sq{} Sk{} D{}/{}", o.batch, o.heads, o.group, o.sq, o.sk, o.dqk, o.dv);
}

}  // namespace

std::string CaseOptions::text() const {
  return fmt::format(
      "{}->{} {} mask {} score {} arrangement {} layout {} sink {} lse {} dropout {} dots {} rows {}/{} normaliser {}",
      to_string(dtype), to_string(output), shape_text(*this), int(mask), int(score), int(arrangement), int(layout),
      sink, lse, dropout, two_dots ? 2 : 1, int(query_rows), int(key_rows), int(normaliser));
}

AttentionCase make_case(const CaseOptions& o, std::mt19937_64& random) {
  SpecBuilder b{o, {}};
  AttentionSpec& spec = b.c.spec;
  b.c.options = o;
  b.c.dims = {{"B", o.batch}, {"Sq", o.sq}, {"Sk", o.sk}, {"P", o.sk + 1}};
  spec.name = "case";
  spec.batch = {Dim::named("B")};
  spec.heads = {Dim(o.heads)};
  spec.q_len = Dim::named("Sq");
  spec.kv_len = Dim::named("Sk");
  spec.head_group = o.group;
  spec.accumulate = o.dtype == DType::f64 ? DType::f64 : DType::f32;
  spec.weights = rounding_of(o.dtype);
  spec.normaliser = o.normaliser;
  spec.value_dim = o.dv;
  const int64_t kv_heads = o.heads / o.group;
  for (int term = 0; term < (o.two_dots ? 2 : 1); ++term) {
    const int64_t dim = term ? o.dqk / 2 + 1 : o.dqk;
    const std::string suffix = term ? "2" : "";
    spec.dots.push_back({b.operand("q" + suffix, o.dtype, Axis::q, spec.q_len, o.heads, 1, dim, 0, false),
                         b.operand("k" + suffix, o.dtype, Axis::kv, spec.kv_len, kv_heads, o.group, dim, 3, false),
                         dim});
  }
  b.c.stored = spec.dots;
  b.compute_rows();
  spec.value = b.operand("v", o.dtype, Axis::kv, spec.kv_len, kv_heads, o.group, o.dv, 5, false);
  Make score;
  spec.score = score.done(b.score(score));
  b.masks();
  if (o.sink) {
    const int sinks = b.tensor("sinks", DType::f32, {Dim(o.heads)});
    Expr sink;
    ExprId root = sink.load(sinks, DType::f32, {sink.index(Axis::h)}, true);
    if (spec.accumulate != DType::f32) root = sink.op(Op::cast, spec.accumulate, {root});
    sink.set_root(root);
    spec.sink = sink;
  }
  if (o.dropout) {
    Make m;
    const ExprId bh = m.op(Op::add, m.op(Op::mul, m.axis(Axis::b), m.i(o.heads)), m.axis(Axis::h));
    const ExprId seed = m.e.load(b.tensor("seed", DType::i64, {}), DType::i64, {}, true);
    const ExprId bits = m.e.op(Op::random_bits, DType::i64, {seed, m.i(77), bh, m.axis(Axis::q), m.axis(Axis::kv)});
    const ExprId kept = m.test(Op::ge, bits, m.i(1288490188));
    const DType t = spec.accumulate;
    spec.weight_factor = m.done(m.e.op(Op::select, t, {kept, m.e.constant(1 / 0.7, t), m.e.constant(0, t)}));
  }
  spec.output = b.operand("o", o.output, Axis::q, spec.q_len, o.heads, 1, o.dv, 0, true);
  if (o.lse) {
    Make batch, head, query;
    spec.logsumexp =
        Access{b.tensor("lse", spec.accumulate, {Dim::named("B"), Dim(o.heads), spec.q_len}, true),
               {batch.done(batch.axis(Axis::b)), head.done(head.axis(Axis::h)), query.done(query.axis(Axis::q))}};
  }

  std::normal_distribution<double> normal;
  std::vector<int64_t> lengths(static_cast<size_t>(o.batch), o.sk);
  if (b.has(Mask::padding))
    for (int64_t& length : lengths) length = static_cast<int64_t>(random() % static_cast<uint64_t>(o.sk + 1));
  std::vector<bool> valid(static_cast<size_t>(o.batch * o.sk), true);
  if (b.has(Mask::holes))
    for (size_t i = 0; i < valid.size(); ++i) valid[i] = random() % 3 != 0;
  for (const SpecTensor& t : spec.tensors) {
    std::vector<int64_t> shape;
    for (const Dim& dim : t.type.shape) shape.push_back(*dim.evaluate(b.c.dims));
    const int64_t seq_axis = o.arrangement == Arrangement::bhsd ? 2 : 1;
    TestTensor tensor(t.type.dtype, shape, o.layout, random);
    tensor.poison();
    int64_t inner = 1;  // elements per step of the sequence axis
    for (size_t i = static_cast<size_t>(seq_axis) + 1; i < shape.size(); ++i) inner *= shape[i];
    const bool is_kv = t.name[0] == 'k' || t.name == "v";
    for (int64_t i = 0; !t.output && i < tensor.size(); ++i) {
      double value = normal(random);
      if (t.name == "lengths") value = static_cast<double>(lengths[static_cast<size_t>(i)]);
      if (t.name == "seed") value = static_cast<double>(random() >> 12);
      if (t.type.dtype == DType::boolean) value = random() % 3 ? 1 : 0;
      if (t.name == "valid") value = valid[static_cast<size_t>(i)] ? 1 : 0;
      if (is_kv) {
        const int64_t batch = i / (tensor.size() / o.batch), kv = i / inner % shape[static_cast<size_t>(seq_axis)];
        if (kv >= lengths[static_cast<size_t>(batch)] || !valid[static_cast<size_t>(batch * o.sk + kv)])
          value = std::numeric_limits<double>::quiet_NaN();
      }
      tensor.set(i, value);
    }
    b.c.tensors.push_back(std::move(tensor));
  }
  return std::move(b.c);
}

}  // namespace tilewright::testing
