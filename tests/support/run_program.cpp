#include "tests/support/run_program.h"

#include <cmath>
#include <functional>

#include "tests/support/test_tensor.h"

namespace tilewright::testing {
namespace {

struct Storage {
  std::vector<std::byte> bytes;
  TensorView view;

  int64_t position(std::span<const int64_t> at) const {
    int64_t out = 0;
    for (int i = 0; i < view.rank; ++i) out += at[static_cast<size_t>(i)] * view.strides[static_cast<size_t>(i)];
    return out;
  }
  std::byte* element(int64_t position) { return bytes.data() + position * size_of(view.dtype); }
};

class Runner {
 public:
  Runner(const Program& program, const DimBindings& dims, std::span<const TensorView> params)
      : program_(program), dims_(dims), storage_(program.tensors.size()), views_(program.tensors.size()) {
    std::vector<bool> written(program.tensors.size(), false);
    for (const Step& step : program.steps)
      if (const auto* loop = std::get_if<LoopStep>(&step.what))
        written[static_cast<size_t>(step.tensors[static_cast<size_t>(loop->output.tensor)])] = true;
    for (size_t i = 0; i < program.tensors.size(); ++i) {
      const ProgramTensor& tensor = program.tensors[i];
      const TensorView* param =
          tensor.role == TensorRole::param ? &params[static_cast<size_t>(tensor.position)] : nullptr;
      if (param && !written[i]) {
        views_[i] = *param;
        continue;
      }
      std::vector<int64_t> shape;
      int64_t count = 1;
      for (const Dim& dim : tensor.type.shape) count *= shape.emplace_back(*dim.evaluate(dims));
      const DType dtype = is_float(tensor.type.dtype) ? DType::f64 : tensor.type.dtype;
      Storage& s = storage_[i];
      s.bytes.resize(static_cast<size_t>(std::max<int64_t>(count, 1) * size_of(dtype)), std::byte{0xff});
      s.view = views_[i] = TensorView::contiguous(s.bytes.data(), dtype, shape);
      if (param) copy(*param, s);  // written in place here, not in the caller's memory
    }
  }

  Result<std::vector<OracleTensor>> run() {
    for (const Step& step : program_.steps) {
      std::vector<TensorView> views;
      for (int tensor : step.tensors) views.push_back(views_[static_cast<size_t>(tensor)]);
      if (const auto* attention = std::get_if<AttentionStep>(&step.what)) {
        if (auto done = run_fused(attention->spec, step, views); !done) return done.error();
      } else if (const auto* backward = std::get_if<BackwardStep>(&step.what)) {
        if (auto done = run_fused(backward->spec, step, views); !done) return done.error();
      } else {
        run_loop(std::get<LoopStep>(step.what), step, views);
      }
    }
    size_t count = 0;
    for (const ProgramTensor& t : program_.tensors) count += t.role == TensorRole::result;
    std::vector<OracleTensor> results(count);
    for (size_t i = 0; i < program_.tensors.size(); ++i) {
      if (program_.tensors[i].role != TensorRole::result) continue;
      OracleTensor& out = results[static_cast<size_t>(program_.tensors[i].position)];
      Storage& s = storage_[i];
      for (int64_t p = 0; p < s.view.element_count(); ++p)
        out.values.push_back(load_element(s.view.dtype, s.element(p)));
    }
    return results;
  }

 private:
  static void copy(const TensorView& from, Storage& to) {
    for (int64_t p = 0; p < from.element_count(); ++p) {
      int64_t rest = p, offset = 0;
      for (auto axis = static_cast<size_t>(from.rank); axis-- > 0; rest /= from.shape[axis])
        offset += rest % from.shape[axis] * from.strides[axis];
      const auto* element = static_cast<const std::byte*>(from.data) + offset * size_of(from.dtype);
      store_element(to.view.dtype, to.element(p), load_element(from.dtype, element));
    }
  }

  template <class Spec>
  Result<Done> run_fused(const Spec& spec, const Step& step, std::span<const TensorView> views) {
    auto outputs = interpret(spec, dims_, views);
    if (!outputs) return outputs.error();
    size_t next = 0;
    for (size_t i = 0; i < spec.tensors.size(); ++i) {
      if (!spec.tensors[i].output) continue;
      Storage& s = storage_[static_cast<size_t>(step.tensors[i])];
      const auto& values = (*outputs)[next++].values;
      for (size_t p = 0; p < values.size(); ++p)
        store_element(s.view.dtype, s.element(static_cast<int64_t>(p)), static_cast<double>(values[p]));
    }
    return Done{};
  }

  void for_each(const std::vector<int64_t>& extents, size_t axis, std::vector<int64_t>& at, int skipped,
                const std::function<void()>& body) {
    if (axis == extents.size()) return body();
    const bool skip = static_cast<int>(axis) == skipped;
    for (at[axis] = 0; at[axis] < (skip ? 1 : extents[axis]); ++at[axis])
      for_each(extents, axis + 1, at, skipped, body);
    at[axis] = 0;
  }

  void run_loop(const LoopStep& step, const Step& owner, std::span<const TensorView> views) {
    std::vector<int64_t> extents;
    for (const Dim& dim : step.extents) extents.push_back(*dim.evaluate(dims_));
    std::vector<int64_t> at(12, 0);
    Storage& out = storage_[static_cast<size_t>(owner.tensors[static_cast<size_t>(step.output.tensor)])];
    const auto is_real = [](const Expr& e) { return is_float(e.root_node().dtype); };
    const auto real = [&](const Expr& e) {
      return is_real(e) ? evaluate(e, dims_, views, at, 0)
                        : static_cast<long double>(evaluate_int(e, dims_, views, at));
    };
    const auto store = [&](long double value) {
      std::vector<int64_t> where;
      for (const Expr& axis : step.output.axes) where.push_back(evaluate_int(axis, dims_, views, at));
      store_element(out.view.dtype, out.element(out.position(where)), static_cast<double>(value));
    };
    if (step.kind == LoopKind::scatter) {
      if (out.view.element_count() == 0) return;
      return for_each(extents, 0, at, -1, [&] {
        std::vector<int64_t> where;
        for (const Expr& axis : step.output.axes) where.push_back(evaluate_int(axis, dims_, views, at));
        std::byte* element = out.element(out.position(where));
        const double sum = load_element(out.view.dtype, element) + static_cast<double>(real(step.value));
        store_element(out.view.dtype, element, sum);
      });
    }
    if (step.kind == LoopKind::pointwise) return for_each(extents, 0, at, -1, [&] { store(real(step.value)); });
    const auto axis = static_cast<size_t>(step.axis);
    const auto store_sum = [&](long double sum) {
      store(step.epilogue.empty() ? sum : evaluate(step.epilogue, dims_, views, at, sum));
    };
    for_each(extents, 0, at, step.axis, [&] {
      std::vector<long double> row;
      for (at[axis] = 0; at[axis] < extents[axis]; ++at[axis])
        row.push_back(step.kind == LoopKind::contract ? real(step.value) * real(step.value2) : real(step.value));
      at[axis] = 0;
      if (step.kind == LoopKind::contract) {
        long double sum = 0;
        for (long double product : row) sum += product;
        return store_sum(sum);
      }
      fold(step, row, step.sink ? real(*step.sink) : -HUGE_VALL, [&](size_t i, long double value) {
        at[axis] = static_cast<int64_t>(i);
        store(value);
        at[axis] = 0;
      });
    });
  }

  static void fold(const LoopStep& step, const std::vector<long double>& row, long double sink,
                   const std::function<void(size_t, long double)>& store) {
    long double sum = 0, max = -HUGE_VALL, min = HUGE_VALL;
    for (long double x : row) {
      sum += x;
      max = std::isnan(x) || std::isnan(max) ? std::nanl("") : std::max(max, x);
      min = std::isnan(x) || std::isnan(min) ? std::nanl("") : std::min(min, x);
    }
    if (step.op == Op::reduce_sum) return store(0, sum);
    if (step.op == Op::reduce_mean) return store(0, sum / static_cast<long double>(row.size()));
    if (step.op == Op::reduce_max) return store(0, max);
    if (step.op == Op::reduce_min) return store(0, min);
    const bool empty = max == -HUGE_VALL;
    const long double reference = empty ? sink : std::max(max, sink);
    long double total = sink == -HUGE_VALL ? 0 : std::exp(sink - reference);
    for (long double x : row) total += empty ? 0 : std::exp(x - reference);
    if (step.op == Op::logsumexp) return store(0, empty ? sink : reference + std::log(total));
    for (size_t i = 0; i < row.size(); ++i) store(i, empty ? 0 : std::exp(row[i] - reference) / total);
  }

  const Program& program_;
  const DimBindings& dims_;
  std::vector<Storage> storage_;
  std::vector<TensorView> views_;
};

}  // namespace

Result<std::vector<OracleTensor>> run_program(const Program& program, const DimBindings& dims,
                                              std::span<const TensorView> params) {
  return Runner(program, dims, params).run();
}

}  // namespace tilewright::testing
