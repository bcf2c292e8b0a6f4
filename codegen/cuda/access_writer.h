// Accesses as CUDA text: addresses of rows and strides.
#pragma once

#include <string>

#include "codegen/cuda/expr_writer.h"
#include "ir/score_space.h"

namespace tilewright::cuda {

/// The body of a function that returns an element's address; of element d = 0 of a row where `axes` has no d.
std::string write_row_address(DeviceNames& names, const AxisNames& axes, const Access& access);
/// The stride of `axis` (d, q or kv) in elements, an i64.
std::string write_access_stride(const DeviceNames& names, const Access& access, Axis axis);

/// `expr` with a constant in the place of an axis, simplified.
Expr with_axis(const Expr& expr, Axis axis, int64_t value);

}  // namespace tilewright::cuda
