// matmul and matmul_nt. B is packed panel by panel straight from where it lies, so K and V of a long sequence are
// never converted as a whole.
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

template <class Real, class Sum>
class Product {
 public:
  explicit Product(const NodeJob& job) : job_(job), a_(*job.operands[0]), b_(*job.operands[1]) {
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
    for (int64_t n = 0; n < columns; n += kPanel) {
      const int64_t width = std::min(kPanel, columns - n);
      std::fill(sums_.begin(), sums_.end(), Sum{0});
      for (int64_t k = 0; k < depth_; k += kDepthBlock) {
        const int64_t depth = std::min(kDepthBlock, depth_ - k);
        const bool finite = pack(b_base, n, width, k, depth);
        const Sum* a = rows_of_a_.data() + k;
        if (hides_ && !finite)
          multiply_panel_skipping_zeros(a, depth_, rows, depth, panel_.data(), sums_.data());
        else
          multiply_panel(a, depth_, rows, depth, panel_.data(), sums_.data());
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
    if (!hides_) return true;
    for (Sum x : panel_)
      if (!std::isfinite(x)) return false;
    return true;
  }

  const NodeJob& job_;
  const Value &a_, &b_;
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
