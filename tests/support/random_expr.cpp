#include "tests/support/random_expr.h"

#include <cstring>

namespace tilewright::testing {

MaskTensors::MaskTensors(std::mt19937_64& random, bool garbage) {
  const auto pick = [&](int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random); };
  const auto tensor = [&](const char* name, DType dtype, std::vector<int64_t> shape, auto value) {
    int64_t count = 1;
    SpecTensor type{name, {dtype, {}}, false};
    for (int64_t extent : shape) {
      count *= extent;
      type.type.shape.push_back(extent);
    }
    std::vector<char> bytes(static_cast<size_t>(count * size_of(dtype)));
    for (int64_t i = 0; i < count; ++i) {
      const int64_t v = value(i);
      std::memcpy(bytes.data() + i * size_of(dtype), &v, static_cast<size_t>(size_of(dtype)));
    }
    types_.push_back(type);
    bytes_.push_back(std::move(bytes));
    views_.push_back(TensorView::contiguous(bytes_.back().data(), dtype, shape));
  };
  int64_t doc = 0;
  tensor("doc", DType::i64, {32}, [&](int64_t) { return doc += pick(0, 5) == 0; });
  tensor("blocks", DType::boolean, {2, 8, 8}, [&](int64_t) { return pick(0, 2) == 0; });
  tensor("length", DType::i32, {2}, [&](int64_t) { return garbage ? pick(INT32_MIN, INT32_MAX) : pick(0, 40); });
  constexpr int64_t kWild[] = {INT64_MAX, INT64_MIN, INT64_MAX - 3, INT64_MIN + 7, -1, int64_t{1} << 62};
  tensor("offset", DType::i64, {2}, [&](int64_t) { return garbage ? kWild[pick(0, 5)] : pick(-8, 16); });
  tensor("dense", DType::boolean, {32, 32}, [&](int64_t) { return pick(0, 1); });
  tensor("label", DType::i8, {32}, [&](int64_t) { return pick(-3, 3); });
}

ExprId RandomExpr::leaf(DType dtype) {
  switch (pick(0, 7)) {
    case 0:
    case 1: return e_.index(Axis::q, dtype);
    case 2:
    case 3: return e_.index(Axis::kv, dtype);
    case 4: return e_.index(pick(0, 1) ? Axis::b : Axis::h, dtype);
    case 5:
      if (dtype == DType::i64) {
        if (pick(0, 1)) return e_.dim(Dim::named("Sk") - Dim::named("Sq"));
        const ExprId position = pick(0, 1) ? e_.index(Axis::q) : integer(1, DType::i64);
        return pick(0, 1) ? e_.load(0, dtype, {position}, false) : e_.load(3, dtype, {e_.index(Axis::b)}, false);
      }
      return e_.load(2, dtype, {e_.index(Axis::b)}, false);
    default: return e_.constant_int(pick(-9, 20), dtype);
  }
}

ExprId RandomExpr::integer(int depth, DType dtype) {
  if (depth <= 0) return leaf(dtype);
  const auto sub = [&] { return integer(depth - 1, dtype); };
  const auto op = [&](Op o, std::vector<ExprId> args) { return e_.op(o, dtype, std::move(args)); };
  switch (pick(0, 15)) {
    case 0:
    case 1: return op(Op::add, {sub(), sub()});
    case 2:
    case 3: return op(Op::sub, {sub(), sub()});
    case 4: return op(Op::mul, {sub(), e_.constant_int(pick(-3, 4), dtype)});
    case 5: return op(Op::div, {sub(), e_.constant_int(pick(0, 1) ? 4 : pick(-2, 9), dtype)});
    case 6: return op(Op::mod, {sub(), e_.constant_int(pick(0, 1) ? 4 : pick(-2, 9), dtype)});
    case 7: return op(pick(0, 1) ? Op::min : Op::max, {sub(), sub()});
    case 8: return op(Op::abs, {sub()});
    case 9: return op(Op::select, {boolean(depth - 1), sub(), sub()});
    case 10: return op(pick(0, 1) ? Op::shr : Op::shl, {sub(), e_.constant_int(pick(0, 4), dtype)});
    case 11: return op(Op::logical_and, {sub(), e_.constant_int(pick(0, 1) ? 7 : pick(-4, 12), dtype)});
    case 12: return op(Op::neg, {sub()});
    case 13: {
      const DType other = dtype == DType::i64 ? DType::i32 : DType::i64;
      return op(Op::cast, {integer(depth - 1, other)});
    }
    case 14: return op(pick(0, 1) ? Op::mul : Op::div, {sub(), sub()});
    default: return leaf(dtype);
  }
}

ExprId RandomExpr::boolean(int depth) {
  const DType dtype = pick(0, 2) ? DType::i64 : DType::i32;
  const auto op = [&](Op o, std::vector<ExprId> args) { return e_.op(o, DType::boolean, std::move(args)); };
  if (depth > 1 && pick(0, 2) == 0) {
    const auto sub = [&] { return boolean(depth - 1); };
    switch (pick(0, 6)) {
      case 0:
      case 1: return op(Op::logical_and, {sub(), sub()});
      case 2: return op(Op::logical_or, {sub(), sub()});
      case 3: return op(Op::logical_xor, {sub(), sub()});
      case 4: return op(Op::logical_not, {sub()});
      case 5: return op(Op::select, {sub(), sub(), sub()});
      default: return op(pick(0, 1) ? Op::eq : Op::ne, {sub(), sub()});
    }
  }
  switch (pick(0, 11)) {
    case 0: {
      const auto block = [&](Axis axis) {
        return e_.op(Op::div, DType::i64, {e_.index(axis), e_.constant_int(4, DType::i64)});
      };
      return e_.load(1, DType::boolean, {e_.index(Axis::h), block(Axis::q), block(Axis::kv)}, false);
    }
    case 1: return e_.load(4, DType::boolean, {e_.index(Axis::q), e_.index(Axis::kv)}, false);
    case 2: {
      const auto label = [&](Axis axis) { return e_.load(5, DType::i8, {e_.index(axis)}, false); };
      return op(Op::eq, {label(Axis::q), label(Axis::kv)});
    }
    default: {
      constexpr Op kCompare[] = {Op::le, Op::lt, Op::ge, Op::gt, Op::eq, Op::ne};
      return op(kCompare[pick(0, 5)], {integer(depth - 1, dtype), integer(depth - 1, dtype)});
    }
  }
}

std::string dump(const Expr& expr) {
  std::string text;
  for (size_t i = 0; i < expr.nodes().size(); ++i) {
    const ExprNode& node = expr.nodes()[i];
    text += fmt::format("{}: {} ", i, to_string(node.dtype));
    switch (node.kind) {
      case ExprKind::op: text += info(node.op).name; break;
      case ExprKind::constant: text += fmt::format("{}", node.literal.integer); break;
      case ExprKind::index: text += to_string(node.axis); break;
      case ExprKind::dim: text += to_string(node.dim); break;
      case ExprKind::load: text += fmt::format("load {}", node.tensor); break;
      case ExprKind::load_min: text += fmt::format("load_min {}", node.tensor); break;
      case ExprKind::load_max: text += fmt::format("load_max {}", node.tensor); break;
      case ExprKind::score: text += "s"; break;
    }
    for (ExprId arg : node.args) text += fmt::format(" {}", raw(arg));
    text += "\n";
  }
  return text;
}

}  // namespace tilewright::testing
