#include "ir/interp/attention_data.h"

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

Result<AttentionData> AttentionData::create(const AttentionSpec& spec, const DimBindings& dims,
                                            std::span<const TensorView> tensors) {
  AttentionData data;
  data.spec_ = &spec;
  data.dims_ = &dims;
  data.tensors_ = tensors;
  const auto set = [&](const std::vector<Dim>& of, int64_t* to) -> Result<Done> {
    auto size = extent(of, dims);
    if (!size) return size.error();
    *to = *size;
    return Done{};
  };
  for (auto done : {set(spec.batch, &data.batches), set(spec.heads, &data.heads), set({spec.q_len}, &data.q_len),
                    set({spec.kv_len}, &data.kv_len)})
    if (!done) return done.error();
  if (tensors.size() != spec.tensors.size())
    return invalid("attention @{} has {} tensors, but {} were given", spec.name, spec.tensors.size(), tensors.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    const TensorType& type = spec.tensors[i].type;
    Box box;
    for (int axis = 0; axis < type.rank(); ++axis) {
      const auto size = type.shape[static_cast<size_t>(axis)].evaluate(dims);
      const bool output = spec.tensors[i].output;  // outputs of the interpreter are its own
      if (!size ||
          (!output && (tensors[i].rank != type.rank() || tensors[i].shape[static_cast<size_t>(axis)] != *size)))
        return Diagnostic{ErrorKind::invalid, fmt::format("does not match {}", to_string(type)), spec.tensors[i].name,
                          0};
      box.begin.push_back(0);
      box.end.push_back(*size);
    }
    if (!spec.tensors[i].output) continue;
    int64_t count = 1;
    for (int64_t size : box.end) count *= size;
    data.outputs.push_back({box, std::vector<long double>(static_cast<size_t>(count), std::nanl(""))});
  }
  return data;
}

AttentionData::Axes AttentionData::axes(int64_t q, int64_t kv, int64_t d) const {
  return {b_, h_, q, kv, d, 0, 0, 0, q, q, kv, kv};
}

std::vector<int64_t> AttentionData::position(const Access& access, const Axes& at) const {
  std::vector<int64_t> out;
  for (const Expr& axis : access.axes) out.push_back(evaluate_int(axis, *dims_, tensors_, at));
  return out;
}

long double AttentionData::read(const Access& access, const Axes& at) const {
  const TensorView& tensor = tensors_[static_cast<size_t>(access.tensor)];
  const std::vector<int64_t> where = position(access, at);
  int64_t offset = 0;
  for (size_t axis = 0; axis < where.size(); ++axis) {
    TW_CHECK(where[axis] >= 0 && where[axis] < tensor.shape[axis]);
    offset += where[axis] * tensor.strides[axis];
  }
  return load_real(tensor.dtype, tensor.data, offset);
}

void AttentionData::store(const Access& access, const Axes& at, long double value) {
  size_t output = 0;
  for (int i = 0; i < access.tensor; ++i) output += spec_->tensors[static_cast<size_t>(i)].output;
  const std::vector<int64_t> where = position(access, at);
  int64_t flat = 0;
  for (size_t axis = 0; axis < where.size(); ++axis) {
    const int64_t size = outputs[output].box.end[axis];
    TW_CHECK(where[axis] >= 0 && where[axis] < size);
    flat = flat * size + where[axis];
  }
  outputs[output].values[static_cast<size_t>(flat)] = value;
}

void AttentionData::enter_head(int64_t b, int64_t h) {
  b_ = b;
  h_ = h;
  keys_.assign(spec_->dots.size(), {});
  values_.clear();
  for (int64_t kv = 0; kv < kv_len; ++kv) {
    const bool hidden = !evaluate_int(spec_->keep_kv, *dims_, tensors_, axes(0, kv, 0));
    for (size_t term = 0; term < spec_->dots.size(); ++term)
      for (int64_t d = 0; d < spec_->dots[term].head_dim; ++d)
        keys_[term].push_back(hidden ? 0 : read(spec_->dots[term].key, axes(0, kv, d)));
    for (int64_t d = 0; d < spec_->value_dim; ++d) values_.push_back(hidden ? 0 : read(spec_->value, axes(0, kv, d)));
  }
}

std::vector<long double> AttentionData::dots(int64_t q, int64_t kv_begin, int64_t kv_end) const {
  std::vector<long double> out(static_cast<size_t>(kv_end - kv_begin), 0);
  for (size_t term = 0; term < spec_->dots.size(); ++term) {
    const int64_t depth = spec_->dots[term].head_dim;
    std::vector<long double> query;
    for (int64_t d = 0; d < depth; ++d) query.push_back(read(spec_->dots[term].query, axes(q, 0, d)));
    for (int64_t kv = kv_begin; kv < kv_end; ++kv)
      for (int64_t d = 0; d < depth; ++d)
        out[static_cast<size_t>(kv - kv_begin)] +=
            query[static_cast<size_t>(d)] * keys_[term][static_cast<size_t>(kv * depth + d)];
  }
  return out;
}

long double AttentionData::score(const Expr& expr, int64_t q, int64_t kv, long double dot) const {
  return evaluate(expr, *dims_, tensors_, axes(q, kv, 0), dot);
}

bool AttentionData::keep(int64_t q, int64_t kv) const {
  return evaluate_int(spec_->keep, *dims_, tensors_, axes(q, kv, 0)) != 0;
}

long double AttentionData::sink(int64_t q) const {
  return spec_->sink ? evaluate(*spec_->sink, *dims_, tensors_, axes(q, 0, 0), 0) : -HUGE_VALL;
}

int64_t AttentionData::block_value(const Expr& expr, int64_t q_lo, int64_t q_hi, int64_t kv_lo, int64_t kv_hi) const {
  const Axes at{b_, h_, q_lo, kv_lo, 0, 0, 0, 0, q_lo, q_hi, kv_lo, kv_hi};
  return evaluate_int(expr, *dims_, tensors_, at);
}

void AttentionData::store_output(int64_t q, int64_t column, long double value) {
  store(spec_->output, axes(q, 0, column), value);
}

void AttentionData::store_lse(int64_t q, long double value) { store(*spec_->logsumexp, axes(q, 0, 0), value); }

}  // namespace tilewright::interp
