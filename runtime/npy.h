// NumPy's .npy files, versions 1 and 2, little-endian. Files are not trusted: every header field is checked.
#pragma once

#include <string>
#include <vector>

#include "ir/result.h"
#include "ir/tensor_view.h"

namespace tilewright {

/// An array that owns its bytes; view() has NumPy's order as strides.
struct NpyArray {
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
  bool fortran_order = false;
  std::vector<char> bytes;

  TensorView view();
};

/// f64 f32 f16 i64 i32 i8 bool. Errors name the file and what is wrong with it.
Result<NpyArray> read_npy(const std::string& path);
/// bf16 is written as f32, which NumPy can read.
Result<Done> write_npy(const std::string& path, const TensorView& tensor);

/// The same on bytes in memory; `name` is for the messages.
Result<NpyArray> parse_npy(const std::string& name, std::vector<char> file);

}  // namespace tilewright
