// Safetensors files: u64 header length, a JSON header {name: {dtype, shape, data_offsets}}, then the tensors' bytes.
// Format: github.com/huggingface/safetensors. Files are not trusted: every field is checked before it is used.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "ir/result.h"
#include "ir/tensor_view.h"

namespace tilewright {

struct SafetensorsEntry {
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  int64_t begin = 0, end = 0;  ///< bytes within `data`
};

/// A file in memory; the views point into it.
class Safetensors {
 public:
  std::map<std::string, SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;  ///< "__metadata__"
  std::vector<char> data;                       ///< each tensor aligned to its elements, wherever it lay in the file

  /// Row-major. `entry` is one of this file's.
  TensorView view(const SafetensorsEntry& entry);
};

/// F64 F32 F16 BF16 I64 I32 I8 BOOL; other dtypes are unsupported. Errors name the file, the tensor and both sides of
/// what does not fit: the header's length against the file's, dtype and shape against the byte range, ranges against
/// each other and against the data (every byte belongs to exactly one tensor), names given twice, JSON that is none.
Result<Safetensors> parse_safetensors(const std::string& name, std::vector<char> file);
Result<Safetensors> read_safetensors(const std::string& path);

struct NamedTensor {
  std::string name;
  TensorView view;  ///< of rank 0 to kMaxRank, any strides
};
/// The bytes of a file; tensors lie in the order given, those of the largest elements first, so that all are aligned.
/// Errors: a name that is empty, reserved or given twice.
Result<std::vector<char>> format_safetensors(const std::vector<NamedTensor>& tensors,
                                             const std::map<std::string, std::string>& metadata = {});
/// Writes a new file beside `path` and moves it there, so that a failure leaves the old one as it was.
Result<Done> write_safetensors(const std::string& path, const std::vector<NamedTensor>& tensors,
                               const std::map<std::string, std::string>& metadata = {});

}  // namespace tilewright
