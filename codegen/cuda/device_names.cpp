#include "codegen/cuda/device_names.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

#include "codegen/cuda/cuda_source.h"
#include "codegen/cuda/expr_writer.h"
#include "codegen/philox.h"
#include "ir/result.h"

namespace tilewright::cuda {
namespace {

/// `text` as part of an identifier, unlike all of `taken`.
std::string identifier(std::string_view text, const std::vector<std::string>& taken) {
  std::string name = text.empty() || std::isdigit(static_cast<unsigned char>(text[0])) ? "t" : "";
  for (const char c : text) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  const auto clashes = [&](const std::string& candidate) {
    return std::find(taken.begin(), taken.end(), candidate) != taken.end();
  };
  std::string unique = name;
  for (int i = 2; clashes(unique); ++i) unique = fmt::format("{}_{}", name, i);
  return unique;
}

/// "i64 i0, i64 i1", "i0, i1": `rank` of them, each after ", ".
std::string list(std::string_view prefix, int64_t rank) {
  std::string text;
  for (int64_t i = 0; i < rank; ++i) text += fmt::format(", {}{}", prefix, i);
  return text;
}

/// Philox and its constants.
std::string random_text() {
  std::string text;
  const auto constant = [&](std::string_view name, uint32_t value) {
    text += fmt::format("static constexpr u32 {} = {:#x}u;\n", name, value);
  };
  text += fmt::format("static constexpr i32 kPhiloxRounds = {};\n", kPhiloxRounds);
  constant("kPhiloxMultiplier0", kPhiloxMultiplier0);
  constant("kPhiloxMultiplier1", kPhiloxMultiplier1);
  constant("kPhiloxKeyStep0", kPhiloxKeyStep0);
  constant("kPhiloxKeyStep1", kPhiloxKeyStep1);
  return text + std::string(device_file("philox.cuh"));
}

}  // namespace

std::string_view storage_type(DType dtype) {
  switch (dtype) {
    case DType::f64: return "double";
    case DType::f32: return "float";
    case DType::f16: return "F16";
    case DType::bf16: return "BF16";
    case DType::i64: return "i64";
    case DType::i32: return "i32";
    case DType::i8: return "i8";
    case DType::boolean: break;
  }
  return "u8";
}

std::string_view value_type(DType dtype) {
  switch (dtype) {
    case DType::f64: return "double";
    case DType::f32:
    case DType::f16:
    case DType::bf16: return "float";
    case DType::i64: return "i64";
    case DType::i32:
    case DType::i8: return "i32";
    case DType::boolean: break;
  }
  return "bool";
}

std::string constant_line(std::string_view type, std::string_view name, std::string_view value) {
  return fmt::format("  static constexpr {} {} = {};\n", type, name, value);
}

DeviceNames::DeviceNames(const std::vector<SpecTensor>& tensors, const ArgsLayout& layout)
    : spec_tensors_(tensors), layout_(layout) {
  for (const SpecTensor& tensor : tensors) tensors_.push_back(identifier(tensor.name, tensors_));
  for (const std::string& dim : layout.dims) dims_.push_back(identifier(dim, dims_));
}

std::string DeviceNames::dim(const std::string& name) const {
  const auto found = std::find(layout_.dims.begin(), layout_.dims.end(), name);
  TW_CHECK(found != layout_.dims.end());
  return fmt::format("dim_{}(args)", dims_[static_cast<size_t>(found - layout_.dims.begin())]);
}

std::string DeviceNames::stride(int tensor, int axis) const {
  if (in_workspace(tensor)) return fmt::format("stride_{}_{}(args)", this->tensor(tensor), axis);
  return fmt::format("args.meta[kStride_{} + {}]", this->tensor(tensor), axis);
}
std::string DeviceNames::shape(int tensor, int axis) const {
  return fmt::format("args.meta[kShape_{} + {}]", this->tensor(tensor), axis);
}

std::string DeviceNames::base(int tensor) const {
  const SpecTensor& spec = spec_tensors_[static_cast<size_t>(tensor)];
  if (in_workspace(tensor))
    return fmt::format("((const {}*)((const u8*)args.workspace + before_{}(args)))", storage_type(spec.type.dtype),
                       this->tensor(tensor));
  return fmt::format("(({}{}*)args.tensors[kTensor_{}])", spec.output ? "" : "const ", storage_type(spec.type.dtype),
                     this->tensor(tensor));
}

std::string DeviceNames::load(int tensor, bool in_bounds) {
  const Use use{tensor, in_bounds ? Use::plain : Use::clamped};
  uses_.insert({tensor, Use::plain});
  uses_.insert(use);
  return function(use);
}

std::string DeviceNames::extreme(int tensor, bool least) {
  const Use use{tensor, least ? Use::least : Use::greatest};
  uses_.insert({tensor, Use::plain});
  uses_.insert(use);
  return function(use);
}

std::string DeviceNames::function(const Use& use) const {
  const std::string& name = tensor(use.tensor);
  switch (use.kind) {
    case Use::plain: return fmt::format("load_{}", name);
    case Use::clamped: return fmt::format("load_clamped_{}", name);
    case Use::least: return fmt::format("min_of_{}", name);
    case Use::greatest: break;
  }
  return fmt::format("max_of_{}", name);
}

std::string DeviceNames::declaration(const Use& use) const {
  switch (use.kind) {
    case Use::plain: return plain_load(use);
    case Use::clamped: return clamped_load(use);
    default: return box_extreme(use);
  }
}

std::string DeviceNames::plain_load(const Use& use) const {
  const TensorType& type = spec_tensors_[static_cast<size_t>(use.tensor)].type;
  std::string offset;
  for (int axis = 0; axis < type.rank(); ++axis)
    offset += fmt::format("{}i{} * {}", axis ? " + " : "", axis, stride(use.tensor, axis));
  return fmt::format("TW_DEVICE {} {}(const Args& args{}) {{\n  return load_element({} + ({}));\n}}\n",
                     value_type(type.dtype), function(use), list("i64 i", type.rank()), base(use.tensor),
                     offset.empty() ? "0" : offset);
}

std::string DeviceNames::clamped_load(const Use& use) const {
  const TensorType& type = spec_tensors_[static_cast<size_t>(use.tensor)].type;
  std::string body, indices;
  for (int axis = 0; axis < type.rank(); ++axis) {
    body += fmt::format("  if ({} == 0) return 0;\n", shape(use.tensor, axis));
    indices += fmt::format(", clamp_index(i{}, {})", axis, shape(use.tensor, axis));
  }
  return fmt::format("TW_DEVICE {} {}(const Args& args{}) {{\n{}  return {}(args{});\n}}\n", value_type(type.dtype),
                     function(use), list("i64 i", type.rank()), body, function({use.tensor, Use::plain}), indices);
}

std::string DeviceNames::box_extreme(const Use& use) const {
  const TensorType& type = spec_tensors_[static_cast<size_t>(use.tensor)].type;
  const auto rank = static_cast<int>(type.rank());
  const std::string load = function({use.tensor, Use::plain});
  const std::string_view pick = use.kind == Use::least ? "min" : "max";
  const std::string_view family = is_float(type.dtype) ? "real" : "int";
  std::string text = fmt::format("TW_DEVICE {} {}(const Args& args{}{}) {{\n", value_type(type.dtype), function(use),
                                 list("i64 low", rank), list("i64 high", rank));
  std::string begin, carry;
  for (int axis = 0; axis < rank; ++axis) {
    const std::string size = shape(use.tensor, axis);
    text += fmt::format("  if ({} == 0) return 0;\n", size);
    text += fmt::format("  low{0} = clamp_index(low{0}, {1});\n", axis, size);
    text += fmt::format("  const i64 end{0} = int_max(clamp_index(high{0}, {1}), low{0}) + 1;\n", axis, size);
    begin += fmt::format("  i64 i{0} = low{0}{1};\n", axis, axis + 1 == rank ? " + lane_index()" : "");
    if (axis > 0)
      carry = fmt::format("    TW_NO_UNROLL\n    for (; i{0} >= end{0}; i{0} -= end{0} - low{0}) ++i{1};\n", axis,
                          axis - 1) +
              carry;
  }
  text += fmt::format("  {} best = {}(args{});\n", value_type(type.dtype), load, list("low", rank));
  // Lanes walk 32 places at a time and carry over axes: a division of 64 bits is most of a page of machine code.
  if (rank > 0)
    text += fmt::format(
        "{}  TW_NO_UNROLL\n  for (;; i{} += 32) {{\n{}    if (i0 >= end0) break;\n"
        "    best = {}_{}(best, {}(args{}));\n  }}\n",
        begin, rank - 1, carry, family, pick, load, list("i", rank));
  return text + fmt::format("  return warp_{}_{}(best);\n}}\n", family, pick);
}

std::string DeviceNames::workspace_used() const {
  return in_workspace(static_cast<int>(tensors_.size()) - 1) ? fmt::format("after_{}(args)", tensors_.back()) : "0";
}

std::string DeviceNames::workspace_text() const {
  std::string text, end = "0";
  for (size_t i = layout_.stride_offset.size(); i < tensors_.size(); ++i) {
    const TensorType& type = spec_tensors_[i].type;
    text += fmt::format("// {} {}, in the workspace\n", tensors_[i], to_string(type));
    std::string stride = "1";
    const auto function = [&](const std::string& name, const std::string& value) {
      text += fmt::format("TW_DEVICE i64 {}(const Args& args) {{ return {}; }}\n", name, value);
      return name + "(args)";
    };
    for (auto axis = static_cast<int>(type.rank()) - 1; axis >= 0; --axis) {
      const std::string own = function(fmt::format("stride_{}_{}", tensors_[i], axis), stride);
      constexpr int kProduct = 5;
      stride = fmt::format("{} * {}", own, within(write_dim(*this, type.shape[static_cast<size_t>(axis)]), kProduct));
    }
    const std::string before = function("before_" + tensors_[i], end);
    end = function("after_" + tensors_[i], fmt::format("{} + {} * {}", before, stride, size_of(type.dtype)));
  }
  return text;
}

std::string DeviceNames::text() const {
  std::string text;
  if (random_) text += random_text();
  std::string_view separator = "";
  text += "enum {";
  const size_t count = layout_.stride_offset.size();
  for (size_t i = 0; i < count; ++i) {
    text += fmt::format("{} kTensor_{} = {}, kShape_{} = {}, kStride_{} = {}", separator, tensors_[i], i, tensors_[i],
                        layout_.shape_offset[i], tensors_[i], layout_.stride_offset[i]);
    separator = ",\n      ";
  }
  text += " };\n";
  text += fmt::format("struct Args {{\n  void* tensors[{}];\n  i64 meta[{}];\n  void* workspace;\n}};\n", count,
                      std::max<int64_t>(layout_.size, 1));
  for (size_t i = 0; i < dims_.size(); ++i)
    text += fmt::format("TW_DEVICE i32 dim_{}(const Args& args) {{ return i32(args.meta[{}]); }}\n", dims_[i], i);
  text += workspace_text();
  for (const Use& use : uses_)
    text +=
        "\n" +
        fmt::format("// {} {}\n", tensor(use.tensor), to_string(spec_tensors_[static_cast<size_t>(use.tensor)].type)) +
        declaration(use);
  return text;
}

}  // namespace tilewright::cuda
