// mask_causal, mask_window, alibi, softcap and dropout, straight from their definitions (semantics 7, 8, 10, 11, 13).
#include "ir/interp/evaluate.h"
#include "ir/interp/philox.h"
#include "ir/interp/scalar_ops.h"

namespace tilewright::interp {
namespace {

/// p - q for one batch.
int64_t q_offset(const NodeJob& job, size_t operand, int64_t batch) {
  const Value* value = job.operand(operand);
  const std::vector<int64_t>& shape = job.shape();
  if (!value) {
    const bool bottom_right = job.node().attributes.align == CausalAlign::bottom_right;
    return bottom_right ? shape[shape.size() - 1] - shape[shape.size() - 2] : 0;
  }
  const int64_t at = value->offsets.empty() ? 0 : value->offsets[0][static_cast<size_t>(batch)];
  int64_t offset = 0;
  read_integers(*value, 0, &at, 1, &offset);
  return offset;
}

/// The ALiBi paper's slopes.
std::vector<double> default_slopes(int64_t heads) {
  const auto powers = [](int64_t count) {
    std::vector<double> slopes;
    for (int64_t h = 0; h < count; ++h)
      slopes.push_back(std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(count)));
    return slopes;
  };
  int64_t below = 1;
  while (below * 2 <= heads) below *= 2;
  std::vector<double> slopes = powers(below);
  const std::vector<double> between = powers(2 * below);
  for (int64_t h = 0; below + h < heads; ++h) slopes.push_back(between[static_cast<size_t>(2 * h)]);
  return slopes;
}

template <class Real>
std::vector<Real> slopes_of(const NodeJob& job, int64_t heads) {
  std::vector<Real> slopes(static_cast<size_t>(heads));
  if (const Value* given = job.operand(1)) {
    read_reals(*given, 0, given->offsets[0].data(), heads, slopes.data());
    return slopes;
  }
  const std::vector<double> defaults = default_slopes(heads);
  std::copy(defaults.begin(), defaults.end(), slopes.begin());
  round_row(job, slopes.data(), heads);
  return slopes;
}

int64_t scalar(const Value& value) {
  const int64_t first = 0;
  int64_t out = 0;
  read_integers(value, 0, &first, 1, &out);
  return out;
}

bool visible(const Attributes& attributes, Op op, int64_t p, int64_t kv) {
  if (op == Op::mask_causal) return kv <= p;
  return (attributes.left < 0 || kv >= wrapping_sub(p, attributes.left)) &&
         (attributes.right < 0 || kv <= wrapping_add(p, attributes.right));
}

template <class T, class Real>
Real soften(Real s, double cap) {
  const T limit = static_cast<T>(cap);
  return static_cast<Real>(limit * std::tanh(static_cast<T>(s) / limit));
}

/// One row of weights with the random numbers of (seed, offset, bh, q) applied.
template <class Real>
void drop(const NodeJob& job, const Real* weights, int64_t bh, int64_t q, Real* out) {
  const double rate = job.node().attributes.rate;
  const int64_t seed = scalar(*job.operand(1)), offset = scalar(*job.operand(2));
  const Real scale = rate < 1 ? static_cast<Real>(1 / (1 - rate)) : 0;
  for (int64_t i = 0; i < job.grid.back().size(); ++i) {
    const bool kept =
        static_cast<double>(random_bits(seed, offset, bh, q, job.grid.back()[i])) >= std::floor(rate * 4294967296.0);
    const Real value = job.in_float() ? static_cast<Real>(static_cast<float>(weights[i]) * static_cast<float>(scale))
                                      : weights[i] * scale;
    out[i] = kept ? value : 0;
  }
}

}  // namespace

template <class Real>
Value evaluate_sugar(const NodeJob& job) {
  const Node& node = job.node();
  Real* out = nullptr;
  Value result = make_dense<Real>(job.grid, job.shape(), node.type.dtype, &out);
  const size_t rank = job.grid.size();
  const Tables in = aligned_offsets(*job.operands[0], job.grid);
  const Tables* tables[] = {&in};
  RowReader<Real> reader(*job.operands[0], in.back());
  const int64_t length = job.grid.back().size();
  const int64_t heads = rank >= 3 ? job.shape()[rank - 3] : 1;
  const std::vector<Real> slopes = node.op == Op::alibi ? slopes_of<Real>(job, heads) : std::vector<Real>();
  for_each_outer(sizes(job.grid), 1, tables, [&](const int64_t* bases, const std::vector<int64_t>& at) {
    const Real* s = reader.row(bases[0]);
    const int64_t q = rank >= 2 ? job.grid[rank - 2][at[rank - 2]] : 0;
    const int64_t batch = rank >= 4 ? job.grid[0][at[0]] : 0;
    const int64_t head = rank >= 3 ? job.grid[rank - 3][at[rank - 3]] : 0;
    if (node.op == Op::dropout) {
      int64_t bh = 0;
      for (size_t axis = 0; axis + 2 < rank; ++axis) bh = bh * job.shape()[axis] + job.grid[axis][at[axis]];
      drop(job, s, bh, q, out);
      round_row(job, out, length);
      out += length;
      return;
    }
    const int64_t p = node.op == Op::softcap ? 0 : wrapping_add(q, q_offset(job, node.op == Op::alibi ? 2 : 1, batch));
    for (int64_t i = 0; i < length; ++i) {
      const int64_t kv = job.grid.back()[i];
      if (node.op == Op::softcap) {
        if (node.attributes.cap == 0)
          out[i] = s[i];
        else
          out[i] = job.in_float() ? soften<float>(s[i], node.attributes.cap) : soften<Real>(s[i], node.attributes.cap);
      } else if (node.op == Op::alibi) {
        const Real bias = slopes[static_cast<size_t>(head)] * static_cast<Real>(wrapping_sub(kv, p));
        out[i] = s[i] + (job.in_float() ? static_cast<Real>(static_cast<float>(bias)) : bias);
      } else {
        out[i] = visible(node.attributes, node.op, p, kv) ? s[i] : -std::numeric_limits<Real>::infinity();
      }
    }
    round_row(job, out, length);
    out += length;
  });
  return result;
}

template Value evaluate_sugar<double>(const NodeJob&);
template Value evaluate_sugar<long double>(const NodeJob&);

}  // namespace tilewright::interp
