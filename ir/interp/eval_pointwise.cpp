// Elementwise ops, casts, selects, literals and loads.
#include "ir/interp/evaluate.h"
#include "ir/interp/philox.h"

namespace tilewright::interp {
namespace {

int64_t last_size(const Grid& grid) { return grid.empty() ? 1 : grid.back().size(); }

/// Tables of all operands, right-aligned to the job's grid; a rank-0 job gets one axis of size 1.
struct AlignedOperands {
  explicit AlignedOperands(const NodeJob& job, size_t first = 0) : grid(job.grid) {
    if (grid.empty()) grid.push_back(IndexSet::range(0, 1));
    for (size_t k = first; k < job.operands.size(); ++k) tables.push_back(aligned_offsets(*job.operands[k], grid));
    for (const Tables& t : tables) pointers.push_back(&t);
  }
  Grid grid;
  std::vector<Tables> tables;
  std::vector<const Tables*> pointers;
};

template <class Real>
void real_row(const NodeJob& job, const Real* a, const Real* b, int64_t count, Real* out) {
  const Op op = job.node().op;
  if (job.in_float()) {
    for (int64_t i = 0; i < count; ++i)
      out[i] = apply_real(op, static_cast<float>(a[i]), b ? static_cast<float>(b[i]) : 0.0f);
  } else {
    for (int64_t i = 0; i < count; ++i) out[i] = apply_real(op, a[i], b ? b[i] : Real{0});
  }
}

/// add(s, select(c, 0, -inf)) masks even a NaN (semantics 4).
template <class Real>
void apply_additive_masks(const NodeJob& job, const Real* a, const Real* b, int64_t count, Real* out) {
  const auto masks = [&](size_t k) {
    return job.prepared.additive_mask[static_cast<size_t>(raw(job.node().operands[k]))];
  };
  constexpr Real kHidden = -std::numeric_limits<Real>::infinity();
  const bool mask_a = masks(0), mask_b = masks(1);
  for (int64_t i = 0; (mask_a || mask_b) && i < count; ++i)
    if ((mask_a && a[i] == kHidden) || (mask_b && b[i] == kHidden)) out[i] = kHidden;
}

template <class Real>
Value float_arithmetic(const NodeJob& job) {
  Real* out = nullptr;
  Value result = make_dense<Real>(job.grid, job.shape(), job.node().type.dtype, &out);
  AlignedOperands in(job);
  const int64_t length = last_size(in.grid);
  RowReader<Real> first(*job.operands[0], in.tables[0].back());
  const bool binary = job.operands.size() > 1;
  RowReader<Real> second(*job.operands[binary ? 1 : 0], in.tables[binary ? 1 : 0].back());
  for_each_outer(sizes(in.grid), 1, in.pointers, [&](const int64_t* bases, const auto&) {
    const Real* a = first.row(bases[0]);
    const Real* b = binary ? second.row(bases[1]) : nullptr;
    real_row(job, a, b, length, out);
    if (job.node().op == Op::add) apply_additive_masks(job, a, b, length, out);
    round_row(job, out, length);
    out += length;
  });
  return result;
}

Value int_arithmetic(const NodeJob& job) {
  int64_t* out = nullptr;
  Value result = make_dense<int64_t>(job.grid, job.shape(), job.node().type.dtype, &out);
  AlignedOperands in(job);
  const int64_t length = last_size(in.grid);
  const bool binary = job.operands.size() > 1;
  RowReader<int64_t> first(*job.operands[0], in.tables[0].back());
  RowReader<int64_t> second(*job.operands[binary ? 1 : 0], in.tables[binary ? 1 : 0].back());
  for_each_outer(sizes(in.grid), 1, in.pointers, [&](const int64_t* bases, const auto&) {
    const int64_t *a = first.row(bases[0]), *b = second.row(bases[binary ? 1 : 0]);
    for (int64_t i = 0; i < length; ++i) *out++ = apply_int(job.node().op, job.node().type.dtype, a[i], b[i]);
  });
  return result;
}

Value random_numbers(const NodeJob& job) {
  int64_t* out = nullptr;
  Value result = make_dense<int64_t>(job.grid, job.shape(), job.node().type.dtype, &out);
  AlignedOperands in(job);
  const int64_t length = last_size(in.grid);
  std::vector<RowReader<int64_t>> readers;
  for (size_t k = 0; k < job.operands.size(); ++k) readers.emplace_back(*job.operands[k], in.tables[k].back());
  for_each_outer(sizes(in.grid), 1, in.pointers, [&](const int64_t* bases, const auto&) {
    std::array<const int64_t*, 5> at{};
    for (size_t k = 0; k < at.size(); ++k) at[k] = readers[k].row(bases[k]);
    for (int64_t i = 0; i < length; ++i) *out++ = random_bits(at[0][i], at[1][i], at[2][i], at[3][i], at[4][i]);
  });
  return result;
}

template <class T>
Value comparison(const NodeJob& job) {
  int64_t* out = nullptr;
  Value result = make_dense<int64_t>(job.grid, job.shape(), DType::boolean, &out);
  AlignedOperands in(job);
  const int64_t length = last_size(in.grid);
  RowReader<T> first(*job.operands[0], in.tables[0].back()), second(*job.operands[1], in.tables[1].back());
  for_each_outer(sizes(in.grid), 1, in.pointers, [&](const int64_t* bases, const auto&) {
    const T *a = first.row(bases[0]), *b = second.row(bases[1]);
    for (int64_t i = 0; i < length; ++i) *out++ = apply_compare(job.node().op, a[i], b[i]);
  });
  return result;
}

template <class T>
Value selection(const NodeJob& job) {
  T* out = nullptr;
  Value result = make_dense<T>(job.grid, job.shape(), job.node().type.dtype, &out);
  AlignedOperands in(job);
  const int64_t length = last_size(in.grid);
  RowReader<int64_t> condition(*job.operands[0], in.tables[0].back());
  RowReader<T> first(*job.operands[1], in.tables[1].back()), second(*job.operands[2], in.tables[2].back());
  for_each_outer(sizes(in.grid), 1, in.pointers, [&](const int64_t* bases, const auto&) {
    const int64_t* c = condition.row(bases[0]);
    const T *a = first.row(bases[1]), *b = second.row(bases[2]);
    for (int64_t i = 0; i < length; ++i) *out++ = c[i] ? a[i] : b[i];
  });
  return result;
}

template <class From, class To>
Value conversion(const NodeJob& job) {
  To* out = nullptr;
  const DType dtype = job.node().type.dtype;
  Value result = make_dense<To>(job.grid, job.shape(), dtype, &out);
  AlignedOperands in(job);
  const int64_t length = last_size(in.grid);
  RowReader<From> reader(*job.operands[0], in.tables[0].back());
  for_each_outer(sizes(in.grid), 1, in.pointers, [&](const int64_t* bases, const auto&) {
    const From* a = reader.row(bases[0]);
    for (int64_t i = 0; i < length; ++i) {
      if constexpr (!std::is_same_v<To, int64_t>)
        out[i] = static_cast<To>(a[i]);
      else if constexpr (std::is_same_v<From, int64_t>)
        out[i] = wrap(dtype, a[i]);
      else
        out[i] = real_to_int(dtype, a[i]);
    }
    if constexpr (!std::is_same_v<To, int64_t>) round_row(job, out, length);
    out += length;
  });
  return result;
}

template <class T>
Value gather(const NodeJob& job) {
  T* out = nullptr;
  Value result = make_dense<T>(job.grid, job.shape(), job.node().type.dtype, &out);
  const Value& table = *job.operands[0];
  AlignedOperands in(job, 1);
  const int64_t length = last_size(in.grid);
  std::vector<RowReader<int64_t>> indices;
  for (size_t k = 1; k < job.operands.size(); ++k) indices.emplace_back(*job.operands[k], in.tables[k - 1].back());
  const bool empty = element_count(table.grid) == 0;
  std::vector<int64_t> at(static_cast<size_t>(length));
  for_each_outer(sizes(in.grid), 1, in.pointers, [&](const int64_t* bases, const auto&) {
    std::fill(at.begin(), at.end(), 0);
    for (size_t k = 0; k < indices.size() && !empty; ++k) {
      const int64_t* row = indices[k].row(bases[k]);
      const int64_t last = table.shape[k] - 1;
      for (int64_t i = 0; i < length; ++i)
        at[static_cast<size_t>(i)] += table.offsets[k][static_cast<size_t>(std::clamp<int64_t>(row[i], 0, last))];
    }
    if (empty)
      std::fill(out, out + length, T{0});
    else if constexpr (std::is_same_v<T, int64_t>)
      read_integers(table, 0, at.data(), length, out);
    else
      read_reals(table, 0, at.data(), length, out);
    out += length;
  });
  return result;
}

}  // namespace

Value alias(const NodeJob& job) {
  Value result = *job.operands[0];
  result.dtype = job.node().type.dtype;
  return result;
}

template <class Real>
Value evaluate_leaf(const NodeJob& job) {
  const Node& node = job.node();
  if (node.op == Op::constant && is_float(node.type.dtype)) {
    Real* out = nullptr;
    Value result = make_dense<Real>(job.grid, job.shape(), node.type.dtype, &out);
    *out = static_cast<Real>(node.attributes.literal.real);
    round_row(job, out, 1);
    return result;
  }
  int64_t* out = nullptr;
  Grid line;
  if (node.op == Op::index) line.push_back(job.grid[static_cast<size_t>(node.attributes.axis)]);
  Value result = make_dense<int64_t>(line, {}, node.type.dtype, &out);
  if (node.op == Op::constant) *out = wrap(node.type.dtype, node.attributes.literal.integer);
  if (node.op == Op::dim) *out = node.attributes.dim.evaluate(job.dims).value_or(0);
  for (int64_t i = 0; node.op == Op::index && i < line[0].size(); ++i) out[i] = wrap(node.type.dtype, line[0][i]);
  Tables offsets(job.grid.size());
  for (size_t axis = 0; axis < job.grid.size(); ++axis)
    offsets[axis].assign(static_cast<size_t>(job.grid[axis].size()), 0);
  if (node.op == Op::index) offsets[static_cast<size_t>(node.attributes.axis)] = result.offsets[0];
  result.offsets = std::move(offsets);
  result.grid = job.grid;
  result.shape = job.shape();
  return result;
}

template <class Real>
Value evaluate_pointwise(const NodeJob& job) {
  const Node& node = job.node();
  const bool from_float = is_float(job.operands[0]->dtype), to_float = is_float(node.type.dtype);
  if (node.op == Op::select) return to_float ? selection<Real>(job) : selection<int64_t>(job);
  if (node.op == Op::random_bits) return random_numbers(job);
  if (is_comparison(node.op)) return from_float ? comparison<Real>(job) : comparison<int64_t>(job);
  if (node.op == Op::cast) {
    if (from_float && to_float) return job.naive ? conversion<Real, Real>(job) : alias(job);
    if (from_float) return conversion<Real, int64_t>(job);
    return to_float ? conversion<int64_t, Real>(job) : conversion<int64_t, int64_t>(job);
  }
  return to_float ? float_arithmetic<Real>(job) : int_arithmetic(job);
}

template <class Real>
Value evaluate_load(const NodeJob& job) {
  return is_float(job.node().type.dtype) ? gather<Real>(job) : gather<int64_t>(job);
}

template Value evaluate_leaf<double>(const NodeJob&);
template Value evaluate_leaf<long double>(const NodeJob&);
template Value evaluate_pointwise<double>(const NodeJob&);
template Value evaluate_pointwise<long double>(const NodeJob&);
template Value evaluate_load<double>(const NodeJob&);
template Value evaluate_load<long double>(const NodeJob&);

}  // namespace tilewright::interp
