#include "compiler/sm80_operands.h"

#include <algorithm>

#include "compiler/schedule.h"

namespace tilewright {
namespace {

constexpr int64_t kWidestHead = 256;

DType dtype_of(const AttentionSpec& spec, const Access& access) {
  return spec.tensors[static_cast<size_t>(access.tensor)].type.dtype;
}
const std::string& name_of(const AttentionSpec& spec, const Access& access) {
  return spec.tensors[static_cast<size_t>(access.tensor)].name;
}
bool is_narrow(DType dtype) { return dtype == DType::bf16 || dtype == DType::f16; }

/// Parts of weights that meet 16-bit values: three of them hold an f32.
int64_t weight_parts(const AttentionSpec& spec, DType value) {
  if (spec.weights == value || spec.precision == PrecisionPolicy::bf16) return 1;
  return spec.precision == PrecisionPolicy::f32_x3 ? 2 : 3;
}

}  // namespace

int64_t sm80_products(const AttentionSpec& spec) {
  const bool wide = dtype_of(spec, spec.value) == DType::f32 || dtype_of(spec, spec.dots[0].query) == DType::f32;
  return wide && spec.precision == PrecisionPolicy::f32_x3 ? 3 : 1;
}

Sm80Parts sm80_parts(const AttentionSpec& spec, int64_t products) {
  const int64_t wide = products == 1 ? 1 : products == 3 ? 2 : 3;
  Sm80Parts parts;
  if (dtype_of(spec, spec.dots[0].query) == DType::f32) parts.query = wide;
  const DType value = dtype_of(spec, spec.value);
  parts.value = value == DType::f32 ? wide : 1;
  parts.weight = value == DType::f32 ? wide : weight_parts(spec, value);
  return parts;
}

std::string refuse_sm80_operands(const TileProgram& program) {
  const AttentionSpec& spec = program.spec;
  if (spec.dots.size() != 1) return fmt::format("the score is a sum of {} products", spec.dots.size());
  const DotTerm& dot = spec.dots[0];
  if (dot.query_row || dot.key_row)
    return fmt::format("rows of {} are computed, and this template loads them", dot.query_row ? "Q" : "K");
  if (spec.accumulate != DType::f32) return "tensor cores add in f32, and this accumulates in f64";
  for (const int64_t dim : {dot.head_dim, spec.value_dim})
    if (dim < 1 || dim > kWidestHead) return fmt::format("head dim {} is not between 1 and {}", dim, kWidestHead);

  const DType query = dtype_of(spec, dot.query), key = dtype_of(spec, dot.key), value = dtype_of(spec, spec.value);
  for (const Access* operand : {&dot.query, &dot.key, &spec.value}) {
    const DType dtype = dtype_of(spec, *operand);
    if (dtype == DType::f32 && spec.precision != PrecisionPolicy::f32_x3 && spec.precision != PrecisionPolicy::bf16)
      return fmt::format(
          "%{} is f32, and precision {} asks for FMA or as good, which sums of tensor cores are not known to be; "
          "f32_x3 and bf16 allow parts",
          name_of(spec, *operand), to_string(spec.precision));
    if (dtype != DType::f32 && !is_narrow(dtype))
      return fmt::format("%{} is {}, and tensor cores multiply bf16 and f16 here", name_of(spec, *operand),
                         to_string(dtype));
  }
  if (query != key)
    return fmt::format("%{} is {} and %{} is {}, and a product has operands of one type", name_of(spec, dot.query),
                       to_string(query), name_of(spec, dot.key), to_string(key));
  if (is_narrow(spec.weights) && spec.weights != value)
    return fmt::format("weights are declared {} and meet %{} of {}", to_string(spec.weights), name_of(spec, spec.value),
                       to_string(value));
  if (sm80_parts(spec, sm80_products(spec)).weight > 1 && spec.normaliser == Normaliser::none)
    return "weights without softmax are declared f32 and have any magnitude, so that they may not be taken apart";
  const DType output = dtype_of(spec, spec.output);
  if (output != DType::f32 && !is_narrow(output))
    return fmt::format("the output is {}, and it is written as f32, f16 or bf16", to_string(output));
  if (spec.logsumexp && dtype_of(spec, *spec.logsumexp) != DType::f32)
    return fmt::format("the LSE is {}, and it is written as f32", to_string(dtype_of(spec, *spec.logsumexp)));
  return {};
}

int64_t sm80_columns(int64_t dim) { return round_up(dim, 16); }

int64_t sm80_query_row_bytes(const AttentionSpec& spec, const Sm80Parts& parts) {
  return 2 * parts.query * sm80_columns(spec.dots[0].head_dim);
}

int64_t sm80_key_bytes(const AttentionSpec& spec, const Sm80Parts& parts) {
  return 2 * (parts.query * sm80_columns(spec.dots[0].head_dim) + parts.value * sm80_columns(spec.value_dim));
}

}  // namespace tilewright
