// Instructions of lane programs. Floats run on Highway's vectors; integers, comparisons and conversions are plain loops
// over lanes, which the compiler vectorises for the target.
#include "runtime/tier/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/tier/lane_ops.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "codegen/philox.h"
#include "runtime/integer_ops.h"
#include "runtime/tier/formulas.h"
#include "runtime/tier/isa_ops.h"
#include "runtime/tier/lane_loads.h"

#if TILEWRIGHT_TIER_TARGET
HWY_BEFORE_NAMESPACE();
namespace tilewright::tier::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

class Machine {
 public:
  Machine(const LaneContext& context, std::byte* registers, int64_t lanes)
      : context_(context), registers_(registers), lanes_(lanes) {}

  void run(const Instr& instr) {
    switch (instr.kind) {
      case InstrKind::constant: return constant(instr);
      case InstrKind::dim: return fill_integers(instr, instr.dim.evaluate(meta()));
      case InstrKind::axis:
        return fill_integers(instr, wrap_integer(context_.axes[static_cast<size_t>(instr.axis)], instr.dtype));
      case InstrKind::position: return position(instr);
      case InstrKind::product: return product(instr);
      case InstrKind::load: return load(instr);
      case InstrKind::load_extreme: {
        load_extreme(instr, context_, registers_);
        return spread_first(instr);
      }
      case InstrKind::real: return lane_of(instr.dtype) == Lane::f32 ? real<float>(instr) : real<double>(instr);
      case InstrKind::integer: return integer(instr);
      case InstrKind::compare: return compare_any(instr);
      case InstrKind::select:
        switch (lane_of(instr.dtype)) {
          case Lane::f32: return select<float>(instr);
          case Lane::f64: return select<double>(instr);
          case Lane::integer: return select<int64_t>(instr);
        }
        return;
      case InstrKind::convert: return convert_any(instr);
      case InstrKind::random: return random(instr);
    }
  }

 private:
  std::span<const int64_t> meta() const { return {context_.args->meta, SIZE_MAX / 16}; }
  template <class T>
  T* at(int reg) const {
    return reinterpret_cast<T*>(registers_ + reg * kRegisterBytes);
  }
  template <class T>
  T* dst(const Instr& instr) const {
    return at<T>(instr.dst);
  }
  template <class T>
  const T* arg(const Instr& instr, size_t i) const {
    return at<T>(instr.args[i]);
  }
  template <class T>
  void fill(T* to, T value) const {
    for (int64_t i = 0; i < lanes_; ++i) to[i] = value;
  }
  void fill_integers(const Instr& instr, int64_t value) const { fill(dst<int64_t>(instr), value); }

  void spread_first(const Instr& instr) const {
    switch (lane_of(instr.from)) {
      case Lane::f32: return fill(dst<float>(instr), dst<float>(instr)[0]);
      case Lane::f64: return fill(dst<double>(instr), dst<double>(instr)[0]);
      case Lane::integer: return fill(dst<int64_t>(instr), dst<int64_t>(instr)[0]);
    }
  }

  void constant(const Instr& instr) {
    switch (lane_of(instr.dtype)) {
      case Lane::f32: return fill(dst<float>(instr), static_cast<float>(instr.literal.real));
      case Lane::f64: return fill(dst<double>(instr), instr.literal.real);
      case Lane::integer: return fill_integers(instr, wrap_integer(instr.literal.integer, instr.dtype));
    }
  }
  void position(const Instr& instr) {
    auto* to = dst<int64_t>(instr);
    for (int64_t i = 0; i < lanes_; ++i) to[i] = context_.first + i;
    narrow(instr.dtype, to);
  }
  void product(const Instr& instr) {
    const size_t bytes = static_cast<size_t>(lanes_) * (lane_of(instr.dtype) == Lane::f32 ? 4 : 8);
    std::memcpy(dst<std::byte>(instr), context_.products[static_cast<size_t>(instr.product)], bytes);
  }
  void narrow(DType dtype, int64_t* values) const {
    if (dtype == DType::i32)
      for (int64_t i = 0; i < lanes_; ++i) values[i] = static_cast<int32_t>(values[i]);
    if (dtype == DType::i8)
      for (int64_t i = 0; i < lanes_; ++i) values[i] = static_cast<int8_t>(values[i]);
  }

  template <class T, class F>
  void map(const Instr& instr, const F& f) const {
    const hn::ScalableTag<T> d;
    const T *a = arg<T>(instr, 0), *b = arg<T>(instr, instr.count > 1 ? 1 : 0);
    T* to = dst<T>(instr);
    for (int64_t i = 0; i < lanes_; i += HWY_LANES(T)) hn::Store(f(hn::Load(d, a + i), hn::Load(d, b + i)), d, to + i);
  }

  template <class T>
  void real(const Instr& instr) const {
    const hn::ScalableTag<T> d;
    using V = hn::Vec<decltype(d)>;
    const Formula<decltype(d)> v;
    // A NaN on either side stays.
    const auto extreme = [&](V x, V y, auto better) {
      return hn::IfThenElse(hn::IsNaN(x), x, hn::IfThenElse(better, x, y));
    };
    switch (instr.op) {
      case Op::add: return map<T>(instr, [](V x, V y) { return hn::Add(x, y); });
      case Op::sub: return map<T>(instr, [](V x, V y) { return hn::Sub(x, y); });
      case Op::mul: return map<T>(instr, [](V x, V y) { return hn::Mul(x, y); });
      case Op::div: return map<T>(instr, [](V x, V y) { return hn::Div(x, y); });
      case Op::mod: return map<T>(instr, [](V x, V y) { return hn::NegMulAdd(hn::Floor(hn::Div(x, y)), y, x); });
      case Op::min: return map<T>(instr, [&](V x, V y) { return extreme(x, y, hn::Lt(x, y)); });
      case Op::max: return map<T>(instr, [&](V x, V y) { return extreme(x, y, hn::Gt(x, y)); });
      case Op::neg: return map<T>(instr, [](V x, V) { return hn::Neg(x); });
      case Op::abs: return map<T>(instr, [](V x, V) { return hn::Abs(x); });
      case Op::exp: return map<T>(instr, [&](V x, V) { return elementary::exp(v, x); });
      case Op::exp2: return map<T>(instr, [&](V x, V) { return elementary::exp2(v, x); });
      case Op::log: return map<T>(instr, [&](V x, V) { return elementary::log(v, x); });
      case Op::tanh: return map<T>(instr, [&](V x, V) { return elementary::tanh(v, x); });
      case Op::sigmoid: return map<T>(instr, [&](V x, V) { return elementary::sigmoid(v, x); });
      case Op::erf: return map<T>(instr, [&](V x, V) { return elementary::erf(v, x); });
      case Op::sqrt: return map<T>(instr, [](V x, V) { return hn::Sqrt(x); });
      case Op::rsqrt: return map<T>(instr, [&](V x, V) { return hn::Div(v.c(1), hn::Sqrt(x)); });
      case Op::floor: return map<T>(instr, [](V x, V) { return hn::Floor(x); });
      default: TW_CHECK(!"a float op");
    }
  }

  void integer(const Instr& instr) const {
    const int64_t *a = arg<int64_t>(instr, 0), *b = arg<int64_t>(instr, instr.count > 1 ? 1 : 0);
    auto* to = dst<int64_t>(instr);
    const DType dtype = instr.dtype;
    // The op is a constant in each loop, so that each is a loop of its own.
#define TILEWRIGHT_LOOP(name)                                                                        \
  case Op::name:                                                                                     \
    for (int64_t i = 0; i < lanes_; ++i) to[i] = apply_integer(Op::name, DType::i64, a[i], b[i], 0); \
    break
    switch (instr.op) {
      TILEWRIGHT_LOOP(add);
      TILEWRIGHT_LOOP(sub);
      TILEWRIGHT_LOOP(mul);
      TILEWRIGHT_LOOP(min);
      TILEWRIGHT_LOOP(max);
      TILEWRIGHT_LOOP(logical_and);
      TILEWRIGHT_LOOP(logical_or);
      TILEWRIGHT_LOOP(logical_xor);
      TILEWRIGHT_LOOP(neg);
      TILEWRIGHT_LOOP(abs);
      default:
        for (int64_t i = 0; i < lanes_; ++i) to[i] = apply_integer(instr.op, dtype, a[i], b[i], 0);
    }
#undef TILEWRIGHT_LOOP
    narrow(dtype, to);
  }

  template <class T>
  void compare(const Instr& instr) const {
    const T *a = arg<T>(instr, 0), *b = arg<T>(instr, 1);
    auto* to = dst<int64_t>(instr);
    const auto each = [&](const auto& f) {
      for (int64_t i = 0; i < lanes_; ++i) to[i] = f(a[i], b[i]);
    };
    switch (instr.op) {
      case Op::eq: return each([](T x, T y) { return x == y; });
      case Op::ne: return each([](T x, T y) { return x != y; });
      case Op::lt: return each([](T x, T y) { return x < y; });
      case Op::le: return each([](T x, T y) { return x <= y; });
      case Op::gt: return each([](T x, T y) { return x > y; });
      case Op::ge: return each([](T x, T y) { return x >= y; });
      default: TW_CHECK(!"a comparison");
    }
  }
  void compare_any(const Instr& instr) const {
    switch (lane_of(instr.from)) {
      case Lane::f32: return compare<float>(instr);
      case Lane::f64: return compare<double>(instr);
      case Lane::integer: return compare<int64_t>(instr);
    }
  }

  template <class T>
  void select(const Instr& instr) const {
    const auto* condition = arg<int64_t>(instr, 0);
    const T *yes = arg<T>(instr, 1), *no = arg<T>(instr, 2);
    T* to = dst<T>(instr);
    for (int64_t i = 0; i < lanes_; ++i) to[i] = condition[i] ? yes[i] : no[i];
  }

  template <class From>
  void convert_from(const Instr& instr) const {
    const From* from = arg<From>(instr, 0);
    switch (lane_of(instr.dtype)) {
      case Lane::f32:
        for (int64_t i = 0; i < lanes_; ++i) dst<float>(instr)[i] = static_cast<float>(from[i]);
        return;
      case Lane::f64:
        for (int64_t i = 0; i < lanes_; ++i) dst<double>(instr)[i] = static_cast<double>(from[i]);
        return;
      case Lane::integer: break;
    }
    auto* to = dst<int64_t>(instr);
    if (instr.dtype == DType::boolean) {
      for (int64_t i = 0; i < lanes_; ++i) to[i] = from[i] != 0;
    } else if constexpr (std::is_floating_point_v<From>) {
      const auto each = [&](auto type) {
        for (int64_t i = 0; i < lanes_; ++i) to[i] = saturate<decltype(type)>(from[i]);
      };
      if (instr.dtype == DType::i64) return each(int64_t{});
      if (instr.dtype == DType::i32) return each(int32_t{});
      each(int8_t{});
    } else {
      std::memcpy(to, from, static_cast<size_t>(lanes_) * sizeof(int64_t));
      narrow(instr.dtype, to);
    }
  }
  void convert_any(const Instr& instr) const {
    switch (lane_of(instr.from)) {
      case Lane::f32: return convert_from<float>(instr);
      case Lane::f64: return convert_from<double>(instr);
      case Lane::integer: return convert_from<int64_t>(instr);
    }
  }

  /// Lanes of one block of four positions share its computation.
  void random(const Instr& instr) const {
    const auto word = [](int64_t value) { return static_cast<uint32_t>(value); };
    const int64_t *seed = arg<int64_t>(instr, 0), *offset = arg<int64_t>(instr, 1), *bh = arg<int64_t>(instr, 2),
                  *q = arg<int64_t>(instr, 3), *kv = arg<int64_t>(instr, 4);
    auto* to = dst<int64_t>(instr);
    std::array<uint32_t, 4> counter{}, block{};
    for (int64_t i = 0; i < lanes_; ++i) {
      const std::array<uint32_t, 4> next = {word(kv[i] >> 2), word(q[i]), word(bh[i]), word(offset[i])};
      if (i == 0 || next != counter || seed[i] != seed[i - 1])
        block = philox_block(static_cast<uint64_t>(seed[i]), counter = next);
      to[i] = block[static_cast<size_t>(kv[i] & 3)];
    }
  }

  void load(const Instr& instr) const {
    const int64_t* shape = context_.args->meta + instr.shape_at;
    const int64_t* strides = context_.args->meta + instr.stride_at;
    const auto* base = static_cast<const std::byte*>(context_.args->tensors[instr.tensor]);
    const int64_t size = size_of(instr.from);
    const bool in_bounds = instr.in_bounds;
    // Lanes that are not active may hold any index: they wrap, and nothing is read through them.
    uint64_t fixed = 0;
    alignas(64) int64_t offsets[kLanes];
    bool varies = false;
    for (int i = 0; i < instr.count; ++i) {
      const int64_t* index = arg<int64_t>(instr, static_cast<size_t>(i));
      const int64_t limit = std::max<int64_t>(0, shape[i] - 1), stride = strides[i];
      const auto clamped = [&](int64_t at) { return std::clamp<int64_t>(at, 0, limit); };
      if (instr.equal_args >> i & 1) {
        fixed += static_cast<uint64_t>(in_bounds ? index[0] : clamped(index[0])) * static_cast<uint64_t>(stride);
        continue;
      }
      if (!varies) std::memset(offsets, 0, sizeof offsets);
      varies = true;
      for (int64_t lane = 0; lane < lanes_; ++lane) {
        const int64_t at = in_bounds ? index[lane] : clamped(index[lane]);
        offsets[lane] =
            wrapping(static_cast<uint64_t>(offsets[lane]) + static_cast<uint64_t>(at) * static_cast<uint64_t>(stride));
      }
    }
    const std::byte* first = base + static_cast<int64_t>(fixed) * size;
    auto* to = dst<std::byte>(instr);
    alignas(64) std::byte packed[kRegisterBytes];
    if (!varies) {
      widen(instr.from, first, to, 1);
      return spread_first(instr);
    }
    const int64_t active = std::min(lanes_, context_.active);
    bool run = true;
    for (int64_t lane = 1; lane < active; ++lane) run &= offsets[lane] - offsets[0] == lane;
    if (active < lanes_) std::memset(to, 0, kRegisterBytes);
    if (run) return widen(instr.from, first + offsets[0] * size, to, active);
    gather(instr.from, first, offsets, active, packed);
    widen(instr.from, packed, to, active);
  }

  const LaneContext& context_;
  std::byte* registers_;
  int64_t lanes_;
};

void execute(const std::vector<Instr>& code, const LaneContext& context, std::byte* registers, int64_t lanes) {
  Machine machine(context, registers, lanes);
  for (const Instr& instr : code) machine.run(instr);
}

Execute execute_pointer() { return execute; }

}  // namespace tilewright::tier::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif

#if HWY_ONCE
namespace tilewright::tier {

Execute execute_of(CpuIsa isa) { return isa == CpuIsa::avx512 ? N_AVX3::execute_pointer() : N_AVX2::execute_pointer(); }

}  // namespace tilewright::tier
#endif
