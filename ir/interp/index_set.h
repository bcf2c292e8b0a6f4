// IndexSet: sorted distinct positions along one axis, a range or a list. A Grid, the product of one set per axis, says
// which elements of a value are needed; sampled rows of a long sequence are a list on the q axis.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "ir/result.h"

namespace tilewright::interp {

class IndexSet {
 public:
  IndexSet() = default;
  static IndexSet range(int64_t begin, int64_t count);
  /// Sorts, drops duplicates, and recognises a range.
  static IndexSet of(std::vector<int64_t> indices);

  int64_t size() const { return count_; }
  int64_t operator[](int64_t i) const { return list_.empty() ? begin_ + i : list_[static_cast<size_t>(i)]; }
  /// Where `index`, which is in the set, stands in it.
  int64_t position(int64_t index) const;
  IndexSet united(const IndexSet& other) const;
  /// { f(i) }
  template <class F>
  IndexSet mapped(F f) const {
    std::vector<int64_t> out(static_cast<size_t>(count_));
    for (int64_t i = 0; i < count_; ++i) out[static_cast<size_t>(i)] = f((*this)[i]);
    return of(std::move(out));
  }
  IndexSet shifted(int64_t by) const;
  /// Members of [begin, end).
  IndexSet within(int64_t begin, int64_t end) const;

 private:
  int64_t begin_ = 0, count_ = 0;
  std::vector<int64_t> list_;
};

using Grid = std::vector<IndexSet>;

Grid full_grid(const std::vector<int64_t>& shape);
std::vector<int64_t> sizes(const Grid& grid);
int64_t element_count(const Grid& grid);
/// Per axis the union; `into` may be empty (nothing needed yet) only when nothing was ever united into it.
void unite(Grid& into, const Grid& other);

}  // namespace tilewright::interp
