// The kernels of levels base and sm80, and what they give.
#include <fmt/format.h>

#include "emulator/conformance.h"
#include "emulator/conformance_words.h"

namespace tilewright {
namespace {

using Function = double (*)(double);
ConformanceCase of_floats(const std::string& name, const std::string& expression, size_t outputs,
                          std::function<uint32_t(float, size_t)> expected, float tolerance = 0) {
  ConformanceCase one;
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

void add_numbers(std::vector<ConformanceCase>& all) {
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

  ConformanceCase halves;
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

  ConformanceCase exact;
  exact.name = "arithmetic that is exact to the bit";
  exact.body = R"(
    const float x = bits_f32(in[t]), y = bits_f32(in[t + 32]);
    out[5 * t] = f32_bits(fma_f32(x, y, x));
    out[5 * t + 1] = f32_bits(sqrt_f32(abs_f32(x)));
    out[5 * t + 2] = f32_bits(x / y);
    out[5 * t + 3] = u32(f64_bits(fma_f64(x, y, x)) >> 3);
    out[5 * t + 4] = u32(f64_bits(sqrt_f64(double(x) * x + 2)) >> 3);)";
  exact.input = finite_floats(64);
  exact.output_words = 160;
  exact.expected = [](const Words& input) {
    Words words;
    for (size_t t = 0; t < 32; ++t) {
      const float x = as_float(input[t]), y = as_float(input[t + 32]);
      const double product = std::fma(double{x}, double{y}, double{x}), root = std::sqrt(double{x} * x + 2);
      words.insert(words.end(), {as_bits(std::fma(x, y, x)), as_bits(std::sqrt(std::fabs(x))), as_bits(x / y),
                                 static_cast<uint32_t>(std::bit_cast<uint64_t>(product) >> 3),
                                 static_cast<uint32_t>(std::bit_cast<uint64_t>(root) >> 3)});
    }
    return words;
  };
  all.push_back(exact);

  ConformanceCase functions;
  functions.name = "elementary functions";
  functions.body = R"(
    const float x = bits_f32(in[t]);
    out[10 * t] = f32_bits(exp_f32(x));
    out[10 * t + 1] = f32_bits(exp2_f32(x));
    out[10 * t + 2] = f32_bits(log_f32(abs_f32(x) + 0.125f));
    out[10 * t + 3] = f32_bits(tanh_f32(x));
    out[10 * t + 4] = f32_bits(erf_f32(x));
    out[10 * t + 5] = f32_bits(float(exp_f64(x)));
    out[10 * t + 6] = f32_bits(float(exp2_f64(x)));
    out[10 * t + 7] = f32_bits(float(log_f64(double(abs_f32(x)) + 0.125)));
    out[10 * t + 8] = f32_bits(float(tanh_f64(x)));
    out[10 * t + 9] = f32_bits(float(erf_f64(x)));)";
  functions.input = finite_floats(32);
  functions.output_words = 320;
  functions.expected = [](const Words& input) {
    Words words;
    for (const uint32_t bits : input) {
      const double x = as_float(bits);
      const double values[] = {std::exp(x), std::exp2(x), std::log(std::fabs(x) + 0.125), std::tanh(x), std::erf(x)};
      for (int twice = 0; twice < 2; ++twice)
        for (const double value : values) words.push_back(as_bits(static_cast<float>(value)));
    }
    return words;
  };
  functions.tolerance = 0x1p-20f;
  all.push_back(functions);

  ConformanceCase integers;
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

  ConformanceCase block;
  block.name = "one block of a grid of one, and what its warp wrote";
  block.shared_bytes = 128;
  block.body = R"(
    st_shared_u32(base + 4 * t, in[t] + static_cast<u32>(block_index()));
    warp_sync();
    out[t] = ld_shared_u32(base + 4 * (31 - t)) + static_cast<u32>(block_count());
    out[32 + t] = f32_bits(neg_inf());)";
  block.input = random_input(32);
  block.output_words = 64;
  block.expected = [](const Words& input) {
    Words words(64, 0xff800000);
    for (size_t t = 0; t < 32; ++t) words[t] = input[31 - t] + 1;
    return words;
  };
  all.push_back(block);

  // x may be NaN, which min and max drop; y is a number, often halfway between two integers.
  ConformanceCase doubles;
  doubles.name = "f64 rounded to integers, its sign dropped, the smaller and the larger";
  doubles.body = R"(
    const double x = bits_f64(u64{in[4 * t + 1]} << 32 | in[4 * t]), y = bits_f64(u64{in[4 * t + 3]} << 32 | in[4 * t + 2]);
    const double values[7] = {abs_f64(y), ceil_f64(y), floor_f64(y), rint_f64(y), trunc_f64(y), min_f64(x, y), max_f64(x, y)};
    for (i32 i = 0; i < 7; ++i) {
      out[14 * t + 2 * i] = static_cast<u32>(f64_bits(values[i]));
      out[14 * t + 2 * i + 1] = static_cast<u32>(f64_bits(values[i]) >> 32);
    })";
  doubles.input = [](uint32_t seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, 8);
    std::vector<double> values(64);
    for (size_t i = 0; i < 64; i += 2) {
      values[i] = normal(random);
      values[i + 1] = (static_cast<double>(random() % 81) - 40) / 4;
    }
    const double special[] = {NAN, 0.5, INFINITY, -0.5, -INFINITY, 1.5, 3, -0.0, 3, 1e300, 3, -INFINITY, 3, 0x1p52 + 1};
    std::ranges::copy(special, values.begin());
    Words words;
    for (const double value : values) append_bits(words, value);
    return words;
  };
  doubles.output_words = 448;
  doubles.expected = [](const Words& input) {
    Words words;
    for (size_t t = 0; t < 32; ++t) {
      const auto at = [&](size_t i) {
        return std::bit_cast<double>(uint64_t{input[4 * t + 2 * i + 1]} << 32 | input[4 * t + 2 * i]);
      };
      const double x = at(0), y = at(1);
      for (const double value :
           {std::fabs(y), std::ceil(y), std::floor(y), std::nearbyint(y), std::trunc(y), x < y ? x : y, x > y ? x : y})
        append_bits(words, value);
    }
    return words;
  };
  all.push_back(doubles);
}

void add_movement(std::vector<ConformanceCase>& all) {
  ConformanceCase shuffles;
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

  ConformanceCase shared;
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

  ConformanceCase barriers;
  barriers.name = "named barriers that some arrive at and some wait for";
  barriers.threads = 128;
  barriers.shared_bytes = 256;
  barriers.body = R"(
    if (t < 64) {
      st_shared_u32(base + 4 * t, in[t]);
      named_arrive(1, 128);
    } else {
      named_sync(1, 128);
      out[t - 64] = ld_shared_u32(base + 4 * (127 - t));
    })";
  barriers.input = random_input(64);
  barriers.output_words = 64;
  barriers.expected = [](const Words& input) { return Words(input.rbegin(), input.rend()); };
  all.push_back(barriers);

  ConformanceCase wide;
  wide.name = "read-only loads of f32 and f64";
  wide.body =
      "out[2 * t] = f32_bits(ld_global_nc_f32(in + t)); out[2 * t + 1] = u32(f64_bits(ld_global_nc_f64(in + 2 * t)) >> "
      "32);";
  wide.input = finite_floats(64);
  wide.output_words = 64;
  wide.expected = [](const Words& input) {
    Words words;
    for (size_t t = 0; t < 32; ++t) words.insert(words.end(), {input[t], input[2 * t + 1]});
    return words;
  };
  all.push_back(wide);

  ConformanceCase copies;
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
    ConformanceCase matrices;
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

void add_products(std::vector<ConformanceCase>& all) {
  for (const bool is_bf16 : {true, false}) {
    const std::string type = is_bf16 ? "bf16" : "f16";
    ConformanceCase mma;
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
    // Sums that are not exact: how a tensor core rounds them nobody says, but not by more than this.
    mma.name += " of any numbers";
    mma.input = normal_halves(16 * 16 + 8 * 16, is_bf16);
    mma.tolerance = 0x1p-18f;
    all.push_back(mma);
  }
}

}  // namespace

const std::vector<ConformanceCase>& conformance_cases() {
  static const std::vector<ConformanceCase> all = [] {
    std::vector<ConformanceCase> cases;
    add_numbers(cases);
    add_movement(cases);
    add_products(cases);
    add_hopper_cases(cases);
    return cases;
  }();
  return all;
}

}  // namespace tilewright
