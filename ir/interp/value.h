// Value: what is known of one graph value, the elements of a Grid of it. Element (i0, i1, …) of the grid lies at
// data[Σ offsets[axis][i_axis]], so that views and parameters are read in place and never copied.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "ir/interp/index_set.h"
#include "ir/interp/number.h"

namespace tilewright::interp {

/// Offsets per axis, per position in the grid.
using Tables = std::vector<std::vector<int64_t>>;

enum class Storage : uint8_t {
  reals,     ///< an array of the evaluator's Real
  integers,  ///< an array of int64_t, bools as 0 and 1
  memory     ///< elements of a caller's tensor, of `memory_dtype`
};

struct Value {
  Grid grid;
  std::vector<int64_t> shape;  ///< of the whole value
  Tables offsets;
  DType dtype = DType::f32;  ///< declared
  Storage storage = Storage::reals;
  DType memory_dtype = DType::f32;
  bool flush_subnormals = false;  ///< memory only: f32, bf16 and f64 subnormals read as zero
  const void* data = nullptr;
  std::shared_ptr<void> owner;  ///< keeps `data` alive where it is ours
};

/// Row-major Value with storage for T (Real or int64_t) behind it; `out` receives the array.
template <class T>
Value make_dense(const Grid& grid, std::vector<int64_t> shape, DType dtype, T** out) {
  Value value;
  value.grid = grid;
  value.shape = std::move(shape);
  value.dtype = dtype;
  value.storage = is_float(dtype) ? Storage::reals : Storage::integers;
  value.offsets.resize(grid.size());
  int64_t stride = 1;
  for (size_t axis = grid.size(); axis-- > 0;) {
    value.offsets[axis].resize(static_cast<size_t>(grid[axis].size()));
    for (int64_t i = 0; i < grid[axis].size(); ++i) value.offsets[axis][static_cast<size_t>(i)] = i * stride;
    stride *= grid[axis].size();
  }
  auto array = std::shared_ptr<T[]>(new T[static_cast<size_t>(std::max<int64_t>(stride, 1))]);
  *out = array.get();
  value.data = array.get();
  value.owner = std::shared_ptr<void>(array, array.get());
  return value;
}

/// out[i] = element at base + offsets[i].
template <class Real>
void read_reals(const Value& value, int64_t base, const int64_t* offsets, int64_t count, Real* out) {
  const auto gather = [&](auto fetch) {
    for (int64_t i = 0; i < count; ++i) out[i] = fetch(base + offsets[i]);
  };
  const auto flushed = [&](auto fetch, double smallest) {
    if (!value.flush_subnormals) return gather(fetch);
    for (int64_t i = 0; i < count; ++i) {
      const double x = fetch(base + offsets[i]);
      out[i] = std::fabs(x) < smallest ? std::copysign(0.0, x) : x;
    }
  };
  if (value.storage == Storage::reals) {
    const Real* reals = static_cast<const Real*>(value.data);
    return gather([reals](int64_t at) { return reals[at]; });
  }
  const void* data = value.data;
  switch (value.memory_dtype) {
    case DType::f64: return flushed([data](int64_t at) { return read_as<double>(data, at); }, min_normal(DType::f64));
    case DType::f32:
      return flushed([data](int64_t at) { return double{read_as<float>(data, at)}; }, min_normal(DType::f32));
    case DType::bf16:
      return flushed([data](int64_t at) { return from_bf16(read_as<uint16_t>(data, at)); }, min_normal(DType::bf16));
    case DType::f16: return gather([data](int64_t at) { return from_f16(read_as<uint16_t>(data, at)); });
    default: TW_CHECK(!"a float value");
  }
}

inline void read_integers(const Value& value, int64_t base, const int64_t* offsets, int64_t count, int64_t* out) {
  const int64_t* integers = static_cast<const int64_t*>(value.data);
  for (int64_t i = 0; i < count; ++i)
    out[i] = value.storage == Storage::integers ? integers[base + offsets[i]]
                                                : load_int(value.memory_dtype, value.data, base + offsets[i]);
}

/// Reads rows of one operand: without a copy where the row lies in a row of T already.
template <class T>
class RowReader {
 public:
  RowReader(const Value& value, const std::vector<int64_t>& last_axis)
      : value_(value), offsets_(last_axis), buffer_(last_axis.size()) {
    contiguous_ = value.storage == (std::is_same_v<T, int64_t> ? Storage::integers : Storage::reals);
    for (size_t i = 0; contiguous_ && i < offsets_.size(); ++i)
      contiguous_ = offsets_[i] == offsets_[0] + static_cast<int64_t>(i);
  }
  const T* row(int64_t base) {
    if (contiguous_) return static_cast<const T*>(value_.data) + base + (offsets_.empty() ? 0 : offsets_[0]);
    const auto count = static_cast<int64_t>(offsets_.size());
    if constexpr (std::is_same_v<T, int64_t>)
      read_integers(value_, base, offsets_.data(), count, buffer_.data());
    else
      read_reals(value_, base, offsets_.data(), count, buffer_.data());
    return buffer_.data();
  }

 private:
  const Value& value_;
  const std::vector<int64_t>& offsets_;
  std::vector<T> buffer_;
  bool contiguous_ = false;
};

/// Offsets of `operand` for the axes of `grid`, right-aligned; axes of size 1 are repeated.
Tables aligned_offsets(const Value& operand, const Grid& grid);

/// Odometer over all axes but the last `inner` ones: body(bases) with bases[k] = Σ tables[k][axis][position].
template <class Body>
void for_each_outer(const std::vector<int64_t>& sizes, size_t inner, std::span<const Tables* const> tables, Body body) {
  const size_t outer = sizes.size() > inner ? sizes.size() - inner : 0;
  for (int64_t size : sizes)
    if (size == 0) return;
  std::vector<int64_t> at(outer, 0), bases(tables.size());
  while (true) {
    for (size_t k = 0; k < tables.size(); ++k) {
      bases[k] = 0;
      for (size_t axis = 0; axis < outer; ++axis) bases[k] += (*tables[k])[axis][static_cast<size_t>(at[axis])];
    }
    body(bases.data(), at);
    size_t axis = outer;
    while (axis > 0 && at[axis - 1] + 1 == sizes[axis - 1]) at[--axis] = 0;
    if (axis == 0) return;
    ++at[axis - 1];
  }
}

}  // namespace tilewright::interp
