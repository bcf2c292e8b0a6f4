// Memory to tiles and back, and the two products.
#include <algorithm>

#include "codegen/cpu/generic_template.h"
#include "compiler/score_chain.h"

namespace tilewright::cpu {
using llvm::Value;

DType GenericTemplate::dtype_of(const Access& access) const {
  return spec_.tensors[static_cast<size_t>(access.tensor)].type.dtype;
}

Value* GenericTemplate::accumulated(DType dtype, Value* value) {
  llvm::Type* wanted = b_.vector_type(type_, LlvmBuilder::lanes_of(value));
  if (value->getType() == wanted) return value;
  if (is_float(dtype)) return b_.ir.CreateFPCast(value, wanted);
  return dtype == DType::boolean ? b_.ir.CreateUIToFP(value, wanted) : b_.ir.CreateSIToFP(value, wanted);
}

Value* GenericTemplate::rounded_to(DType dtype, Value* value) {
  return b_.ir.CreateFPCast(value, b_.vector_type(dtype, LlvmBuilder::lanes_of(value)));
}

/// target[i · target_stride] = source[i · stride] for i < count.
void GenericTemplate::copy_in(DType dtype, Value* source, Value* stride, int64_t count, Value* target,
                              int64_t target_stride) {
  const auto one_by_one = [&](int64_t from) {
    const Values start = {b_.element_pointer(dtype, source, b_.mul(b_.i64(from), stride)),
                          b_.element_pointer(type_, target, b_.i64(from * target_stride))};
    b_.loop_nonempty(b_.i64(from), b_.i64(count), 1, start, [&](Value*, const Values& at) {
      b_.store(type_, accumulated(dtype, b_.load(dtype, at[0])), at[1]);
      return Values{b_.element_pointer(dtype, at[0], stride), b_.element_pointer(type_, at[1], b_.i64(target_stride))};
    });
  };
  const int64_t whole = target_stride == 1 ? count / lanes_ * lanes_ : 0;
  if (whole == 0) return one_by_one(0);
  b_.branch(
      b_.ir.CreateICmpEQ(stride, b_.i64(1)),
      [&] {
        b_.loop_nonempty(b_.i64(0), b_.i64(whole), lanes_, {}, [&](Value* i, const Values&) {
          Value* value = b_.load_vector(dtype, b_.element_pointer(dtype, source, i), lanes_);
          b_.store_vector(type_, accumulated(dtype, value), b_.element_pointer(type_, target, i));
          return Values{};
        });
        if (whole < count) one_by_one(whole);
        return Values{};
      },
      [&] {
        one_by_one(0);
        return Values{};
      });
}

RowAccess GenericTemplate::operand_row(const RowAccess& stored, const std::optional<RowEmitter>& computed, DType dtype,
                                       Value* position) {
  if (!computed)
    return {b_.element_pointer(dtype, stored.base, b_.mul(position, stored.stride_seq)), nullptr, stored.stride_dim};
  Value* here = pointer(row_, b_.i64(0), b_.i64(0));
  computed->call(item_.b, item_.h, position, b_.i64(1), here);
  return {here, nullptr, b_.i64(1)};
}

void GenericTemplate::load_queries() {
  for_rows([&](Value* row) {
    int64_t column = 0;
    for (size_t i = 0; i < spec_.dots.size(); ++i) {
      const DotTerm& dot = spec_.dots[i];
      const DType dtype = operand_dtype(spec_, dot.query, dot.query_row);
      const RowAccess at = operand_row(query_rows_[i], computed_[i].query, dtype, b_.add(item_.q_begin, row));
      copy_in(dtype, at.base, at.stride_dim, dot.head_dim, pointer(queries_, row, b_.i64(column)), 1);
      column += dot.head_dim;
    }
  });
}

/// Rows past the block's end and rows that keep_kv hides read as 0, without touching their memory.
void GenericTemplate::load_keys_and_values() {
  b_.loop(b_.i64(0), b_.i64(block_kv_), 1, [&](Value* row) {
    Value* kv = b_.add(kv_begin_, row);
    Value* visible = b_.ir.CreateICmpSLT(kv, kv_end_);
    if (keep_kv_)
      visible = b_.branch(
          visible,
          [&] {
            keep_kv_->set_axis(Axis::kv, kv);
            return Values{keep_kv_->emit()};
          },
          [&] { return Values{b_.ir.getFalse()}; })[0];
    b_.branch(
        visible,
        [&] {
          int64_t start = 0;
          for (size_t i = 0; i < spec_.dots.size(); ++i) {
            const DotTerm& dot = spec_.dots[i];
            const DType dtype = operand_dtype(spec_, dot.key, dot.key_row);
            const RowAccess at = operand_row(key_rows_[i], computed_[i].key, dtype, kv);
            copy_in(dtype, at.base, at.stride_dim, dot.head_dim, pointer(keys_, b_.i64(start), row), keys_.width);
            start += dot.head_dim;
          }
          const DType dtype = dtype_of(spec_.value);
          copy_in(dtype, b_.element_pointer(dtype, value_rows_.base, b_.mul(kv, value_rows_.stride_seq)),
                  value_rows_.stride_dim, spec_.value_dim, pointer(values_, row, b_.i64(0)), 1);
          return Values{};
        },
        [&] {
          b_.loop(b_.i64(0), b_.i64(total_head_dim()), 1,
                  [&](Value* d) { store(keys_, d, row, b_.constant(type_, 0)); });
          for_vectors(values_.width,
                      [&](Value* column) { store(values_, row, column, b_.constant(type_, 0, lanes_)); });
          return Values{};
        });
  });
}

int64_t GenericTemplate::total_head_dim() const {
  int64_t sum = 0;
  for (const DotTerm& dot : spec_.dots) sum += dot.head_dim;
  return sum;
}

/// Up to `kGroup` vectors of one row are summed at once; `body(first column, vectors)` sums one group.
void GenericTemplate::for_groups(int64_t width, const std::function<void(Value* column, int64_t vectors)>& body) {
  constexpr int64_t kGroup = 4;
  const int64_t vectors = width / lanes_, whole = vectors / kGroup * kGroup;
  if (whole)
    b_.loop_nonempty(b_.i64(0), b_.i64(whole * lanes_), kGroup * lanes_, {}, [&](Value* column, const Values&) {
      body(column, kGroup);
      return Values{};
    });
  if (whole < vectors) body(b_.i64(whole * lanes_), vectors - whole);
}

/// sums[i] += Σ_j left[j] · right[j, i] over `count` >= 1 steps; rows of right are `right_width` elements apart. The
/// pointers are carried: the code generator places no induction variables of its own.
Values GenericTemplate::multiply_add(Value* count, Value* left, Value* right, int64_t right_width, Values sums) {
  const size_t vectors = sums.size();
  sums.push_back(left);
  sums.push_back(right);
  return b_.loop_nonempty(b_.i64(0), count, 1, sums, [&](Value*, const Values& carried) {
    Value* factor = b_.splat(b_.load(type_, carried[vectors]), lanes_);
    Values next;
    for (size_t i = 0; i < vectors; ++i) {
      Value* from = b_.element_pointer(type_, carried[vectors + 1], b_.i64(static_cast<int64_t>(i) * lanes_));
      next.push_back(b_.fma(factor, b_.load_vector(type_, from, lanes_), carried[i]));
    }
    next.push_back(b_.element_pointer(type_, carried[vectors], b_.i64(1)));
    next.push_back(b_.element_pointer(type_, carried[vectors + 1], b_.i64(right_width)));
    return next;
  });
}

void GenericTemplate::dot(const TileInst& inst) {
  for_rows([&](Value* row) {
    for_groups(tile(inst.dst).width, [&](Value* column, int64_t vectors) {
      const Values zeros(static_cast<size_t>(vectors), b_.constant(type_, 0, lanes_));
      Values sums;
      // Every term, and every piece of a long one, is a sum of its own: the error grows with the longest of them.
      const int64_t chain = score_chain(spec_);
      int64_t start = 0;
      for (const DotTerm& term : spec_.dots)
        for (const int64_t end = start + term.head_dim; start < end;) {
          const int64_t count = std::min(chain, end - start);
          Values piece = multiply_add(b_.i64(count), pointer(queries_, row, b_.i64(start)),
                                      pointer(keys_, b_.i64(start), column), keys_.width, zeros);
          piece.resize(zeros.size());
          for (size_t i = 0; i < sums.size(); ++i) piece[i] = b_.ir.CreateFAdd(sums[i], piece[i]);
          sums = std::move(piece);
          start += count;
        }
      for (int64_t i = 0; i < vectors; ++i)
        store(tile(inst.dst), row, b_.add(column, b_.i64(i * lanes_)), sums[static_cast<size_t>(i)]);
    });
  });
}

void GenericTemplate::dot_value(const TileInst& inst) {
  Value* keys = b_.sub(kv_end_, kv_begin_);
  for_rows([&](Value* row) {
    for_groups(tile(inst.dst).width, [&](Value* column, int64_t vectors) {
      Values start;
      for (int64_t i = 0; i < vectors; ++i)
        start.push_back(load(tile(inst.a), row, b_.add(column, b_.i64(i * lanes_)), lanes_));
      const Values sums = multiply_add(keys, pointer(tile(inst.b), row, b_.i64(0)), pointer(values_, b_.i64(0), column),
                                       values_.width, start);
      for (int64_t i = 0; i < vectors; ++i)
        store(tile(inst.dst), row, b_.add(column, b_.i64(i * lanes_)), sums[static_cast<size_t>(i)]);
    });
  });
}

void GenericTemplate::store_output(const TileInst& inst) {
  const Tile& result = tile(inst.a);
  const DType dtype = dtype_of(spec_.output);
  const int64_t whole = spec_.value_dim / lanes_ * lanes_;
  for_rows([&](Value* row) {
    Value* q = b_.add(item_.q_begin, row);
    Value* target = b_.element_pointer(dtype, output_rows_.base, b_.mul(q, output_rows_.stride_seq));
    const auto one_by_one = [&](Value* from) {
      b_.loop(from, b_.i64(spec_.value_dim), 1, [&](Value* d) {
        b_.store(dtype, rounded_to(dtype, load(result, row, d, 1)),
                 b_.element_pointer(dtype, target, b_.mul(d, output_rows_.stride_dim)));
      });
    };
    if (whole == 0) return one_by_one(b_.i64(0));
    Value* done = b_.branch(
        b_.ir.CreateICmpEQ(output_rows_.stride_dim, b_.i64(1)),
        [&] {
          b_.loop_nonempty(b_.i64(0), b_.i64(whole), lanes_, {}, [&](Value* d, const Values&) {
            b_.store_vector(dtype, rounded_to(dtype, load(result, row, d, lanes_)),
                            b_.element_pointer(dtype, target, d));
            return Values{};
          });
          return Values{b_.i64(whole)};
        },
        [&] { return Values{b_.i64(0)}; })[0];
    one_by_one(done);
  });
}

void GenericTemplate::store_lse(const TileInst& inst) {
  const DType dtype = dtype_of(*spec_.logsumexp);
  for_rows([&](Value* row) {
    Value* q = b_.add(item_.q_begin, row);
    b_.store(dtype, rounded_to(dtype, load(tile(inst.a), b_.i64(0), row, 1)),
             b_.element_pointer(dtype, lse_rows_.base, b_.mul(q, lse_rows_.stride_seq)));
  });
}

}  // namespace tilewright::cpu
