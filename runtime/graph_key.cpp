#include "runtime/graph_key.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstring>

namespace tilewright {
namespace {

class Writer {
 public:
  explicit Writer(std::string& out) : out_(out) { out_.clear(); }

  template <class T>
  void raw_value(T value) {
    out_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void text(const std::string& value) {
    raw_value(static_cast<uint32_t>(value.size()));
    out_ += value;
  }
  void dim(const Dim& value) {
    raw_value(value.constant());
    raw_value(static_cast<uint8_t>(value.terms().size()));
    for (const auto& [name, coefficient] : value.terms()) {
      text(name);
      raw_value(coefficient);
    }
  }
  void ids(const std::vector<ValueId>& values) {
    raw_value(static_cast<uint32_t>(values.size()));
    for (const ValueId id : values) raw_value(id);
  }
  void type(const TensorType& value) {
    raw_value(value.dtype);
    raw_value(static_cast<uint8_t>(value.shape.size()));
    for (const Dim& axis : value.shape) dim(axis);
  }
  void attributes(const Attributes& value) {
    static const Attributes kNone;
    if (value == kNone) return raw_value('\0');
    raw_value('\1');
    raw_value(value.axis);
    raw_value(value.keepdims);
    raw_value(static_cast<uint32_t>(value.perm.size()));
    for (const int64_t axis : value.perm) raw_value(axis);
    dim(value.begin);
    dim(value.end);
    raw_value(value.times);
    raw_value(value.left);
    raw_value(value.right);
    raw_value(value.cap);
    raw_value(value.rate);
    raw_value(value.align);
    dim(value.dim);
    raw_value(value.literal.real);
    raw_value(value.literal.integer);
  }

 private:
  std::string& out_;
};

}  // namespace

void serialise_key(const Graph& graph, const CompileOptions& options, uint64_t tuning_generation, std::string& out) {
  Writer writer(out);
  writer.raw_value(options.require_fused);
  writer.raw_value(options.force_generic);
  writer.raw_value(options.verify_modules);
  writer.raw_value(options.materialise);
  writer.raw_value(options.ahead_of_time);
  writer.raw_value(options.tiles.block_q);
  writer.raw_value(options.tiles.block_kv);
  writer.raw_value(options.use_tuning);
  writer.raw_value(tuning_generation);
  writer.raw_value(options.max_isa ? static_cast<int>(*options.max_isa) : -1);
  writer.raw_value(options.precision ? static_cast<int>(*options.precision) : -1);
  writer.raw_value(graph.precision ? static_cast<int>(*graph.precision) : -1);
  writer.text(options.dump_dir);
  writer.text(graph.name);
  for (const Node& node : graph.nodes) {
    writer.raw_value(node.op);
    writer.raw_value(node.inout);
    writer.ids(node.operands);
    writer.attributes(node.attributes);
    writer.type(node.type);
    writer.text(node.name);
  }
  writer.ids(graph.params);
  writer.ids(graph.results);
}

KeyHash hash_key(const std::string& bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return {hash.low64, hash.high64};
}

std::string to_string(const KeyHash& hash) { return fmt::format("{:016x}", hash.low); }

std::string full_hex(const KeyHash& hash) { return fmt::format("{:016x}{:016x}", hash.high, hash.low); }

}  // namespace tilewright
