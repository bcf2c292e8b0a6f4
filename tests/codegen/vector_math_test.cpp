// Measures the elementary functions in units in the last place against long double, on both instruction sets and
// several lane counts, over the whole range of arguments.
#include "codegen/cpu/vector_math.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <cmath>
#include <cstring>
#include <random>

#include "codegen/cpu/cpu_module.h"
#include "runtime/cpu_detect.h"
#include "runtime/orc_jit.h"

namespace tilewright {
namespace {

using Emit = llvm::Value* (*)(cpu::LlvmBuilder&, llvm::Value*);
using Reference = long double (*)(long double);
struct Buffers {
  const void* in;
  void* out;
};
constexpr int64_t kPoints = 1 << 15;

struct Compiled {
  std::shared_ptr<const JitCode> code;
  /// With FTZ and DAZ, as the runtime calls kernels.
  void operator()(Buffers buffers, int64_t count) const {
    const unsigned before = _mm_getcsr();
    _mm_setcsr(before | 0x8040);
    code->find_as<KernelFunction>("map")(nullptr, 0, count, &buffers);
    _mm_setcsr(before);
  }
};

Compiled compile(const CpuTarget& target, DType dtype, int64_t lanes, Emit emit) {
  CpuModule module = make_cpu_module("map");
  cpu::LlvmBuilder b(module.state(), target);
  b.begin_kernel("map");
  auto pointer = [&](uint64_t i) {
    return b.ir.CreateAlignedLoad(b.pointer_type(), b.ir.CreateConstGEP1_64(b.pointer_type(), b.argument(3), i),
                                  llvm::Align(8));
  };
  llvm::Value *in = pointer(0), *out = pointer(1);
  b.loop(b.argument(1), b.argument(2), lanes, [&](llvm::Value* i) {
    llvm::Value* x = b.load_vector(dtype, b.element_pointer(dtype, in, i), lanes);
    b.store_vector(dtype, emit(b, x), b.element_pointer(dtype, out, i));
  });
  b.ret();
  auto object = compile_module(std::move(module), target, {.verify = true});
  EXPECT_TRUE(object) << to_string(object.error());
  auto code = JitCode::load(object->bytes);  // fails on any symbol from outside
  EXPECT_TRUE(code) << to_string(code.error());
  return {*code};
}

std::vector<CpuTarget> targets() {
  std::vector<CpuTarget> list;
  CpuTarget target = detect_cpu();
  if (target.isa >= CpuIsa::avx512) list.push_back(target);
  target.isa = CpuIsa::avx2;
  list.push_back(target);
  return list;
}

template <class T>
double ulps(T got, long double want) {
  if (std::isnan(want)) return std::isnan(got) ? 0 : 1e30;
  if (std::isnan(got)) return 1e30;
  constexpr long double kTiny = std::numeric_limits<T>::min(), kHuge = std::numeric_limits<T>::max();
  if (std::fabs(want) > kHuge) return std::fabs(static_cast<long double>(got)) >= kHuge ? 0 : 1e30;
  // Below the normal range 0 is right, and at its border the smallest normal number may be rounded to 0.
  if (std::fabs(want) < kTiny * 1.000001L && got == 0) return 0;
  if (std::fabs(want) < kTiny) return std::fabs(static_cast<long double>(got)) <= kTiny ? 0 : 1e30;
  int exponent;
  std::frexp(want, &exponent);
  return static_cast<double>(std::fabs(got - want) / std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits));
}

struct Case {
  const char* name;
  Emit emit;
  Reference reference;
  double low, high;  ///< uniform part of the arguments
  double bound_f32, bound_f64;
};

template <class T>
void measure(const Case& c, DType dtype, double bound) {
  std::mt19937_64 random(7);
  std::vector<T> in(kPoints), out(kPoints);
  std::uniform_real_distribution<double> uniform(c.low, c.high), exponent(-40, 10);
  for (size_t i = 0; i < in.size(); ++i) {
    // Uniform, and spread over magnitudes (also close to 1, where a logarithm vanishes).
    const double sign = random() % 2 ? -1 : 1, small = sign * std::exp2(exponent(random));
    in[i] = static_cast<T>(i % 4 < 2 ? uniform(random) : i % 4 == 2 ? small : 1 + small);
    if (i % 4 == 3 && i % 8 == 7) in[i] = static_cast<T>(std::exp2(exponent(random) * 2.9));
  }
  const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const T special[] = {0,
                       T(-0.0),
                       1,
                       -1,
                       inf,
                       -inf,
                       nan,
                       -nan,
                       std::numeric_limits<T>::max(),
                       std::numeric_limits<T>::lowest(),
                       std::numeric_limits<T>::min(),
                       T(0.5),
                       T(-0.5),
                       2,
                       127,
                       -126,
                       T(127.999),
                       T(-127),
                       T(-126.5),
                       T(-149.5),
                       T(-1e30),
                       T(1e30),
                       T(1023.9),
                       T(-1022.5),
                       128,
                       1024};
  std::copy(std::begin(special), std::end(special), in.begin());
  uint64_t payload = sizeof(T) == 4 ? 0x7fc00123u : 0x7ff8000000000123u;  // a NaN whose low bits are set
  std::memcpy(&in[100], &payload, sizeof(T));

  for (const CpuTarget& target : targets())
    for (const int64_t lanes :
         {int64_t{1}, int64_t{4}, target.vector_bytes() / static_cast<int64_t>(sizeof(T)), int64_t{32}}) {
      compile(target, dtype, lanes, c.emit)({in.data(), out.data()}, kPoints);
      double worst = 0;
      T at = 0, got = 0;
      for (size_t i = 0; i < in.size(); ++i) {
        const double error = ulps(out[i], c.reference(in[i]));
        if (error > worst) worst = error, at = in[i], got = out[i];
      }
      EXPECT_LE(worst, bound) << c.name << " " << to_string(dtype) << " " << to_string(target.isa) << " lanes " << lanes
                              << " at " << at << " gives " << got << ", not " << static_cast<double>(c.reference(at));
      if (lanes != 1 && lanes != 4)
        ::testing::Test::RecordProperty(std::string(c.name) + "_" + std::string(to_string(dtype)),
                                        std::to_string(worst));
    }
}

long double sigmoid_reference(long double x) { return 1 / (1 + std::exp(-x)); }
long double rsqrt_reference(long double x) { return 1 / std::sqrt(x); }

TEST(VectorMath, ErrorsInUnitsOfTheLastPlace) {
  using namespace cpu;
  const Case cases[] = {
      {"exp2", math::exp2, [](long double x) { return std::exp2(x); }, -130, 130, 2.4, 1.5},
      {"exp", math::exp, [](long double x) { return std::exp(x); }, -90, 90, 2, 2.5},
      {"log", math::log, [](long double x) { return std::log(x); }, 0, 10, 2, 2},
      {"tanh", math::tanh, [](long double x) { return std::tanh(x); }, -10, 10, 5, 3.2},
      {"sigmoid", math::sigmoid, sigmoid_reference, -90, 90, 2.5, 3},
      {"erf", math::erf, [](long double x) { return std::erf(x); }, -5, 5, 2.5, 2},
      {"sqrt", math::sqrt, [](long double x) { return std::sqrt(x); }, 0, 100, 0.5, 0.5},
      {"rsqrt", math::rsqrt, rsqrt_reference, 0, 100, 1.5, 1.5},
      {"floor", math::floor, [](long double x) { return std::floor(x); }, -100, 100, 0, 0},
  };
  for (const Case& c : cases) {
    measure<float>(c, DType::f32, c.bound_f32);
    measure<double>(c, DType::f64, c.bound_f64);
  }
}

TEST(VectorMath, WholeRangeOfDoubleExp2) {
  measure<double>({"exp2", cpu::math::exp2, [](long double x) { return std::exp2(x); }, -1030, 1030, 2.5, 2.5},
                  DType::f64, 2.5);
  measure<double>({"exp", cpu::math::exp, [](long double x) { return std::exp(x); }, -720, 720, 2.5, 2.5}, DType::f64,
                  2.5);
}

template <class T>
void exact_points(DType dtype) {
  const T inf = std::numeric_limits<T>::infinity();
  for (const CpuTarget& target : targets()) {
    std::vector<T> in(32, T(0)), out(32);
    in[1] = T(-0.0), in[2] = -inf, in[3] = sizeof(T) == 4 ? T(-126.01) : T(-1022.01),
    in[4] = -std::numeric_limits<T>::max(), in[5] = -4, in[6] = 3, in[7] = inf;
    compile(target, dtype, 16, cpu::math::exp2)({in.data(), out.data()}, 32);
    const T want[] = {1, 1, 0, 0, 0, T(0.0625), 8, inf};
    for (size_t i = 0; i < 8; ++i) EXPECT_EQ(out[i], want[i]) << to_string(target.isa) << " exp2(" << in[i] << ")";
    for (T& x : in) x = T(std::ldexp(1.0, -60));
    compile(target, dtype, 16, cpu::math::tanh)({in.data(), out.data()}, 32);
    EXPECT_LT(ulps(out[0], std::ldexp(1.0L, -60)), 2);
    for (T& x : in) x = 30;
    compile(target, dtype, 16, cpu::math::tanh)({in.data(), out.data()}, 32);
    EXPECT_NEAR(static_cast<double>(out[0]), 1, std::numeric_limits<T>::epsilon());
  }
}

TEST(VectorMath, Exp2ForBf16) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const CpuTarget& target : targets()) {
    if (!target.has_avx512()) continue;
    std::vector<float> in = {0, -kInf, -126.01f, -4, 3, std::nanf("")}, out;
    while (in.size() < 4096) in.push_back(static_cast<float>(in.size()) * 0.05f - 110);
    out.resize(in.size());
    compile(target, DType::f32, 16, cpu::math::exp2_for_bf16)({in.data(), out.data()}, 4096);
    const float exact[] = {1, 0, 0, 0.0625f, 8};
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(out[i], exact[i]) << in[i];
    EXPECT_TRUE(std::isnan(out[5]));
    for (size_t i = 6; i < in.size(); ++i) EXPECT_NEAR(out[i] / std::exp2(in[i]), 1, 9e-5) << in[i];
  }
}

TEST(VectorMath, ExactPoints) {
  exact_points<float>(DType::f32);
  exact_points<double>(DType::f64);
}

}  // namespace
}  // namespace tilewright
