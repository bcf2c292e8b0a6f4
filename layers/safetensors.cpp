#include "layers/safetensors.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/convert.h"

namespace tilewright {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kLargestHeader = 100 << 20;  // as the reference implementation
constexpr const char* kMetadata = "__metadata__";

struct DTypeName {
  DType dtype;
  const char* name;
};
constexpr DTypeName kDTypes[] = {{DType::f64, "F64"},   {DType::f32, "F32"},     {DType::f16, "F16"},
                                 {DType::bf16, "BF16"}, {DType::i64, "I64"},     {DType::i32, "I32"},
                                 {DType::i8, "I8"},     {DType::boolean, "BOOL"}};

uint64_t read_length(const char* bytes) {
  uint64_t value = 0;
  for (int i = 7; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

/// Names are printed in messages: cut, and without control characters.
std::string shown(const std::string& name) {
  std::string out = "'";
  for (const char c : name.substr(0, 80)) out += static_cast<unsigned char>(c) < 32 ? '?' : c;
  return out + (name.size() > 80 ? "…'" : "'");
}

class Parser {
 public:
  Parser(const std::string& file, std::vector<char> bytes) : file_(file), bytes_(std::move(bytes)) {}

  Result<Safetensors> parse() {
    const auto size = static_cast<int64_t>(bytes_.size());
    if (size < 8) return wrong("has {} bytes; the header's length alone takes 8", size);
    const uint64_t declared = read_length(bytes_.data());
    if (declared > static_cast<uint64_t>(kLargestHeader))
      return wrong("declares a header of {} bytes, over the limit of {}", declared, kLargestHeader);
    const auto length = static_cast<int64_t>(declared);
    if (length > size - 8) return wrong("declares a header of {} bytes, but {} follow", length, size - 8);
    const char* text = bytes_.data() + 8;
    if (length == 0 || *text != '{') return wrong("has a header that does not begin with '{{'");

    Json header = parse_json(text, text + length);
    if (duplicate_) return wrong("names {} twice in its header", shown(*duplicate_));
    if (header.is_discarded()) return wrong("has a header that is no JSON");
    if (!header.is_object()) return wrong("has a header that is no JSON object");
    data_size_ = size - 8 - length;
    for (const auto& [name, value] : header.items())
      if (auto ok = name == kMetadata ? metadata(value) : entry(name, value); !ok) return ok.error();
    if (auto ok = check_ranges(); !ok) return ok.error();
    place(bytes_.data() + 8 + length);
    return std::move(out_);
  }

 private:
  template <class... Args>
  Diagnostic wrong(fmt::format_string<Args...> text, Args&&... args) const {
    return invalid("{} {}", file_, fmt::format(text, std::forward<Args>(args)...));
  }

  /// Discarded when it is no JSON. A key that an object holds twice is remembered: the library would drop the first.
  Json parse_json(const char* begin, const char* end) {
    std::vector<std::set<std::string>> open;
    const auto watch = [&](int, Json::parse_event_t event, Json& value) {
      if (event == Json::parse_event_t::object_start) open.emplace_back();
      if (event == Json::parse_event_t::object_end && !open.empty()) open.pop_back();
      if (event == Json::parse_event_t::key && !open.empty() && !duplicate_) {
        const auto& key = value.get_ref<const std::string&>();
        if (!open.back().insert(key).second) duplicate_ = key;
      }
      return true;
    };
    return Json::parse(begin, end, watch, false);
  }

  Result<Done> metadata(const Json& value) {
    if (!value.is_object()) return wrong("has {} that is no object", kMetadata);
    for (const auto& [key, text] : value.items()) {
      if (!text.is_string()) return wrong("has {} whose {} is no string", kMetadata, shown(key));
      out_.metadata[key] = text.get<std::string>();
    }
    return Done{};
  }

  static bool size_of_field(const Json& value, int64_t& out) {
    if (!value.is_number_unsigned()) return false;
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return false;
    out = static_cast<int64_t>(number);
    return true;
  }

  Result<Done> entry(const std::string& name, const Json& value) {
    const std::string who = shown(name);
    for (const char* field : {"dtype", "shape", "data_offsets"})
      if (!value.is_object() || !value.contains(field)) return wrong("gives tensor {} no {}", who, field);
    if (value.size() != 3)
      return wrong("gives tensor {} {} fields instead of dtype, shape, data_offsets", who, value.size());
    const Json &dtype = value["dtype"], &shape = value["shape"], &offsets = value["data_offsets"];

    SafetensorsEntry entry;
    if (!dtype.is_string()) return wrong("gives tensor {} a dtype that is no string", who);
    const auto& spelled = dtype.get_ref<const std::string&>();
    const auto* known =
        std::find_if(std::begin(kDTypes), std::end(kDTypes), [&](const DTypeName& d) { return spelled == d.name; });
    if (known == std::end(kDTypes))
      return unsupported("{} gives tensor {} the dtype {}; F64, F32, F16, BF16, I64, I32, I8 and BOOL are read", file_,
                         who, shown(spelled));
    entry.dtype = known->dtype;

    if (!shape.is_array()) return wrong("gives tensor {} a shape that is no list", who);
    if (shape.size() > kMaxRank)
      return unsupported("{} gives tensor {} {} axes; {} are supported", file_, who, shape.size(), kMaxRank);
    int64_t bytes = size_of(entry.dtype);
    bool overflow = false, empty = false;
    for (const Json& axis : shape) {
      int64_t size = 0;
      if (!size_of_field(axis, size)) return wrong("gives tensor {} a shape with an axis that is no size", who);
      entry.shape.push_back(size);
      empty |= size == 0;
      if (size != 0) overflow |= __builtin_mul_overflow(bytes, size, &bytes);
    }
    if (overflow) return wrong("gives tensor {} a shape whose size overflows", who);
    if (empty) bytes = 0;

    if (!offsets.is_array() || offsets.size() != 2 || !size_of_field(offsets[0], entry.begin) ||
        !size_of_field(offsets[1], entry.end))
      return wrong("gives tensor {} data_offsets that are no pair of positions", who);
    if (entry.begin > entry.end || entry.end > data_size_)
      return wrong("places tensor {} at bytes {} to {} of {} bytes of data", who, entry.begin, entry.end, data_size_);
    if (entry.end - entry.begin != bytes)
      return wrong("places tensor {} at bytes {} to {}, which is {} bytes, but {}[{}] takes {}", who, entry.begin,
                   entry.end, entry.end - entry.begin, spelled, fmt::join(entry.shape, ","), bytes);
    out_.entries.emplace(name, std::move(entry));
    return Done{};
  }

  /// Every byte of the data belongs to exactly one tensor.
  Result<Done> check_ranges() const {
    std::vector<const std::pair<const std::string, SafetensorsEntry>*> order;
    for (const auto& item : out_.entries) order.push_back(&item);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
      return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
    });
    int64_t at = 0;
    const std::string* before = nullptr;
    for (const auto* item : order) {
      const SafetensorsEntry& entry = item->second;
      if (entry.begin < at)
        return wrong("has tensor {} overlap tensor {}: it begins at byte {}, before byte {}", shown(item->first),
                     shown(*before), entry.begin, at);
      if (entry.begin > at) return wrong("has bytes {} to {} of its data belong to no tensor", at, entry.begin);
      at = entry.end;
      before = &item->first;
    }
    if (at != data_size_) return wrong("has {} bytes of data, but its tensors end at byte {}", data_size_, at);
    return Done{};
  }

  /// Files need not align their tensors; views must be.
  void place(const char* file_data) {
    int64_t size = 0;
    for (auto& [name, entry] : out_.entries) {
      const int64_t unit = size_of(entry.dtype), bytes = entry.end - entry.begin;
      const char* source = file_data + entry.begin;
      entry.begin = (size + unit - 1) / unit * unit;
      entry.end = size = entry.begin + bytes;
      out_.data.resize(static_cast<size_t>(size));
      std::copy_n(source, bytes, out_.data.data() + entry.begin);
    }
  }

  std::string file_;
  std::vector<char> bytes_;
  std::optional<std::string> duplicate_;
  int64_t data_size_ = 0;
  Safetensors out_;
};

Diagnostic io_error(const std::string& what, const std::string& path) {
  return {ErrorKind::io, fmt::format("cannot {} {}", what, path), {}, 0};
}

}  // namespace

TensorView Safetensors::view(const SafetensorsEntry& entry) {
  return TensorView::contiguous(data.data() + entry.begin, entry.dtype, entry.shape);
}

Result<Safetensors> parse_safetensors(const std::string& name, std::vector<char> file) {
  return Parser(name, std::move(file)).parse();
}

Result<Safetensors> read_safetensors(const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return io_error("open", path);
  const std::streamoff size = file.tellg();
  if (size < 0) return io_error("read", path);
  std::vector<char> bytes(static_cast<size_t>(size));
  file.seekg(0);
  if (!file.read(bytes.data(), size)) return io_error("read", path);
  return parse_safetensors(path, std::move(bytes));
}

Result<std::vector<char>> format_safetensors(const std::vector<NamedTensor>& tensors,
                                             const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header[kMetadata] = metadata;
  std::vector<NamedTensor> order = tensors;
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor& a, const NamedTensor& b) {
    return size_of(a.view.dtype) > size_of(b.view.dtype);
  });
  int64_t at = 0;
  for (const NamedTensor& tensor : order) {
    if (tensor.name.empty() || tensor.name == kMetadata)
      return invalid("a tensor cannot be named {}", shown(tensor.name));
    if (header.contains(tensor.name)) return invalid("two tensors are named {}", shown(tensor.name));
    const auto* dtype = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                     [&](const DTypeName& d) { return d.dtype == tensor.view.dtype; });
    const int64_t end = at + tensor.view.element_count() * size_of(tensor.view.dtype);
    header[tensor.name] = {
        {"dtype", dtype->name},
        {"shape", std::vector(tensor.view.shape.begin(), tensor.view.shape.begin() + tensor.view.rank)},
        {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data is 8-byte aligned in the file

  std::vector<char> out(8 + text.size() + static_cast<size_t>(at));
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>(static_cast<uint64_t>(text.size()) >> (8 * i) & 255);
  std::memcpy(out.data() + 8, text.data(), text.size());
  char* data = out.data() + 8 + text.size();
  for (const NamedTensor& tensor : order) {
    const TensorView& view = tensor.view;
    const std::vector<int64_t> shape(view.shape.begin(), view.shape.begin() + view.rank);
    convert(view, TensorView::contiguous(data, view.dtype, shape));
    data += view.element_count() * size_of(view.dtype);
  }
  return out;
}

Result<Done> write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                               const std::map<std::string, std::string>& metadata) {
  auto bytes = format_safetensors(tensors, metadata);
  if (!bytes) return bytes.error();
  const std::string beside = path + ".part";
  std::ofstream file(beside, std::ios::binary);
  file.write(bytes->data(), static_cast<std::streamsize>(bytes->size()));
  file.close();
  std::error_code error;
  if (file) std::filesystem::rename(beside, path, error);
  if (!file || error) {
    std::filesystem::remove(beside, error);
    return io_error("write", path);
  }
  return Done{};
}

}  // namespace tilewright
