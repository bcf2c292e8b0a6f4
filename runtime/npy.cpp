#include "runtime/npy.h"

#include <cstring>
#include <fstream>
#include <optional>
#include <string_view>

#include "runtime/convert.h"

namespace tilewright {
namespace {

constexpr std::string_view kNpyMagic = "\x93NUMPY";

std::string_view descriptor(DType dtype) {
  switch (dtype) {
    case DType::f64: return "<f8";
    case DType::f32:
    case DType::bf16: return "<f4";
    case DType::f16: return "<f2";
    case DType::i64: return "<i8";
    case DType::i32: return "<i4";
    case DType::i8: return "|i1";
    case DType::boolean: return "|b1";
  }
  TW_CHECK(false);
}

std::optional<DType> dtype_of(std::string_view text) {
  for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::i64, DType::i32, DType::i8, DType::boolean})
    if (text == descriptor(dtype)) return dtype;
  if (text == "<i1" || text == "i1") return DType::i8;
  if (text == "<b1" || text == "?") return DType::boolean;
  return std::nullopt;
}

Diagnostic broken(const std::string& name, std::string what) {
  return {ErrorKind::invalid, fmt::format("{} {}", name, what), {}, 0};
}

/// The header is a Python dict literal with three known keys.
class HeaderParser {
 public:
  HeaderParser(const std::string& name, std::string_view text) : name_(name), text_(text) {}

  Result<NpyArray> parse() {
    if (!take('{')) return bad();
    while (!take('}')) {
      const auto key = quoted();
      if (!key || !take(':')) return bad();
      if (*key == "descr" && !seen_descr_) {
        const auto value = quoted();
        if (!value) return broken(name_, "has a structured dtype; plain numbers are needed");
        const auto dtype = dtype_of(*value);
        if (!dtype)
          return broken(name_,
                        fmt::format("has dtype '{}'; f8 f4 f2 i8 i4 i1 (little-endian) and bool can be read", *value));
        array_.dtype = *dtype;
        seen_descr_ = true;
      } else if (*key == "fortran_order" && !seen_order_) {
        if (take_word("True"))
          array_.fortran_order = true;
        else if (!take_word("False"))
          return bad();
        seen_order_ = true;
      } else if (*key == "shape" && !seen_shape_) {
        if (!shape()) return bad();
        seen_shape_ = true;
      } else {
        return broken(name_, fmt::format("has the unexpected header key '{}'", *key));
      }
      if (!take(',') && peek() != '}') return bad();
    }
    if (!seen_descr_) return broken(name_, "has no dtype ('descr') in its header");
    if (!seen_order_) return broken(name_, "has no 'fortran_order' in its header");
    if (!seen_shape_) return broken(name_, "has no 'shape' in its header");
    return std::move(array_);
  }

 private:
  Diagnostic bad() const {
    return broken(name_, fmt::format("has a header that is no array description (at character {})", at_));
  }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  char peek() {
    skip_space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool take(char c) {
    if (peek() != c) return false;
    ++at_;
    return true;
  }
  bool take_word(std::string_view word) {
    skip_space();
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  std::optional<std::string> quoted() {
    const char quote = peek();
    if (quote != '\'' && quote != '"') return std::nullopt;
    const size_t end = text_.find(quote, at_ + 1);
    if (end == std::string_view::npos) return std::nullopt;
    std::string out(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return out;
  }
  bool shape() {
    if (!take('(')) return false;
    while (!take(')')) {
      int64_t size = 0;
      if (peek() < '0' || peek() > '9') return false;
      for (; at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_)
        if (__builtin_mul_overflow(size, int64_t{10}, &size) || __builtin_add_overflow(size, text_[at_] - '0', &size))
          return false;
      array_.shape.push_back(size);
      if (!take(',') && peek() != ')') return false;
    }
    return true;
  }

  const std::string& name_;
  std::string_view text_;
  size_t at_ = 0;
  NpyArray array_;
  bool seen_descr_ = false, seen_order_ = false, seen_shape_ = false;
};

}  // namespace

TensorView NpyArray::view() {
  TensorView out = TensorView::contiguous(bytes.data(), dtype, shape);
  if (!fortran_order) return out;
  int64_t stride = 1;
  for (int i = 0; i < out.rank; ++i) {
    out.strides[i] = stride;
    stride *= out.shape[i];
  }
  return out;
}

Result<NpyArray> parse_npy(const std::string& name, std::vector<char> file) {
  if (file.size() < 10 || std::string_view(file.data(), 6) != kNpyMagic)
    return broken(name, "is no NPY file: it does not start with \\x93NUMPY");
  const int version = static_cast<unsigned char>(file[6]);
  if (version != 1 && version != 2) return broken(name, fmt::format("is NPY version {}; 1 and 2 can be read", version));
  const size_t start = version == 1 ? 10 : 12;
  size_t length = 0;
  for (size_t i = start; i-- > 8 && i < file.size();) length = length << 8 | static_cast<unsigned char>(file[i]);
  if (file.size() < start || length > file.size() - start)
    return broken(name, fmt::format("is truncated: its header should have {} bytes, {} are there", length,
                                    file.size() - std::min(file.size(), start)));
  auto array = HeaderParser(name, std::string_view(file.data() + start, length)).parse();
  if (!array) return array;
  if (array->shape.size() > kMaxRank)
    return broken(name, fmt::format("has rank {}; at most {} is supported", array->shape.size(), kMaxRank));
  int64_t needed = size_of(array->dtype);
  bool overflow = false, empty = false;
  for (const int64_t size : array->shape) {
    overflow |= __builtin_mul_overflow(needed, std::max<int64_t>(size, 1), &needed);
    empty |= size == 0;
  }
  if (empty) needed = 0;
  if (overflow && !empty) return broken(name, "has a shape whose size in bytes overflows 64 bits");
  const auto there = static_cast<int64_t>(file.size() - start - length);
  if (there != needed)
    return broken(name, fmt::format("is {}: its shape needs {} bytes of data, {} are there",
                                    there < needed ? "truncated" : "too long", needed, there));
  file.erase(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(start + length));
  array->bytes = std::move(file);
  return array;
}

Result<NpyArray> read_npy(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  if (size < 0 || size == std::numeric_limits<std::streamoff>::max())
    return Diagnostic{ErrorKind::io, fmt::format("cannot read {}", path), {}, 0};
  std::vector<char> bytes(static_cast<size_t>(size));
  file.seekg(0);
  if (size > 0 && !file.read(bytes.data(), size))
    return Diagnostic{ErrorKind::io, fmt::format("cannot read {}", path), {}, 0};
  return parse_npy(path, std::move(bytes));
}

Result<Done> write_npy(const std::string& path, const TensorView& tensor) {
  const DType dtype = tensor.dtype == DType::bf16 ? DType::f32 : tensor.dtype;
  const std::vector<int64_t> shape(tensor.shape.begin(), tensor.shape.begin() + tensor.rank);
  std::string sizes;
  for (const int64_t size : shape) sizes += fmt::format("{}, ", size);
  if (shape.size() > 1) sizes.resize(sizes.size() - 2);
  std::string header =
      fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descriptor(dtype), sizes);
  header += std::string(63 - (10 + header.size()) % 64, ' ') + "\n";
  std::vector<char> data(static_cast<size_t>(tensor.element_count() * size_of(dtype)));
  convert(tensor, TensorView::contiguous(data.data(), dtype, shape));
  std::ofstream file(path, std::ios::binary);
  file << kNpyMagic << '\x01' << '\0' << static_cast<char>(header.size() & 255) << static_cast<char>(header.size() >> 8)
       << header;
  file.write(data.data(), static_cast<std::streamsize>(data.size()));
  file.close();
  if (!file) return Diagnostic{ErrorKind::io, fmt::format("cannot write {}", path), {}, 0};
  return Done{};
}

}  // namespace tilewright
