#include "tests/support/primitive_cases.h"

#include <fmt/format.h>

#include "tests/support/primitive_words.h"

namespace tilewright::testing {
namespace {

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

}  // namespace

std::vector<PrimitiveCase> primitive_cases() {
  std::vector<PrimitiveCase> all;
  add_numbers(all);
  add_movement(all);
  add_products(all);
  add_hopper_cases(all);
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
