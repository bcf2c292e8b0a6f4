#include "ir/interp/index_set.h"

namespace tilewright::interp {

IndexSet IndexSet::range(int64_t begin, int64_t count) {
  IndexSet set;
  set.begin_ = begin;
  set.count_ = std::max<int64_t>(count, 0);
  return set;
}

IndexSet IndexSet::of(std::vector<int64_t> indices) {
  if (!std::is_sorted(indices.begin(), indices.end())) std::sort(indices.begin(), indices.end());
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
  if (indices.empty()) return {};
  if (indices.back() - indices.front() + 1 == static_cast<int64_t>(indices.size()))
    return range(indices.front(), static_cast<int64_t>(indices.size()));
  IndexSet set;
  set.count_ = static_cast<int64_t>(indices.size());
  set.list_ = std::move(indices);
  return set;
}

int64_t IndexSet::position(int64_t index) const {
  if (list_.empty()) {
    TW_CHECK(index >= begin_ && index < begin_ + count_);
    return index - begin_;
  }
  const auto found = std::lower_bound(list_.begin(), list_.end(), index);
  TW_CHECK(found != list_.end() && *found == index);
  return found - list_.begin();
}

IndexSet IndexSet::united(const IndexSet& other) const {
  if (count_ == 0) return other;
  if (other.count_ == 0) return *this;
  if (list_.empty() && other.list_.empty()) {
    const int64_t low = std::min(begin_, other.begin_);
    const int64_t high = std::max(begin_ + count_, other.begin_ + other.count_);
    if (high - low <= count_ + other.count_) return range(low, high - low);
  }
  std::vector<int64_t> all;
  all.reserve(static_cast<size_t>(count_ + other.count_));
  for (int64_t i = 0; i < count_; ++i) all.push_back((*this)[i]);
  for (int64_t i = 0; i < other.count_; ++i) all.push_back(other[i]);
  return of(std::move(all));
}

IndexSet IndexSet::shifted(int64_t by) const {
  if (list_.empty()) return range(begin_ + by, count_);
  return mapped([by](int64_t i) { return i + by; });
}

IndexSet IndexSet::within(int64_t begin, int64_t end) const {
  if (list_.empty()) {
    const int64_t low = std::max(begin, begin_);
    return range(low, std::min(end, begin_ + count_) - low);
  }
  std::vector<int64_t> kept;
  for (int64_t i : list_)
    if (i >= begin && i < end) kept.push_back(i);
  return of(std::move(kept));
}

Grid full_grid(const std::vector<int64_t>& shape) {
  Grid grid;
  for (int64_t size : shape) grid.push_back(IndexSet::range(0, size));
  return grid;
}

std::vector<int64_t> sizes(const Grid& grid) {
  std::vector<int64_t> out;
  for (const IndexSet& set : grid) out.push_back(set.size());
  return out;
}

int64_t element_count(const Grid& grid) {
  int64_t count = 1;
  for (const IndexSet& set : grid) count *= set.size();
  return count;
}

void unite(Grid& into, const Grid& other) {
  if (into.empty()) {
    into = other;
    return;
  }
  for (size_t i = 0; i < into.size(); ++i) into[i] = into[i].united(other[i]);
}

}  // namespace tilewright::interp
