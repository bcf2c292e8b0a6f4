#include "tests/support/primitive_cases.h"

#include <bit>
#include <cmath>
#include <random>

namespace tilewright::testing {
namespace {

using Words = std::vector<uint32_t>;

Words random_words(size_t count, uint32_t seed) {
  std::mt19937 random(seed);
  Words words(count);
  for (uint32_t& word : words) word = static_cast<uint32_t>(random());
  return words;
}
auto random_input(size_t count) {
  return [=](uint32_t seed) { return random_words(count, seed); };
}
float as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
uint32_t as_bits(float value) { return std::bit_cast<uint32_t>(value); }
uint16_t half_of(const Words& words, size_t i) { return static_cast<uint16_t>(words[i / 2] >> (16 * (i % 2))); }

/// Floats of every exponent, and those that tests forget.
Words float_input(uint32_t seed) {
  Words words = random_words(1024, seed);
  const Words special = {0x00000000, 0x80000000, 0x7f800000, 0xff800000, 0x7fc00000, 0x00000001,
                         0x007fffff, 0x00800000, 0x3f800000, 0xbf800000, 0x477fe000, 0x477fefff,
                         0x477ff000, 0x33000000, 0x33000001, 0x387fc000, 0x38800000, 0x3f808000,
                         0x3f818000, 0x7f7fffff, 0x7f7f8000, 0x33800000, 0x34400000, 0x42fe0000};
  std::copy(special.begin(), special.end(), words.begin());
  return words;
}
/// -8 … 8 as bf16 or f16: products and sums of hundreds of them are exact in f32.
std::function<Words(uint32_t)> small_integers(size_t halves, bool is_bf16) {
  return [=](uint32_t seed) {
    std::mt19937 random(seed);
    Words words(halves / 2);
    for (size_t i = 0; i < halves; ++i) {
      const auto value = static_cast<float>(static_cast<int>(random() % 17) - 8);
      uint32_t bits = as_bits(value) >> 16;
      if (!is_bf16) {
        const int exponent = static_cast<int>(as_bits(value) >> 23 & 0xff) - 127 + 15;
        bits = value == 0 ? 0
                          : (as_bits(value) >> 31) << 15 | static_cast<uint32_t>(exponent) << 10 |
                                (as_bits(value) >> 13 & 0x3ff);
      }
      words[i / 2] |= bits << (16 * (i % 2));
    }
    return words;
  };
}
/// The value of a small integer, or of any finite 16-bit float.
float half_value(const Words& words, size_t i, bool is_bf16) {
  const uint32_t bits = half_of(words, i);
  if (is_bf16) return as_float(bits << 16);
  const float magnitude = (bits >> 10 & 31) == 0 ? std::ldexp(static_cast<float>(bits & 1023), -24)
                                                 : std::ldexp(static_cast<float>(1024 + (bits & 1023)),
                                                              static_cast<int>(bits >> 10 & 31) - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

/// To the nearest multiple of the 16-bit type's last place there, ties to even, through doubles.
uint32_t rounded_half(float x, bool is_bf16) {
  if (std::isnan(x)) return 0x7fff;
  const uint32_t sign = as_bits(x) >> 31 << 15;
  const double magnitude = std::fabs(static_cast<double>(x));
  const int bits = is_bf16 ? 8 : 11, lowest = is_bf16 ? -126 : -14, highest = is_bf16 ? 127 : 15;
  if (magnitude == 0) return sign;
  if (std::isinf(x)) return sign | static_cast<uint32_t>(highest - lowest + 2) << (bits - 1);
  const int exponent = std::max(std::ilogb(magnitude), lowest);
  const double place = std::ldexp(1.0, exponent - bits + 1);
  const auto units = static_cast<uint32_t>(std::nearbyint(magnitude / place));
  // A carry out of the units goes into the exponent by itself; beyond the largest it makes infinity.
  uint32_t result = units + (static_cast<uint32_t>(exponent - lowest) << (bits - 1));
  const uint32_t infinity = static_cast<uint32_t>(highest - lowest + 2) << (bits - 1);
  return sign | std::min(result, infinity);
}

using Function = double (*)(double);
PrimitiveCase of_floats(const std::string& name, const std::string& expression, size_t outputs,
                        std::function<uint32_t(float, size_t)> expected, float tolerance = 0) {
  PrimitiveCase one;
  one.name = name;
  one.body = "for (i32 i = t; i < 1024; i += 32) { const float x = bits_f32(in[i]); " + expression + " }";
  one.input = float_input;
  one.output_words = 1024 * outputs;
  one.expected = [=](const Words& input) {
    Words words;
    for (const uint32_t bits : input)
      for (size_t i = 0; i < outputs; ++i) words.push_back(expected(as_float(bits), i));
    return words;
  };
  one.tolerance = tolerance;
  return one;
}

float flushed(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }

void add_numbers(std::vector<PrimitiveCase>& all) {
  all.push_back(of_floats(
      "f32 to bf16 and f16",
      "out[3 * i] = f32_to_bf16(x); out[3 * i + 1] = f32_to_f16(x); out[3 * i + 2] = pack_bf16(x, 1.0f);", 3,
      [](float x, size_t i) { return i == 2 ? rounded_half(x, true) | 0x3f800000u : rounded_half(x, i == 0); }));
  all.push_back(of_floats("packed f16", "out[i] = pack_f16(1.0f, x);", 1,
                          [](float x, size_t) { return 0x3c00u | rounded_half(x, false) << 16; }));
  all.push_back(of_floats(
      "rounding, smaller, larger",
      "out[8 * i] = f32_bits(rint_f32(x)); out[8 * i + 1] = f32_bits(floor_f32(x)); out[8 * i + 2] = "
      "f32_bits(ceil_f32(x)); out[8 * i + 3] = f32_bits(trunc_f32(x)); out[8 * i + 4] = f32_bits(min_f32(x, 1.0f)); "
      "out[8 * i + 5] = f32_bits(max_f32(x, 1.0f)); out[8 * i + 6] = f32_bits(abs_f32(x)); out[8 * i + 7] = "
      "f32_bits(max_f32(1.0f, x));",
      8, [](float x, size_t i) {
        const float results[] = {std::nearbyint(x),
                                 std::floor(x),
                                 std::ceil(x),
                                 std::trunc(x),
                                 std::isnan(x) ? 1.0f : std::fmin(x, 1.0f),
                                 std::isnan(x) ? 1.0f : std::fmax(x, 1.0f),
                                 std::fabs(x),
                                 std::isnan(x) ? 1.0f : std::fmax(x, 1.0f)};
        return as_bits(results[i]);
      }));
  const auto approximate = [&](const char* name, Function function, float tolerance, bool flushes) {
    all.push_back(of_floats(
        name, std::string("out[i] = f32_bits(") + name + "(x));", 1,
        [=](float x, size_t) {
          const float y = static_cast<float>(function(flushes ? flushed(x) : x));
          return as_bits(flushes ? flushed(y) : y);
        },
        tolerance));
  };
  approximate("exp2_approx", [](double x) { return std::exp2(x); }, 0x1p-21f, true);
  approximate("log2_approx", [](double x) { return std::log2(x); }, 0x1p-21f, true);
  approximate("rcp_approx", [](double x) { return 1 / x; }, 0x1p-22f, true);
  approximate("tanh_approx", [](double x) { return std::tanh(x); }, 0x1p-10f, false);

  PrimitiveCase halves;
  halves.name = "bf16 and f16 to f32";
  halves.body =
      "for (i32 i = t; i < 1024; i += 32) { out[2 * i] = f32_bits(bf16_to_f32(in[i])); out[2 * i + 1] = "
      "f32_bits(f16_to_f32(in[i] >> 16)); }";
  halves.input = random_input(1024);
  halves.output_words = 2048;
  halves.expected = [](const Words& input) {
    Words words;
    for (const uint32_t word : input) {
      words.push_back(word << 16);
      const bool special = (word >> 26 & 31) == 31;
      const float infinity = word >> 31 ? -INFINITY : INFINITY;
      words.push_back(as_bits(!special ? half_value({word}, 1, false) : (word >> 16 & 1023) ? NAN : infinity));
    }
    return words;
  };
  all.push_back(halves);

  PrimitiveCase integers;
  integers.name = "integers and atomics";
  integers.body = R"(
    out[t] = mul_hi_u32(in[t], in[t + 32]);
    out[32 + t] = f32_bits(fma_f32(1.5f, static_cast<float>(t), 0.25f));
    atomic_add_i32(reinterpret_cast<i32*>(out + 64), t);
    atomic_add_i64(reinterpret_cast<i64*>(out + 66), i64(t) << 32);
    fence_global();)";
  integers.input = random_input(64);
  integers.output_words = 68;
  integers.expected = [](const Words& input) {
    Words words(68);
    for (size_t t = 0; t < 32; ++t) {
      words[t] = static_cast<uint32_t>((static_cast<uint64_t>(input[t]) * input[t + 32]) >> 32);
      words[32 + t] = as_bits(1.5f * static_cast<float>(t) + 0.25f);
    }
    words[64] = words[67] = 496;
    return words;
  };
  all.push_back(integers);
}

void add_movement(std::vector<PrimitiveCase>& all) {
  PrimitiveCase shuffles;
  shuffles.name = "shuffles and votes";
  shuffles.body = R"(
    u32* o = out + 10 * t;
    o[0] = shuffle_xor_u32(in[t], 5);
    o[1] = shuffle_u32(in[t], in[t + 32] & 31);
    o[2] = f32_bits(shuffle_xor_f32(static_cast<float>(t), 16));
    o[3] = f32_bits(shuffle_f32(static_cast<float>(t), 7));
    const u64 wide = f64_bits(shuffle_xor_f64(bits_f64(u64{0x3ff00000u} << 32 | in[t]), 1));
    o[4] = static_cast<u32>(wide);
    o[5] = static_cast<u32>(wide >> 32);
    o[6] = static_cast<u32>(f64_bits(shuffle_f64(static_cast<double>(t), 9)) >> 32);
    o[7] = warp_ballot(in[t] & 1);
    o[8] = warp_any(in[t] == in[31]);
    o[9] = warp_any(t < 0);)";
  shuffles.input = random_input(64);
  shuffles.output_words = 320;
  shuffles.expected = [](const Words& input) {
    Words words;
    uint32_t ballot = 0;
    for (size_t t = 0; t < 32; ++t) ballot |= (input[t] & 1) << t;
    for (size_t t = 0; t < 32; ++t)
      for (const uint32_t word :
           {input[t ^ 5], input[input[t + 32] % 32], as_bits(static_cast<float>(t ^ 16)), as_bits(7.0f), input[t ^ 1],
            0x3ff00000u, static_cast<uint32_t>(std::bit_cast<uint64_t>(9.0) >> 32), ballot, 1u, 0u})
        words.push_back(word);
    return words;
  };
  all.push_back(shuffles);

  PrimitiveCase shared;
  shared.name = "shared memory, barriers, wide loads";
  shared.threads = 64;
  shared.shared_bytes = 64 * 48;
  shared.body = R"(
    const u32 at = base + 48 * t, other = base + 48 * (63 - t);
    st_shared_vec4(at, ld_global_vec4(in + 12 * t));
    st_shared_u64(at + 16, u64{in[12 * t + 5]} << 32 | in[12 * t + 4]);
    st_shared_f64(at + 24, bits_f64(u64{in[12 * t + 7]} << 32 | in[12 * t + 6]));
    st_shared_f32(at + 32, bits_f32(in[12 * t + 8]));
    st_shared_u32(at + 36, ld_global_nc_u32(in + 12 * t + 9));
    st_shared_u16(at + 40, ld_global_nc_u16(in + 12 * t + 10));
    st_shared_u16(at + 42, static_cast<u16>(in[12 * t + 10] >> 16));
    for (u32 i = 0; i < 4; ++i) st_shared_u8(at + 44 + i, static_cast<u8>(in[12 * t + 11] >> 8 * i));
    block_sync();
    u32* o = out + 12 * t;
    const u64 u = ld_shared_u64(other), d = f64_bits(ld_shared_f64(other + 8));
    o[0] = static_cast<u32>(u), o[1] = static_cast<u32>(u >> 32), o[2] = static_cast<u32>(d), o[3] = static_cast<u32>(d >> 32);
    Vec4 v = ld_shared_vec4(other + 16);
    st_global_vec4(o + 4, v);
    o[8] = f32_bits(ld_shared_f32(other + 32));
    o[9] = ld_shared_u16(other + 36) | u32{ld_shared_u16(other + 38)} << 16;
    o[10] = ld_shared_u32(other + 40);
    o[11] = 0;
    for (u32 i = 0; i < 4; ++i) o[11] |= u32{ld_shared_u8(other + 44 + i)} << 8 * i;
    named_sync(1, 64);)";
  // Bits of floats pass through float variables: no signaling NaN, so no exponent of all ones.
  shared.input = [](uint32_t seed) {
    Words words = random_words(64 * 12, seed);
    for (uint32_t& word : words) word &= 0xbfffffffu;
    return words;
  };
  shared.output_words = 64 * 12;
  shared.expected = [](const Words& input) {
    Words words;
    for (size_t t = 0; t < 64; ++t)
      for (size_t i = 0; i < 12; ++i) words.push_back(input[12 * (63 - t) + i]);
    return words;
  };
  all.push_back(shared);

  PrimitiveCase copies;
  copies.name = "cp.async";
  copies.primitives = CudaPrimitives::sm80;
  copies.shared_bytes = 1024;
  copies.body = R"(
    for (i32 group = 0; group < 2; ++group) {
      cp_async_16(base + 512 * group + 16 * t, in + 128 * group + 4 * t, t % 5 != 2);
      cp_async_commit();
    }
    cp_async_wait<1>();
    block_sync();
    st_global_vec4(out + 4 * t, ld_shared_vec4(base + 16 * (t ^ 3)));
    cp_async_wait<0>();
    block_sync();
    st_global_vec4(out + 128 + 4 * t, ld_shared_vec4(base + 512 + 16 * (31 - t)));)";
  copies.input = random_input(256);
  copies.output_words = 256;
  copies.expected = [](const Words& input) {
    Words words;
    for (size_t group = 0; group < 2; ++group)
      for (size_t t = 0; t < 32; ++t)
        for (size_t i = 0; i < 4; ++i) {
          const size_t from = group == 0 ? t ^ 3 : 31 - t;
          words.push_back(from % 5 == 2 ? 0 : input[128 * group + 4 * from + i]);
        }
    return words;
  };
  all.push_back(copies);

  for (const bool transposed : {false, true}) {
    PrimitiveCase matrices;
    matrices.name = transposed ? "ldmatrix_x4_trans" : "ldmatrix_x4";
    matrices.primitives = CudaPrimitives::sm80;
    matrices.shared_bytes = 512;
    matrices.body = "st_shared_vec4(base + 16 * t, ld_global_vec4(in + 4 * t)); block_sync(); u32 r[4]; " +
                    matrices.name + "(r, base + 16 * (t ^ 1)); for (i32 i = 0; i < 4; ++i) out[4 * t + i] = r[i];";
    matrices.input = random_input(128);
    matrices.output_words = 128;
    matrices.expected = [=](const Words& input) {
      Words words(128);
      for (size_t t = 0; t < 32; ++t)
        for (size_t m = 0; m < 4; ++m)
          for (size_t h = 0; h < 2; ++h) {
            size_t row = t / 4, column = 2 * (t % 4) + h;
            if (transposed) std::swap(row, column);
            words[4 * t + m] |= static_cast<uint32_t>(half_of(input, 8 * (8 * m + (row ^ 1)) + column)) << (16 * h);
          }
      return words;
    };
    all.push_back(matrices);
  }
}

/// A [rows][steps] · B [columns][steps]ᵀ, as f32 bits, row-major.
Words product(const Words& input, size_t a, size_t rows, size_t b, size_t columns, size_t steps, bool is_bf16) {
  Words words;
  for (size_t m = 0; m < rows; ++m)
    for (size_t n = 0; n < columns; ++n) {
      float sum = 0;
      for (size_t k = 0; k < steps; ++k)
        sum += half_value(input, a + m * steps + k, is_bf16) * half_value(input, b + n * steps + k, is_bf16);
      words.push_back(as_bits(sum));
    }
  return words;
}

void add_products(std::vector<PrimitiveCase>& all) {
  for (const bool is_bf16 : {true, false}) {
    const std::string type = is_bf16 ? "bf16" : "f16";
    PrimitiveCase mma;
    mma.name = "mma_m16n8k16_" + type;
    mma.primitives = CudaPrimitives::sm80;
    // Fragments by the figures of the PTX ISA: group = lane / 4, place = lane mod 4.
    mma.body = R"(
      const i32 group = t / 4, place = t % 4;
      const u32 a[4] = {in[group * 8 + place], in[(group + 8) * 8 + place], in[group * 8 + place + 4], in[(group + 8) * 8 + place + 4]};
      const u32* b = in + 128 + group * 8 + place;
      float c[4] = {0, 0, 0, 0};
      mma_m16n8k16_)" +
               type + R"((c, a, b[0], b[4]);
      mma_m16n8k16_)" +
               type + R"((c, a, b[0], b[4]);
      for (i32 i = 0; i < 4; ++i) out[(group + i / 2 * 8) * 8 + place * 2 + i % 2] = f32_bits(0.5f * c[i]);)";
    mma.input = small_integers(16 * 16 + 8 * 16, is_bf16);
    mma.output_words = 128;
    mma.expected = [=](const Words& input) { return product(input, 0, 16, 256, 8, 16, is_bf16); };
    all.push_back(mma);
  }
}

/// 64 × n sums of a warpgroup to memory, row-major.
std::string store_sums(size_t n, const char* sums, const char* to) {
  return fmt::format(
      "for (i32 i = 0; i < {0} / 2; ++i) {2}[(t / 32 * 16 + t % 32 / 4 + i / 2 % 2 * 8) * {0} + i / 4 * 8 + t % 4 * 2 "
      "+ i % 2] "
      "= f32_bits({1}[i]);",
      n, sums, to);
}

void add_hopper(std::vector<PrimitiveCase>& all) {
  PrimitiveCase loads;
  loads.name = "TMA load and store with bounds and swizzle";
  loads.primitives = CudaPrimitives::sm90;
  loads.shared_bytes = 64 * 128 + 64;
  // in, out: [3][40][96] halves. The box goes over the end of rows and starts before the slice.
  loads.maps = {{false, {96, 40, 3}, {64, 32, 2}}, {true, {96, 40, 3}, {64, 32, 2}}};
  loads.body = R"(
    const u32 barrier = base + 64 * 128;
    if (t == 0) {
      mbarrier_init(barrier, 1);
      mbarrier_init_fence();
    }
    block_sync();
    if (t == 0) {
      tma_prefetch(&map0);
      mbarrier_expect(barrier, 64 * 128);
      tma_load_3d(base, &map0, barrier, 64, -5, 1);
    }
    mbarrier_wait(barrier, 0);
    // Row r of the box moves to row 63 - r, swizzle to swizzle.
    u32 words[64];
    for (i32 row = 0; row < 64; ++row) words[row] = ld_shared_u32(base + row * 128 + ((t / 4 ^ (row & 7)) * 4 + t % 4) * 4);
    block_sync();
    for (i32 row = 0; row < 64; ++row) st_shared_u32(base + (63 - row) * 128 + ((t / 4 ^ (7 - (row & 7))) * 4 + t % 4) * 4, words[row]);
    fence_proxy_async();
    block_sync();
    if (t == 0) {
      tma_store_3d(&map1, base, 40, 20, 2);
      tma_store_commit();
      tma_store_wait_read<0>();
    })";
  loads.input = random_input(3 * 40 * 48);
  loads.output_words = 3 * 40 * 48;
  loads.expected = [](const Words& input) {
    Words words(3 * 40 * 48);
    for (int64_t row = 0; row < 64; ++row)
      for (int64_t column = 0; column < 64; ++column) {
        const int64_t z = 1 + row / 32, y = -5 + row % 32, x = 64 + column;
        const uint32_t half =
            z < 3 && y >= 0 && y < 40 && x < 96 ? half_of(input, static_cast<size_t>((z * 40 + y) * 96 + x)) : 0;
        const int64_t to_z = 2 + (63 - row) / 32, to_y = 20 + (63 - row) % 32, to_x = 40 + column;
        if (to_z >= 3 || to_y >= 40 || to_x >= 96) continue;
        const auto to = static_cast<size_t>((to_z * 40 + to_y) * 96 + to_x);
        words[to / 2] |= half << (16 * (to % 2));
      }
    return words;
  };
  all.push_back(loads);

  PrimitiveCase phases;
  phases.name = "mbarriers turn phases";
  phases.primitives = CudaPrimitives::sm90;
  phases.threads = 64;
  phases.shared_bytes = 256 + 32;
  phases.body = R"(
    const u32 full = base + 256, empty = full + 8;
    if (t == 0) {
      mbarrier_init(full, 32);
      mbarrier_init(empty, 32);
      mbarrier_init_fence();
    }
    block_sync();
    for (u32 turn = 0; turn < 6; ++turn) {
      if (t < 32) {
        mbarrier_wait(empty, (turn & 1) ^ 1);
        st_shared_u32(base + 4 * t, in[32 * turn + t]);
        mbarrier_arrive(full);
      } else {
        mbarrier_wait(full, turn & 1);
        out[32 * turn + t - 32] = ld_shared_u32(base + 4 * (63 - t));
        mbarrier_arrive(empty);
      }
    })";
  phases.input = random_input(192);
  phases.output_words = 192;
  phases.expected = [](const Words& input) {
    Words words;
    for (size_t turn = 0; turn < 6; ++turn)
      for (size_t t = 0; t < 32; ++t) words.push_back(input[32 * turn + 31 - t]);
    return words;
  };
  all.push_back(phases);

  for (const bool is_bf16 : {true, false})
    for (const size_t n : {size_t{8}, size_t{64}, size_t{176}, size_t{256}}) {
      const std::string type = is_bf16 ? "bf16" : "f16";
      const auto rows = static_cast<int64_t>(n);
      PrimitiveCase wgmma;
      wgmma.name = fmt::format("wgmma m64n{} {} of descriptors", n, type);
      wgmma.primitives = CudaPrimitives::sm90;
      wgmma.threads = 128;
      wgmma.before = fmt::format("TW_WGMMA({}, {})\nTW_REGISTER_FENCE({})\n", type, n, n);
      wgmma.maps = {{false, {64, 64}, {64, 64}}, {false, {64, 64 + rows}, {64, rows}}};
      wgmma.shared_bytes = 64 * 128 + std::max<int64_t>(rows, 8) * 128 + 64;
      const std::string begin = fmt::format(R"(
        const u32 b_at = base + 64 * 128, barrier = b_at + {0} * 128;
        if (t == 0) {{
          mbarrier_init(barrier, 1);
          mbarrier_init_fence();
        }}
        block_sync();
        if (t == 0) {{
          mbarrier_expect(barrier, (64 + {0}) * 128);
          tma_load_2d(base, &map0, barrier, 0, 0);
          tma_load_2d(b_at, &map1, barrier, 0, 64);
        }}
        mbarrier_wait(barrier, 0);
        const u64 layout = u64{{1}} << 62 | u64{{64}} << 32 | u64{{1}} << 16;
        float d[{0} / 2];
      )",
                                            n);
      wgmma.body = begin + fmt::format(R"(
        wgmma_fence();
        for (u32 k = 0; k < 4; ++k)
          wgmma_{0}_ss(d, layout | (base + 32 * k) >> 4, layout | (b_at + 32 * k) >> 4, k > 0);
        wgmma_commit();
        wgmma_wait<0>();
        register_fence(d);
        {1}
        wgmma_fence();
        wgmma_{0}_ss_x4(d, layout | base >> 4, layout | b_at >> 4, false);
        wgmma_commit();
        wgmma_wait<0>();
        register_fence(d);
        {2})",
                                       type, store_sums(n, "d", "out"),
                                       store_sums(n, "d", fmt::format("(out + {})", 64 * n).c_str()));
      wgmma.input = small_integers((64 + n) * 64, is_bf16);
      wgmma.output_words = 2 * 64 * n;
      wgmma.expected = [=](const Words& input) {
        Words words = product(input, 0, 64, 64 * 64, n, 64, is_bf16);
        words.insert(words.end(), words.begin(), words.end());
        return words;
      };
      all.push_back(wgmma);
    }

  // A [64][64] in registers times B [64][columns], columns contiguous in boxes of 64.
  for (const bool is_bf16 : {true, false})
    for (const size_t n : {size_t{64}, size_t{128}, size_t{192}}) {
      const std::string type = is_bf16 ? "bf16" : "f16";
      const auto columns = static_cast<int64_t>(n);
      PrimitiveCase wgmma;
      wgmma.name = fmt::format("wgmma m64n{} {} of registers and a transposed B", n, type);
      wgmma.primitives = CudaPrimitives::sm90;
      wgmma.threads = 128;
      wgmma.before = fmt::format("TW_WGMMA({}, {})\nTW_REGISTER_FENCE({})\n", type, n, n);
      // Behind A: B as [64][n]; the map sees rows of n from the start, A is n-wide rows, too.
      wgmma.maps = {{false, {columns, 64 * 64 / columns + 64}, {64, 64}}};
      wgmma.shared_bytes = columns * 128 + 64;
      wgmma.body = fmt::format(R"(
        const u32 barrier = base + {0} * 128;
        if (t == 0) {{
          mbarrier_init(barrier, 1);
          mbarrier_init_fence();
        }}
        block_sync();
        if (t == 0) {{
          mbarrier_expect(barrier, {0} * 128);
          for (i32 box = 0; box < {0} / 64; ++box) tma_load_2d(base + box * 8192, &map0, barrier, box * 64, {2});
        }}
        mbarrier_wait(barrier, 0);
        const u64 layout = u64{{1}} << 62 | u64{{64}} << 32 | u64{{512}} << 16;
        const i32 row = t / 32 * 16 + t % 32 / 4;
        u32 a[16];
        for (i32 k = 0; k < 4; ++k)
          for (i32 i = 0; i < 4; ++i) a[4 * k + i] = in[(row + i % 2 * 8) * 32 + k * 8 + i / 2 * 4 + t % 4];
        float d[{0} / 2];
        for (i32 i = 0; i < {0} / 2; ++i) d[i] = 0;
        register_fence(d);
        wgmma_fence();
        for (u32 k = 0; k < 4; ++k) {{
          const u32 step[4] = {{a[4 * k], a[4 * k + 1], a[4 * k + 2], a[4 * k + 3]}};
          wgmma_{1}_rs_tb(d, step, layout | (base + 2048 * k) >> 4, true);
        }}
        wgmma_rs_x4;
        wgmma_commit();
        wgmma_wait<0>();
        register_fence(d);
        {3})",
                               n, type, 64 * 64 / n, store_sums(n, "d", "out"));
      const size_t at = wgmma.body.find("wgmma_rs_x4;");
      wgmma.body.replace(at, 12, "wgmma_" + type + "_rs_tb_x4(d, a, layout | base >> 4);");
      wgmma.input = small_integers((64 + n) * 64 + 128, is_bf16);
      wgmma.output_words = 64 * n;
      wgmma.expected = [=](const Words& input) {
        Words words;
        const size_t b = 64 * 64 / n * n;  // where the box starts, in elements
        for (size_t m = 0; m < 64; ++m)
          for (size_t column = 0; column < n; ++column) {
            float sum = 0;
            for (size_t k = 0; k < 64; ++k)
              sum += half_value(input, m * 64 + k, is_bf16) * half_value(input, b + k * n + column, is_bf16);
            words.push_back(as_bits(2 * sum));
          }
        return words;
      };
      all.push_back(wgmma);
    }
}

}  // namespace

std::vector<PrimitiveCase> primitive_cases() {
  std::vector<PrimitiveCase> all;
  add_numbers(all);
  add_movement(all);
  add_products(all);
  add_hopper(all);
  return all;
}

CudaSource primitive_source(const PrimitiveCase& one) {
  CudaSource source;
  source.primitives = one.primitives;
  CudaPhase phase;
  phase.symbol = "kernel";
  phase.threads = one.threads;
  phase.shared_bytes = one.shared_bytes;
  std::string maps;
  for (size_t i = 0; i < one.maps.size(); ++i) {
    maps += fmt::format(", TW_PARAM TensorMap map{}", i);
    phase.tensor_maps.emplace_back();
  }
  source.parts = {fmt::format(
      "struct Args {{ void* tensors[2]; }};\n{}TW_KERNEL({}, 1) kernel(TW_PARAM Args args{}) {{\n"
      "const u32* in = static_cast<const u32*>(args.tensors[0]);\nu32* out = static_cast<u32*>(args.tensors[1]);\n"
      "const i32 t = thread_index();\nconst u32 base = shared_base();\n{}\n}}\n",
      one.before, one.threads, maps, one.body)};
  source.launch.phases.push_back(std::move(phase));
  return source;
}

std::string primitive_difference(const PrimitiveCase& one, std::span<const uint32_t> input,
                                 std::span<const uint32_t> output) {
  const Words expected = one.expected({input.begin(), input.end()});
  if (expected.size() != output.size()) return fmt::format("{} words, not {}", output.size(), expected.size());
  for (size_t i = 0; i < output.size(); ++i) {
    if (output[i] == expected[i]) continue;
    const float found = as_float(output[i]), wanted = as_float(expected[i]);
    if (std::isnan(found) && std::isnan(wanted)) continue;
    if (one.tolerance > 0 && std::fabs(found - wanted) <= one.tolerance * std::max(1.0f, std::fabs(wanted))) continue;
    return fmt::format("word {} is {:#010x} ({}), not {:#010x} ({})", i, output[i], found, expected[i], wanted);
  }
  return {};
}

}  // namespace tilewright::testing
