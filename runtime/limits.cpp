#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "runtime/limits.cpp"
#include "runtime/limits.h"

#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <atomic>
#include <ctime>

#include "runtime/float_environment.h"

HWY_BEFORE_NAMESPACE();
namespace tilewright {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 12 chains: enough for two units of latency 4 and still in the 16 registers of AVX2.
template <class T>
HWY_NOINLINE double fma_chains(int64_t rounds) {
  const hn::ScalableTag<T> d;
  auto factor = hn::Set(d, static_cast<T>(0.999));
  auto term = hn::Set(d, static_cast<T>(0.001));
  // Every chain starts elsewhere: chains that are equal are one chain to the compiler.
  const auto start = [d](int chain) { return hn::Iota(d, static_cast<T>(chain)); };
  auto a = start(0), b = start(1), c = start(2), e = start(3), f = start(4), g = start(5), h = start(6), i = start(7),
       j = start(8), k = start(9), l = start(10), m = start(11);
  for (int64_t round = 0; round < rounds; ++round) {
    a = hn::MulAdd(a, factor, term);
    b = hn::MulAdd(b, factor, term);
    c = hn::MulAdd(c, factor, term);
    e = hn::MulAdd(e, factor, term);
    f = hn::MulAdd(f, factor, term);
    g = hn::MulAdd(g, factor, term);
    h = hn::MulAdd(h, factor, term);
    i = hn::MulAdd(i, factor, term);
    j = hn::MulAdd(j, factor, term);
    k = hn::MulAdd(k, factor, term);
    l = hn::MulAdd(l, factor, term);
    m = hn::MulAdd(m, factor, term);
  }
  const auto sum = hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)),
                           hn::Add(hn::Add(hn::Add(f, g), hn::Add(h, i)), hn::Add(hn::Add(j, k), hn::Add(l, m))));
  volatile T keep = hn::GetLane(sum);
  (void)keep;
  return 12.0 * 2.0 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(rounds);
}

double fma_f32(int64_t rounds) { return fma_chains<float>(rounds); }
double fma_f64(int64_t rounds) { return fma_chains<double>(rounds); }

uint64_t read_bytes(const uint8_t* data, int64_t bytes) {
  const hn::ScalableTag<uint8_t> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d), b = a, c = a, e = a;
  int64_t i = 0;
  for (; i + 8 * lanes <= bytes; i += 8 * lanes) {
    a = hn::Or(a, hn::Or(hn::LoadU(d, data + i), hn::LoadU(d, data + i + 4 * lanes)));
    b = hn::Or(b, hn::Or(hn::LoadU(d, data + i + lanes), hn::LoadU(d, data + i + 5 * lanes)));
    c = hn::Or(c, hn::Or(hn::LoadU(d, data + i + 2 * lanes), hn::LoadU(d, data + i + 6 * lanes)));
    e = hn::Or(e, hn::Or(hn::LoadU(d, data + i + 3 * lanes), hn::LoadU(d, data + i + 7 * lanes)));
  }
  uint64_t sum = hn::GetLane(hn::Or(hn::Or(a, b), hn::Or(c, e)));
  for (; i < bytes; ++i) sum |= data[i];
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace tilewright
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tilewright {
HWY_EXPORT(read_bytes);
namespace {

using Chains = double (*)(int64_t);

Chains chains_of(CpuIsa isa, bool wide) {
  const int64_t supported = hwy::SupportedTargets();
  if (isa >= CpuIsa::avx512 && (supported & HWY_AVX3)) return wide ? N_AVX3::fma_f64 : N_AVX3::fma_f32;
  if (isa == CpuIsa::avx2 && (supported & HWY_AVX2)) return wide ? N_AVX2::fma_f64 : N_AVX2::fma_f32;
  return nullptr;
}

}  // namespace

double now(TimeOf clock) {
  timespec time{};
  clock_gettime(clock == TimeOf::wall ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

double measure_fma_peak(CpuIsa isa, DType dtype, Executor& executor, double seconds, TimeOf clock) {
  const Chains chains = chains_of(isa, dtype == DType::f64);
  if (!chains) return 0;
  std::atomic<double> rate{0};
  executor.run([&](int) {
    const FloatEnvironment environment;
    int64_t rounds = 20000;
    chains(rounds);
    double flops = 0;
    const double start = now(clock);
    do flops += chains(rounds);
    while (now(clock) - start < seconds);
    const double own = flops / (now(clock) - start) * 1e-9;
    double sum = rate.load();
    while (!rate.compare_exchange_weak(sum, sum + own)) {
    }
  });
  return rate.load();
}

double time_read(std::span<const MemoryRange> ranges, Executor& executor, TimeOf clock) {
  const int workers = executor.workers();
  const double start = now(clock);
  const auto task = [&](int worker) {
    uint64_t sum = 0;
    for (const MemoryRange& range : ranges) {
      const int64_t begin = range.bytes * worker / workers / 64 * 64;
      const int64_t end = worker + 1 == workers ? range.bytes : range.bytes * (worker + 1) / workers / 64 * 64;
      sum |= HWY_DYNAMIC_DISPATCH(read_bytes)(static_cast<const uint8_t*>(range.data) + begin, end - begin);
    }
    volatile uint64_t keep = sum;
    (void)keep;
  };
  executor.run(task);
  return now(clock) - start;
}

}  // namespace tilewright
#endif
