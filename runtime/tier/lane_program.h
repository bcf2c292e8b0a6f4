// LaneProgram: an Expr as instructions over registers of 64 lanes, for the ahead-of-time tier. PointwiseWalker writes
// it (what an op means and when it may be hoisted is its business), isa_ops executes it.
//
//   once   what depends on constants and dims alone       16 equal lanes, spread to 64 where `lanes` reads it
//   row    what depends on axes but the varying one       likewise
//   lanes  the rest, for positions first … first + 63     64 lanes
//
// A register is 512 bytes: 64 floats, doubles or int64 (integers of every width and bools), by the node's type. Those
// of `lanes` are reused after their last reader, so that common expressions stay in L1.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "codegen/kernel_abi.h"
#include "runtime/launch_expr.h"

namespace tilewright::tier {

constexpr int64_t kLanes = 64;
constexpr int64_t kEqualLanes = 16;  ///< of instructions whose lanes are all the same: a vector of any type
constexpr int64_t kRegisterBytes = kLanes * 8;

/// What a register holds.
enum class Lane : uint8_t { f32, f64, integer };
constexpr Lane lane_of(DType dtype) {
  return !is_float(dtype) ? Lane::integer : dtype == DType::f64 ? Lane::f64 : Lane::f32;
}

enum class InstrKind : uint8_t {
  constant,
  dim,
  axis,      ///< value of an axis that is set
  position,  ///< first + lane
  product,   ///< the caller's lanes: s or t
  load,
  load_extreme,  ///< over a box; all lanes equal
  real,
  integer,
  compare,  ///< of `from`
  select,
  convert,  ///< of `from`
  random
};

/// args and dst are registers.
struct Instr {
  InstrKind kind = InstrKind::constant;
  Op op = Op::constant;
  DType dtype = DType::f32, from = DType::f32;  ///< of the result, of the first operand; of the tensor in loads
  bool in_bounds = false;
  bool least = false;  ///< load_extreme
  int dst = 0;
  int count = 0;                  ///< arguments
  std::array<int, 2 * 8> args{};  ///< load_extreme: low corners, then high ones
  uint32_t equal_args = 0;        ///< load: bit i, all lanes of argument i are the same
  Scalar literal;                 ///< constant
  DimFormula dim;                 ///< over KernelArgs::meta
  Axis axis = Axis::b;
  int product = 0;
  int tensor = -1;
  int64_t shape_at = 0, stride_at = 0;  ///< of the tensor in KernelArgs::meta
};

/// What an execution reads besides registers.
struct LaneContext {
  const KernelArgs* args = nullptr;
  std::array<int64_t, 12> axes{};            ///< by Axis
  int64_t first = 0;                         ///< position of lane 0
  int64_t active = kLanes;                   ///< lanes beyond touch no memory; their results are unspecified
  std::array<const void*, 2> products = {};  ///< 64 lanes each, of the score's type

  int64_t& axis(Axis which) { return axes[static_cast<size_t>(which)]; }
};

struct LaneProgram {
  LaneProgram() = default;
  /// `roots` of one DAG; lanes run along `vary`.
  LaneProgram(const Expr& expr, const std::vector<ExprId>& roots, Axis vary, const std::vector<SpecTensor>& tensors,
              const ArgsLayout& layout);
  LaneProgram(const Expr& expr, Axis vary, const std::vector<SpecTensor>& tensors, const ArgsLayout& layout)
      : LaneProgram(expr, {expr.root()}, vary, tensors, layout) {}

  int64_t bytes() const { return registers * kRegisterBytes; }  ///< of its registers

  struct Root {
    int reg = 0;
    Lane lane = Lane::f32;
    bool equal = false;  ///< known after `row`
  };
  std::vector<Instr> once, row, lanes;
  std::vector<int> spread_once, spread_row;  ///< registers that `lanes` reads or that are roots
  std::vector<Root> roots;
  int64_t registers = 0;
};

}  // namespace tilewright::tier
