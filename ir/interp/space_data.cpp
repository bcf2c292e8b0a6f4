#include "ir/interp/space_data.h"

#include <cmath>

#include "ir/interp/number.h"

namespace tilewright::interp {
namespace {

Result<int64_t> extent(const std::vector<Dim>& dims, const DimBindings& bindings) {
  int64_t product = 1;
  for (const Dim& dim : dims) {
    const std::optional<int64_t> size = dim.evaluate(bindings);
    if (!size || *size < 0) return invalid("dim {} is not bound to a size", to_string(dim));
    product *= *size;
  }
  return product;
}

}  // namespace

Result<Done> SpaceData::bind(const ScoreSpace& space, const DimBindings& dims, std::span<const TensorView> tensors) {
  space_ = &space;
  dims_ = &dims;
  tensors_ = tensors;
  const auto set = [&](const std::vector<Dim>& of, int64_t* to) -> Result<Done> {
    auto size = extent(of, dims);
    if (!size) return size.error();
    *to = *size;
    return Done{};
  };
  for (auto done :
       {set(space.batch, &batches), set(space.heads, &heads), set({space.q_len}, &q_len), set({space.kv_len}, &kv_len)})
    if (!done) return done.error();
  if (tensors.size() != space.tensors.size())
    return invalid("@{} has {} tensors, but {} were given", space.name, space.tensors.size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorType& type = space.tensors[i].type;
    Box box;
    for (int axis = 0; axis < type.rank(); ++axis) {
      const auto size = type.shape[static_cast<size_t>(axis)].evaluate(dims);
      const bool output = space.tensors[i].output;  // outputs of the interpreter are its own
      if (!size ||
          (!output && (tensors[i].rank != type.rank() || tensors[i].shape[static_cast<size_t>(axis)] != *size)))
        return Diagnostic{ErrorKind::invalid, fmt::format("does not match {}", to_string(type)), space.tensors[i].name,
                          0};
      box.begin.push_back(0);
      box.end.push_back(*size);
    }
    if (!space.tensors[i].output) continue;
    int64_t count = 1;
    for (int64_t size : box.end) count *= size;
    outputs.push_back({box, std::vector<long double>(static_cast<size_t>(count), std::nanl(""))});
  }
  return Done{};
}

SpaceData::Axes SpaceData::axes(int64_t q, int64_t kv, int64_t d) const {
  return {b_, h_, q, kv, d, 0, 0, 0, q, q, kv, kv};
}

std::vector<int64_t> SpaceData::position(const Access& access, const Axes& at) const {
  std::vector<int64_t> out;
  for (const Expr& axis : access.axes) out.push_back(evaluate_int(axis, *dims_, tensors_, at));
  return out;
}

long double SpaceData::read(const Access& access, const Axes& at) const {
  const TensorView& tensor = tensors_[static_cast<size_t>(access.tensor)];
  const std::vector<int64_t> where = position(access, at);
  int64_t offset = 0;
  for (size_t axis = 0; axis < where.size(); ++axis) {
    TW_CHECK(where[axis] >= 0 && where[axis] < tensor.shape[axis]);
    offset += where[axis] * tensor.strides[axis];
  }
  return load_real(tensor.dtype, tensor.data, offset);
}

long double& SpaceData::element(const Access& access, const Axes& at) {
  return element(access.tensor, position(access, at));
}

long double& SpaceData::element(int tensor, std::span<const int64_t> position) {
  size_t output = 0;
  for (int i = 0; i < tensor; ++i) output += space_->tensors[static_cast<size_t>(i)].output;
  int64_t flat = 0;
  for (size_t axis = 0; axis < position.size(); ++axis) {
    const int64_t size = outputs[output].box.end[axis];
    TW_CHECK(position[axis] >= 0 && position[axis] < size);
    flat = flat * size + position[axis];
  }
  return outputs[output].values[static_cast<size_t>(flat)];
}

void SpaceData::enter_head(int64_t b, int64_t h) {
  b_ = b;
  h_ = h;
  keys_.clear();
  for (const DotTerm& term : space_->dots) keys_.push_back(key_rows(term.key, term.head_dim, term.key_row));
}

std::vector<long double> SpaceData::operand_row(const Access& access, const std::optional<RowProgram>& row,
                                                int64_t columns, int64_t q, int64_t kv) const {
  if (row) return computed_row(*row, columns, q, kv);
  std::vector<long double> out;
  for (int64_t d = 0; d < columns; ++d) out.push_back(read(access, axes(q, kv, d)));
  return out;
}

std::vector<long double> SpaceData::computed_row(const RowProgram& row, int64_t columns, int64_t q, int64_t kv) const {
  std::array<long double, kMaxRowSums> sums{};
  const auto value = [&](ExprId root, int64_t i) {
    return evaluate(row.values, std::span(&root, 1), *dims_, tensors_, axes(q, kv, i), sums)[0];
  };
  for (size_t n = 0; n < row.sums.size(); ++n) {
    long double sum = 0;
    for (int64_t i = 0; i < row.sums[n].count; ++i) sum += value(row.sums[n].value, i);
    sums[n] = sum;
  }
  std::vector<long double> out(static_cast<size_t>(columns), std::nanl(""));
  for (const RowPiece& piece : row.pieces)
    for (int64_t i = 0; i < piece.count; ++i)
      out[static_cast<size_t>(piece.begin + piece.step * i)] = value(piece.value, i);
  return out;
}

std::vector<long double> SpaceData::key_rows(const Access& access, int64_t columns,
                                             const std::optional<RowProgram>& row) const {
  std::vector<long double> rows;
  for (int64_t kv = 0; kv < kv_len; ++kv) {
    const bool hidden = !space_->keep_kv.empty() && !evaluate_int(space_->keep_kv, *dims_, tensors_, axes(0, kv, 0));
    if (hidden) {
      rows.resize(rows.size() + static_cast<size_t>(columns), 0);
      continue;
    }
    const std::vector<long double> next = operand_row(access, row, columns, 0, kv);
    rows.insert(rows.end(), next.begin(), next.end());
  }
  return rows;
}

std::vector<long double> SpaceData::dots(int64_t q, int64_t kv_begin, int64_t kv_end) const {
  std::vector<long double> out(static_cast<size_t>(kv_end - kv_begin), 0);
  for (size_t term = 0; term < space_->dots.size(); ++term) {
    const DotTerm& dot = space_->dots[term];
    const int64_t depth = dot.head_dim;
    const std::vector<long double> query = operand_row(dot.query, dot.query_row, depth, q, 0);
    for (int64_t kv = kv_begin; kv < kv_end; ++kv)
      for (int64_t d = 0; d < depth; ++d)
        out[static_cast<size_t>(kv - kv_begin)] +=
            query[static_cast<size_t>(d)] * keys_[term][static_cast<size_t>(kv * depth + d)];
  }
  return out;
}

bool SpaceData::keep(int64_t q, int64_t kv) const {
  return evaluate_int(space_->keep, *dims_, tensors_, axes(q, kv, 0)) != 0;
}

}  // namespace tilewright::interp
