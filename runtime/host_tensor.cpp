#include "runtime/host_tensor.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <numbers>

#include "runtime/convert.h"
#include "runtime/integer_data.h"

namespace tilewright {
namespace {

uint64_t mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

constexpr int64_t kBlock = 4096;

/// Box–Muller, two numbers a draw; block `block` of the stream `seed`.
void gaussian_block(uint64_t seed, int64_t block, float* out) {
  const uint64_t stream = mix(seed) + static_cast<uint64_t>(block) * (kBlock / 2);
  for (int64_t i = 0; i < kBlock; i += 2) {
    const uint64_t bits = mix(stream + static_cast<uint64_t>(i / 2));
    const float u = (static_cast<float>(bits >> 40) + 1.0f) * 0x1p-24f;
    const float angle = static_cast<float>(bits & 0xFFFFFF) * (0x1p-24f * 2.0f * std::numbers::pi_v<float>);
    const float radius = std::sqrt(-2.0f * std::log(u));
    out[i] = radius * std::cos(angle);
    out[i + 1] = radius * std::sin(angle);
  }
}

}  // namespace

double uniform(uint64_t seed, uint64_t counter) {
  return static_cast<double>(mix(mix(seed) + counter) >> 11) * 0x1p-53;
}

Result<HostTensor> make_tensor(DType dtype, const std::vector<int64_t>& shape) {
  int64_t bytes = size_of(dtype);
  bool empty = false;
  if (shape.size() > kMaxRank) return invalid("rank {} is more than {}", shape.size(), kMaxRank);
  for (const int64_t size : shape) {
    if (size < 0) return invalid("a tensor cannot have the size {}", size);
    empty |= size == 0;
    if (__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes))
      return invalid("a tensor's size in bytes overflows 64 bits");
  }
  HostTensor tensor;
  if (!empty) {
    tensor.buffer = AlignedBuffer(bytes);
    if (!tensor.buffer.data())
      return Diagnostic{ErrorKind::invalid, fmt::format("a tensor of {} bytes cannot be allocated", bytes), {}, 0};
  }
  tensor.view = TensorView::contiguous(tensor.buffer.data(), dtype, shape);
  return tensor;
}

void fill_gaussian(const TensorView& contiguous, uint64_t seed, Executor& executor) {
  if (!is_float(contiguous.dtype)) return;
  const int64_t count = contiguous.element_count(), blocks = (count + kBlock - 1) / kBlock;
  const int64_t element = size_of(contiguous.dtype);
  std::atomic<int64_t> next{0};
  executor.run([&](int) {
    float values[kBlock];
    for (int64_t block = next.fetch_add(1); block < blocks; block = next.fetch_add(1)) {
      gaussian_block(seed, block, values);
      const int64_t here = std::min(kBlock, count - block * kBlock);
      char* target = static_cast<char*>(contiguous.data) + block * kBlock * element;
      convert(TensorView::contiguous(values, DType::f32, {here}),
              TensorView::contiguous(target, contiguous.dtype, {here}));
    }
  });
}

Result<HostTensor> make_input(const Graph& graph, ValueId param, const DimBindings& dims, uint64_t seed,
                              Executor& executor) {
  const Node& node = graph[param];
  std::vector<int64_t> shape;
  for (const Dim& dim : node.type.shape) {
    const auto size = dim.evaluate(dims);
    if (!size || *size < 0)
      return Diagnostic{
          ErrorKind::invalid,
          fmt::format("its size {} is {}", to_string(dim), size ? std::to_string(*size) : "not known or overflows"),
          node.name, 0};
    shape.push_back(*size);
  }
  auto tensor = make_tensor(node.type.dtype, shape);
  if (!tensor) {
    Diagnostics errors = tensor.error();
    for (Diagnostic& error : errors.list) error.value = node.name;
    return errors;
  }
  const uint64_t stream = mix(seed) ^ mix(static_cast<uint64_t>(raw(param)) + 17);
  if (is_float(node.type.dtype))
    fill_gaussian(tensor->view, stream, executor);
  else if (node.type.dtype == DType::boolean) {
    auto* values = static_cast<uint8_t*>(tensor->view.data);
    for (int64_t i = 0; i < tensor->view.element_count(); ++i)
      values[i] = uniform(stream, static_cast<uint64_t>(i)) < 0.7 ? 1 : 0;
  } else {
    fill_integers(tensor->view, integer_range(graph, param, dims), stream);
  }
  return tensor;
}

Result<std::vector<HostTensor>> make_inputs(const Graph& graph, const DimBindings& dims, uint64_t seed,
                                            Executor& executor) {
  std::vector<HostTensor> tensors;
  for (const ValueId param : graph.params) {
    auto tensor = make_input(graph, param, dims, seed, executor);
    if (!tensor) return tensor.error();
    tensors.push_back(std::move(*tensor));
  }
  return tensors;
}

Result<std::vector<HostTensor>> make_outputs(const Kernel& kernel, const DimBindings& dims) {
  const auto shapes = kernel.result_shapes(dims);
  if (!shapes) return shapes.error();
  std::vector<HostTensor> tensors;
  for (size_t i = 0; i < shapes->size(); ++i) {
    auto tensor = make_tensor(kernel.graph().type(kernel.graph().results[i]).dtype, (*shapes)[i]);
    if (!tensor) return tensor.error();
    if (tensor->view.data) std::memset(tensor->view.data, 0, static_cast<size_t>(tensor->buffer.bytes()));
    tensors.push_back(std::move(*tensor));
  }
  return tensors;
}

std::vector<TensorView> views(const std::vector<HostTensor>& tensors) {
  std::vector<TensorView> out;
  for (const HostTensor& tensor : tensors) out.push_back(tensor.view);
  return out;
}

}  // namespace tilewright
