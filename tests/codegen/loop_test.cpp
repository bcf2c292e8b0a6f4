// The unfused path: pointwise maps, copies, reductions and unfused softmax, against plain loops.
#include <cmath>
#include <limits>

#include "tests/codegen/loop_support.h"

namespace tilewright::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::array kFloats = {DType::f64, DType::f32, DType::f16, DType::bf16};
constexpr int64_t kLengths[] = {0, 1, 3, 4, 7, 8, 9, 16, 17, 33};

std::string name_of(DType dtype) { return std::string(to_string(dtype)); }

TEST(LoopPointwise, BroadcastsAnyStrides) {
  std::mt19937_64 random(1);
  for (const CpuTarget& target : runnable_targets())
    for (DType dtype : kFloats) {
      const std::string t = name_of(dtype);
      LoopRunner loop("graph @f(%a: " + t + "[B,1,S], %b: " + t + "[3,S], %c: " + t + "[]) -> " + t +
                          "[B,3,S] {\n  %x = mul %a, %b : " + t + "[B,3,S]\n  %y = sub %x, %c : " + t +
                          "[B,3,S]\n  return %y\n}\n",
                      target, true);
      ASSERT_EQ(loop.program().steps.size(), 1u);
      for (int64_t s : kLengths)
        for (Layout layout : kLayouts) {
          const auto a = random_tensor(dtype, {2, 1, s}, layout, random);
          const auto b = random_tensor(dtype, {3, s}, layout, random);
          const auto c = random_tensor(dtype, {}, layout, random);
          const auto y = loop.run({a, b, c}, layout, random);
          expect_tensor(y[0], 2 * rounding(dtype), t,
                        [&](const Index& i) { return at(a, {i[0], 0, i[2]}) * at(b, {i[1], i[2]}) - at(c, {}); });
        }
    }
}

TEST(LoopPointwise, StoresEveryType) {
  std::mt19937_64 random(2);
  for (const CpuTarget& target : runnable_targets())
    for (DType to :
         {DType::f64, DType::f32, DType::f16, DType::bf16, DType::i64, DType::i32, DType::i8, DType::boolean})
      for (DType from : {DType::f32, DType::f64, DType::i32, DType::i8}) {
        const std::string a = name_of(from), b = name_of(to);
        // To bool goes by comparison, to all others by cast.
        const std::string op = to == DType::boolean ? "gt %a, 0" : "cast %a";
        LoopRunner loop(
            "graph @f(%a: " + a + "[R,S]) -> " + b + "[R,S] {\n  %y = " + op + " : " + b + "[R,S]\n  return %y\n}\n",
            target);
        for (Layout layout : kLayouts) {
          auto x = random_tensor(from, {3, 19}, layout, random);
          if (is_float(from)) {
            x.set(0, 1e30);
            x.set(1, -1e30);
            x.set(2, kNan);
            x.set(3, -2.75);
          }
          const auto y = loop.run({x}, layout, random);
          expect_tensor(y[0], 2 * rounding(to), a + " to " + b, [&](const Index& i) -> double {
            const double v = at(x, i);
            if (to == DType::boolean) return v > 0;
            if (to == DType::f16 && std::abs(v) > 65520) return std::copysign(kInfinity, v);
            if (is_float(to)) return v;
            if (std::isnan(v)) return 0;
            const double top = std::ldexp(1, static_cast<int>(size_of(to)) * 8 - 1);
            return std::clamp(std::trunc(v), -top, to == DType::i64 ? top : top - 1);
          });
        }
      }
}

TEST(LoopPointwise, ScalarsAndViews) {
  std::mt19937_64 random(3);
  for (const CpuTarget& target : runnable_targets()) {
    LoopRunner scalar("graph @f(%a: f32[]) -> f32[] {\n  %y = add %a, 1 : f32[]\n  return %y\n}\n", target);
    const auto a = random_tensor(DType::f32, {}, Layout::contiguous, random);
    EXPECT_EQ(at(scalar.run({a}, Layout::contiguous, random)[0], {}), static_cast<float>(at(a, {})) + 1.0f);

    LoopRunner views(R"(graph @f(%x: f32[B,S,12]) -> f32[B,4,S-2,3] {
  %r = reshape %x                          : f32[B,S,4,3]
  %t = transpose %r, perm=[0,2,1,3]        : f32[B,4,S,3]
  %y = slice %t, axis=2, begin=1, end=S-1  : f32[B,4,S-2,3]
  return %y
})",
                     target);
    for (Layout layout : kLayouts) {
      const auto x = random_tensor(DType::f32, {2, 9, 12}, layout, random);
      const auto y = views.run({x}, layout, random);
      expect_tensor(y[0], 0, "views", [&](const Index& i) { return at(x, {i[0], i[2] + 1, i[1] * 3 + i[3]}); });
    }
  }
}

TEST(LoopPointwise, ConcatWritesSlices) {
  std::mt19937_64 random(4);
  for (const CpuTarget& target : runnable_targets())
    for (DType dtype : {DType::f32, DType::bf16, DType::f64, DType::i8, DType::boolean})
      for (int axis = 0; axis < 3; ++axis) {
        const std::string t = name_of(dtype);
        std::string shapes[4] = {"[2,3,5]", "[2,3,5]", "[2,3,5]", "[2,3,5]"};
        const size_t place = 1 + 2 * static_cast<size_t>(axis);
        shapes[0].replace(place, 1, "A");
        shapes[1].replace(place, 1, "1");
        shapes[2].replace(place, 1, "C");
        shapes[3].replace(place, 1, "A+C+1");
        LoopRunner loop("graph @f(%a: " + t + shapes[0] + ", %b: " + t + shapes[1] + ", %c: " + t + shapes[2] +
                            ") -> " + t + shapes[3] + " {\n  %y = concat %a, %b, %c, axis=" + std::to_string(axis) +
                            " : " + t + shapes[3] + "\n  return %y\n}\n",
                        target);
        for (int64_t first : {0, 1, 6, 20})
          for (Layout layout : kLayouts) {
            Index shape = {2, 3, 5};
            const auto part = [&](int64_t extent) {
              shape[static_cast<size_t>(axis)] = extent;
              return random_tensor(dtype, shape, layout, random);
            };
            const std::vector<TestTensor> parts = {part(first), part(1), part(17)};
            const auto y = loop.run(parts, layout, random);
            expect_tensor(y[0], 0, "concat " + t, [&](Index i) {
              size_t which = 0;
              for (; i[static_cast<size_t>(axis)] >= parts[which].shape()[static_cast<size_t>(axis)]; ++which)
                i[static_cast<size_t>(axis)] -= parts[which].shape()[static_cast<size_t>(axis)];
              return at(parts[which], i);
            });
          }
      }
}

double wrapped(double value, DType dtype) {
  const double span = std::ldexp(1, static_cast<int>(size_of(dtype)) * 8);
  return value - span * std::floor(value / span + 0.5);
}

TEST(LoopReduce, EveryOpTypeAndAxis) {
  std::mt19937_64 random(5);
  const auto check = [&](const std::string& op, DType dtype, int axis, bool keep, const CpuTarget& target) {
    const std::string t = name_of(dtype), shape[3] = {"L,3,5", "3,L,5", "3,5,L"};
    const std::string kept[3] = {"1,3,5", "3,1,5", "3,5,1"}, result = keep ? kept[axis] : "3,5";
    LoopRunner loop("graph @f(%a: " + t + "[" + shape[axis] + "]) -> " + t + "[" + result + "] {\n  %y = " + op +
                        " %a, axis=" + std::to_string(axis) + ", keepdims=" + (keep ? "true" : "false") + " : " + t +
                        "[" + result + "]\n  return %y\n}\n",
                    target);
    for (int64_t length : kLengths) {
      Index in = {3, 5};
      in.insert(in.begin() + axis, length);
      const Layout layout = kLayouts[random() % 4];
      auto a = random_tensor(dtype, in, layout, random);
      if (is_float(dtype) && length > 0) {  // rows with a NaN somewhere, and one with infinities
        a.set(static_cast<int64_t>(random() % static_cast<uint64_t>(a.size())), kNan);
        a.set(static_cast<int64_t>(random() % static_cast<uint64_t>(a.size())), -kInfinity);
      }
      const auto y = loop.run({a}, layout, random);
      expect_tensor(y[0], 20 * rounding(dtype == DType::f64 ? dtype : DType::f32) + rounding(dtype),
                    op + " " + t + fmt::format(" axis {} of length {}", axis, length), [&](Index i) -> double {
                      if (keep) i.erase(i.begin() + axis);
                      i.insert(i.begin() + axis, 0);
                      double sum = 0, low = kInfinity, high = -kInfinity;
                      bool nan = false;
                      if (!is_float(dtype))
                        low = std::ldexp(1, static_cast<int>(size_of(dtype)) * 8 - 1) - 1, high = -low - 1;
                      for (int64_t j = 0; j < length; ++j) {
                        i[static_cast<size_t>(axis)] = j;
                        const double x = at(a, i);
                        nan |= std::isnan(x);
                        sum += x;
                        low = std::min(low, x);
                        high = std::max(high, x);
                      }
                      if (op == "reduce_max") return nan ? kNan : high;
                      if (op == "reduce_min") return nan ? kNan : low;
                      if (op == "reduce_mean") return sum / static_cast<double>(length);
                      return is_float(dtype) ? sum : wrapped(sum, dtype);
                    });
    }
  };
  for (const CpuTarget& target : runnable_targets())
    for (int axis = 0; axis < 3; ++axis)
      for (const char* op : {"reduce_sum", "reduce_max", "reduce_min", "reduce_mean"}) {
        for (DType dtype : kFloats) check(op, dtype, axis, axis != 1, target);
        if (std::string(op) != "reduce_mean")
          for (DType dtype : {DType::i32, DType::i8}) check(op, dtype, axis, axis == 1, target);
      }
}

TEST(LoopReduce, SixtyFourBitSums) {
  std::mt19937_64 random(6);
  for (const CpuTarget& target : runnable_targets()) {
    LoopRunner loop("graph @f(%a: i64[3,L]) -> i64[3,1] {\n  %y = reduce_sum %a, axis=1 : i64[3,1]\n  return %y\n}\n",
                    target);
    const auto a = random_tensor(DType::i64, {3, 21}, Layout::gapped, random);
    const auto y = loop.run({a}, Layout::gapped, random);
    expect_tensor(y[0], 0, "i64", [&](const Index& i) {
      double sum = 0;
      for (int64_t j = 0; j < 21; ++j) sum += at(a, {i[0], j});
      return sum;
    });
  }
}

struct Row {
  double top = -kInfinity, sum = 0;
};

// Semantics 5, 6 and 12: an empty row gives 0 and -inf, a sink joins the sum only.
template <class At>
Row row_of(int64_t length, double sink, const At& element) {
  Row row;
  row.top = sink;
  for (int64_t j = 0; j < length; ++j) row.top = std::max(row.top, element(j));
  if (row.top == -kInfinity) row.top = 0;
  row.sum = std::exp(sink - row.top);
  for (int64_t j = 0; j < length; ++j) row.sum += std::exp(element(j) - row.top);
  return row;
}

TEST(LoopSoftmax, SinksEmptyRowsAndNan) {
  std::mt19937_64 random(7);
  for (const CpuTarget& target : runnable_targets())
    for (DType dtype : kFloats)
      for (int axis : {1, 2})
        for (bool with_sink : {false, true}) {
          const std::string t = name_of(dtype);
          const std::string in = axis == 2 ? t + "[2,4,L]" : t + "[2,L,4]";
          const std::string lse = axis == 2 ? t + "[2,4]" : t + "[2,4]";
          const std::string sink = with_sink ? ", sink=%sink" : "";
          const std::string sink_type = axis == 2 ? "[2,1,1]" : "[1,1,4]", ax = "axis=" + std::to_string(axis);
          LoopRunner loop("graph @f(%a: " + in + (with_sink ? ", %sink: " + t + sink_type : "") + ") -> (" + in + ", " +
                              lse + ") {\n  %p = softmax %a, " + ax + sink + " : " + in + "\n  %l = logsumexp %a, " +
                              ax + ", keepdims=false" + sink + " : " + lse + "\n  return %p, %l\n}\n",
                          target);
          for (int64_t length : kLengths) {
            const Layout layout = kLayouts[random() % 4];
            auto a = random_tensor(dtype, axis == 2 ? Index{2, 4, length} : Index{2, length, 4}, layout, random);
            const auto element = [&](const Index& i, int64_t j) -> double {
              return axis == 2 ? at(a, {i[0], i[1], j}) : at(a, {i[0], j, i[1]});
            };
            const auto place = [&](int64_t b, int64_t row, int64_t j) {
              return flat(a.shape(), axis == 2 ? Index{b, row, j} : Index{b, j, row});
            };
            for (int64_t j = 0; j < length; ++j) a.set(place(0, 1, j), -kInfinity);  // an empty row
            if (length > 0) {
              a.set(place(0, 2, length - 1), kNan);
              a.set(place(1, 0, 0), -kInfinity);
              a.set(place(1, 1, length / 2), kInfinity);
              for (int64_t j = 0; j < length; ++j) a.set(place(1, 2, j), 30000 - static_cast<double>(j) * 16);
            }
            const auto s = random_tensor(dtype, axis == 2 ? Index{2, 1, 1} : Index{1, 1, 4}, layout, random);
            const auto sink_at = [&](const Index& i) {
              return !with_sink ? -kInfinity : axis == 2 ? at(s, {i[0], 0, 0}) : at(s, {0, 0, i[1]});
            };
            const auto y = with_sink ? loop.run({a, s}, layout, random) : loop.run({a}, layout, random);
            const std::string what = fmt::format("{} axis {} length {} sink {}", t, axis, length, with_sink);
            const double tolerance = dtype == DType::f64 ? 1e-14 : 4e-7 + rounding(dtype);
            const auto row = [&](const Index& i) {
              return row_of(length, sink_at(i), [&](int64_t j) { return element(i, j); });
            };
            expect_tensor(y[0], tolerance, "softmax " + what, [&](const Index& i) {
              const Index outer = axis == 2 ? Index{i[0], i[1]} : Index{i[0], i[2]};
              const Row r = row(outer);
              if (r.sum == 0) return 0.0;
              return std::exp(element(outer, axis == 2 ? i[2] : i[1]) - r.top) / r.sum;
            });
            expect_tensor(y[1], tolerance, "logsumexp " + what, [&](const Index& i) {
              const Row r = row(i);
              return r.sum == 0 ? -kInfinity : r.top + std::log(r.sum);
            });
          }
        }
}

}  // namespace
}  // namespace tilewright::testing
