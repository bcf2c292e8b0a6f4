// matmul and matmul_nt. B is packed panel by panel straight from where it lies, so K and V of a long sequence are
// never converted as a whole. Naive products of f32 do what the graph's precision policy permits (semantics 22):
// operands are rounded to bf16, or taken apart, which makes the sum three times as deep.
#include "ir/interp/evaluate.h"
#include "ir/interp/panel.h"

namespace tilewright::interp {
namespace {

/// Offsets of axis `axis` at `wanted`.
std::vector<int64_t> line_of(const Value& value, size_t axis, const IndexSet& wanted) {
  std::vector<int64_t> out(static_cast<size_t>(wanted.size()));
  for (int64_t i = 0; i < wanted.size(); ++i)
    out[static_cast<size_t>(i)] = value.offsets[axis][static_cast<size_t>(value.grid[axis].position(wanted[i]))];
  return out;
}

/// What stands for an element of an f32 operand.
class Parts {
 public:
  explicit Parts(const NodeJob& job) {
    const bool applies = job.naive && job.prepared.graph.type(job.node().operands[0]).dtype == DType::f32 &&
                         job.node().type.dtype != DType::f64;
    if (applies) policy_ = job.prepared.graph.precision.value_or(PrecisionPolicy::f32);
  }

  int64_t count() const { return policy_ == PrecisionPolicy::f32_x3 ? 3 : 1; }

  /// Each row of `width` values becomes count() rows, so that the terms of a product are low·high, high·low, high·high.
  template <class T>
  void take_apart(std::vector<T>& values, int64_t width, bool left) const {
    if (policy_ != PrecisionPolicy::f32_x3 && policy_ != PrecisionPolicy::bf16) return;
    std::vector<T> parts;
    parts.reserve(values.size() * static_cast<size_t>(count()));
    for (size_t row = 0; row < values.size(); row += static_cast<size_t>(width))
      for (int64_t i = 0; i < count(); ++i)
        for (size_t at = row; at < row + static_cast<size_t>(width); ++at)
          parts.push_back(static_cast<T>(part(static_cast<double>(values[at]), i == (left ? 0 : 1))));
    values = std::move(parts);
  }

 private:
  double part(double x, bool low) const {
    const double high = round_to(DType::bf16, x);
    if (policy_ == PrecisionPolicy::bf16 || !low) return high;
    return std::isfinite(high) ? round_to(DType::bf16, x - high) : 0;
  }

  PrecisionPolicy policy_ = PrecisionPolicy::f32;
};

template <class Real, class Sum>
class Product {
 public:
  explicit Product(const NodeJob& job) : job_(job), a_(*job.operands[0]), b_(*job.operands[1]), parts_(job) {
    const size_t rank = job.grid.size(), rank_a = a_.grid.size(), rank_b = b_.grid.size();
    const bool nt = job.node().op == Op::matmul_nt;
    a_rows_ = line_of(a_, rank_a - 2, job.grid[rank - 2]);
    a_depth_ = a_.offsets[rank_a - 1];
    b_columns_ = line_of(b_, nt ? rank_b - 2 : rank_b - 1, job.grid[rank - 1]);
    b_depth_ = b_.offsets[nt ? rank_b - 1 : rank_b - 2];
    depth_ = static_cast<int64_t>(a_depth_.size());
    columns_first_ = !nt;
    hides_ = job.prepared.weights[static_cast<size_t>(raw(job.node().operands[0]))];
  }

  void run(int64_t a_base, int64_t b_base, Real* out) {
    const auto rows = static_cast<int64_t>(a_rows_.size()), columns = static_cast<int64_t>(b_columns_.size());
    rows_of_a_.resize(static_cast<size_t>(rows * depth_));
    sums_.resize(static_cast<size_t>(rows * kPanel));
    buffer_.resize(static_cast<size_t>(std::max(depth_, kPanel)));
    for (int64_t m = 0; m < rows; ++m) {
      read_reals(a_, a_base + a_rows_[static_cast<size_t>(m)], a_depth_.data(), depth_, buffer_.data());
      std::copy(buffer_.begin(), buffer_.begin() + depth_, rows_of_a_.begin() + m * depth_);
    }
    parts_.take_apart(rows_of_a_, 1, true);
    const int64_t parts = parts_.count(), stride = depth_ * parts;
    for (int64_t n = 0; n < columns; n += kPanel) {
      const int64_t width = std::min(kPanel, columns - n);
      std::fill(sums_.begin(), sums_.end(), Sum{0});
      for (int64_t k = 0; k < depth_; k += kDepthBlock) {
        const int64_t depth = std::min(kDepthBlock, depth_ - k);
        const bool finite = pack(b_base, n, width, k, depth);
        const Sum* a = rows_of_a_.data() + k * parts;
        if (hides_ && !finite)
          multiply_panel_skipping_zeros(a, stride, rows, depth * parts, panel_.data(), sums_.data());
        else
          multiply_panel(a, stride, rows, depth * parts, panel_.data(), sums_.data());
      }
      for (int64_t m = 0; m < rows; ++m) {
        Real* to = out + m * columns + n;
        std::copy(sums_.data() + m * kPanel, sums_.data() + m * kPanel + width, to);
        round_row(job_, to, width);
      }
    }
  }

 private:
  static constexpr int64_t kDepthBlock = 512;  // a panel of doubles fills an L1 cache

  /// Rows [k, k + depth), columns [n, n + width) of B as depth x kPanel, zero-padded; false when something in it is not
  /// finite.
  bool pack(int64_t base, int64_t n, int64_t width, int64_t first, int64_t depth) {
    panel_.assign(static_cast<size_t>(depth * kPanel), Sum{0});
    if (columns_first_) {
      for (int64_t k = 0; k < depth; ++k) {
        read_reals(b_, base + b_depth_[static_cast<size_t>(first + k)], &b_columns_[static_cast<size_t>(n)], width,
                   buffer_.data());
        std::copy(buffer_.begin(), buffer_.begin() + width, panel_.begin() + k * kPanel);
      }
    } else {
      for (int64_t j = 0; j < width; ++j) {
        read_reals(b_, base + b_columns_[static_cast<size_t>(n + j)], &b_depth_[static_cast<size_t>(first)], depth,
                   buffer_.data());
        for (int64_t k = 0; k < depth; ++k)
          panel_[static_cast<size_t>(k * kPanel + j)] = static_cast<Sum>(buffer_[static_cast<size_t>(k)]);
      }
    }
    parts_.take_apart(panel_, kPanel, false);
    if (!hides_) return true;
    for (Sum x : panel_)
      if (!std::isfinite(x)) return false;
    return true;
  }

  const NodeJob& job_;
  const Value &a_, &b_;
  const Parts parts_;
  std::vector<int64_t> a_rows_, a_depth_, b_columns_, b_depth_;
  int64_t depth_ = 0;
  bool columns_first_ = false, hides_ = false;
  std::vector<Sum> rows_of_a_, panel_, sums_;
  std::vector<Real> buffer_;
};

Value leading_axes(const Value& value) {
  Value lead = value;
  lead.grid.resize(lead.grid.size() - 2);
  lead.shape.resize(lead.shape.size() - 2);
  lead.offsets.resize(lead.offsets.size() - 2);
  return lead;
}

template <class Real, class Sum>
Value product(const NodeJob& job) {
  Real* out = nullptr;
  Value result = make_dense<Real>(job.grid, job.shape(), job.node().type.dtype, &out);
  if (element_count(job.grid) == 0) return result;
  const Grid leading(job.grid.begin(), job.grid.end() - 2);
  const Tables a = aligned_offsets(leading_axes(*job.operands[0]), leading);
  const Tables b = aligned_offsets(leading_axes(*job.operands[1]), leading);
  const Tables* tables[] = {&a, &b};
  const int64_t matrix = job.grid[leading.size()].size() * job.grid.back().size();
  Product<Real, Sum> multiply(job);
  for_each_outer(sizes(leading), 0, tables, [&](const int64_t* bases, const auto&) {
    multiply.run(bases[0], bases[1], out);
    out += matrix;
  });
  return result;
}

}  // namespace

template <class Real>
Value evaluate_matmul(const NodeJob& job) {
  return job.in_float() ? product<Real, float>(job) : product<Real, Real>(job);
}

template Value evaluate_matmul<double>(const NodeJob&);
template Value evaluate_matmul<long double>(const NodeJob&);

}  // namespace tilewright::interp
