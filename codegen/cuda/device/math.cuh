// Scalar arithmetic as docs/ir.md defines it: what generated expressions call beyond C++'s operators. Overloads for
// float and double (real_*), i32 and i64 (int_*).

// Elements as stored, in the type they are computed in.
TW_DEVICE float load_element(const float* p) { return *p; }
TW_DEVICE double load_element(const double* p) { return *p; }
TW_DEVICE float load_element(const F16* p) { return f16_to_f32(p->bits); }
TW_DEVICE float load_element(const BF16* p) { return bf16_to_f32(p->bits); }
TW_DEVICE i64 load_element(const i64* p) { return *p; }
TW_DEVICE i32 load_element(const i32* p) { return *p; }
TW_DEVICE i32 load_element(const i8* p) { return *p; }
TW_DEVICE bool load_element(const u8* p) { return *p != 0; }

/// Rounds to odd: a second rounding, to half of float's precision or less, then rounds as if it were the only one.
TW_DEVICE float to_odd_f32(double x) {
  const float nearest = float(x);
  const u32 bits = f32_bits(nearest);
  if (double(nearest) == x || nearest != nearest || (bits & 1)) return nearest;
  const bool away = (nearest < 0 ? -double(nearest) : double(nearest)) > (x < 0 ? -x : x);
  return bits_f32(away ? bits - 1 : bits | 1);
}

TW_DEVICE void store_element(float* p, float x) { *p = x; }
TW_DEVICE void store_element(float* p, double x) { *p = float(x); }
TW_DEVICE void store_element(double* p, float x) { *p = x; }
TW_DEVICE void store_element(double* p, double x) { *p = x; }
TW_DEVICE void store_element(F16* p, float x) { p->bits = f32_to_f16(x); }
TW_DEVICE void store_element(F16* p, double x) { p->bits = f32_to_f16(to_odd_f32(x)); }
TW_DEVICE void store_element(BF16* p, float x) { p->bits = f32_to_bf16(x); }
TW_DEVICE void store_element(BF16* p, double x) { p->bits = f32_to_bf16(to_odd_f32(x)); }
TW_DEVICE void store_element(i64* p, i64 x) { *p = x; }
TW_DEVICE void store_element(i32* p, i64 x) { *p = i32(x); }
TW_DEVICE void store_element(i8* p, i64 x) { *p = i8(x); }
TW_DEVICE void store_element(u8* p, bool x) { *p = x; }

/// [0, size - 1]; size >= 1.
TW_DEVICE i64 clamp_index(i64 i, i64 size) { return i < 0 ? 0 : i < size ? i : size - 1; }

/// Takes the fastest axis off a flat index. 32-bit division where that does.
TW_DEVICE i32 take_index(i64& flat, i64 extent) {
  if (((u64(flat) | u64(extent)) >> 32) == 0) {
    const u32 whole = u32(flat) / u32(extent), rest = u32(flat) - whole * u32(extent);
    flat = whole;
    return i32(rest);
  }
  const i64 rest = flat % extent;
  flat /= extent;
  return i32(rest);
}

TW_DEVICE i64 take_long_index(i64& flat, i64 extent) {
  const i64 rest = flat % extent;
  flat /= extent;
  return rest;
}

TW_DEVICE float quiet_nan() { return bits_f32(0x7fc00000u); }

TW_DEVICE float real_fma(float a, float b, float c) { return fma_f32(a, b, c); }
TW_DEVICE double real_fma(double a, double b, double c) { return fma_f64(a, b, c); }
TW_DEVICE float real_sqrt(float x) { return sqrt_f32(x); }
TW_DEVICE double real_sqrt(double x) { return sqrt_f64(x); }
TW_DEVICE float real_floor(float x) { return floor_f32(x); }
TW_DEVICE double real_floor(double x) { return floor_f64(x); }
TW_DEVICE float real_exp(float x) { return exp_f32(x); }
TW_DEVICE double real_exp(double x) { return exp_f64(x); }
TW_DEVICE float real_exp2(float x) { return exp2_f32(x); }
TW_DEVICE double real_exp2(double x) { return exp2_f64(x); }
TW_DEVICE float real_log(float x) { return log_f32(x); }
TW_DEVICE double real_log(double x) { return log_f64(x); }
TW_DEVICE float real_tanh(float x) { return tanh_f32(x); }
TW_DEVICE double real_tanh(double x) { return tanh_f64(x); }
TW_DEVICE float real_erf(float x) { return erf_f32(x); }
TW_DEVICE double real_erf(double x) { return erf_f64(x); }

template <class T>
TW_DEVICE T real_rsqrt(T x) {
  return T(1) / real_sqrt(x);
}
template <class T>
TW_DEVICE T real_sigmoid(T x) {
  return T(1) / (T(1) + real_exp(-x));
}
template <class T>
TW_DEVICE T real_abs(T x) {
  return x < 0 ? -x : x == 0 ? T(0) : x;
}
template <class T>
TW_DEVICE T real_mod(T a, T b) {
  return real_fma(-real_floor(a / b), b, a);
}
/// NaN propagates.
template <class T>
TW_DEVICE T real_min(T a, T b) {
  return a != a ? a : a < b ? a : b;
}
template <class T>
TW_DEVICE T real_max(T a, T b) {
  return a != a ? a : a > b ? a : b;
}
/// The other one where one is a NaN.
TW_DEVICE float max_number(float a, float b) { return max_f32(a, b); }
TW_DEVICE double max_number(double a, double b) { return max_f64(a, b); }

// Integers wrap at their width.
TW_DEVICE i32 wrap_i8(i64 x) { return i8(x); }
TW_DEVICE i32 int_add(i32 a, i32 b) { return i32(u32(a) + u32(b)); }
TW_DEVICE i64 int_add(i64 a, i64 b) { return i64(u64(a) + u64(b)); }
TW_DEVICE i32 int_sub(i32 a, i32 b) { return i32(u32(a) - u32(b)); }
TW_DEVICE i64 int_sub(i64 a, i64 b) { return i64(u64(a) - u64(b)); }
TW_DEVICE i32 int_mul(i32 a, i32 b) { return i32(u32(a) * u32(b)); }
TW_DEVICE i64 int_mul(i64 a, i64 b) { return i64(u64(a) * u64(b)); }
TW_DEVICE i32 int_neg(i32 a) { return i32(0u - u32(a)); }
TW_DEVICE i64 int_neg(i64 a) { return i64(u64(0) - u64(a)); }
/// Counts are modulo the width; right shifts are arithmetic.
TW_DEVICE i32 int_shl(i32 a, i32 b) { return i32(u32(a) << (b & 31)); }
TW_DEVICE i64 int_shl(i64 a, i64 b) { return i64(u64(a) << (b & 63)); }
TW_DEVICE i32 int_shr(i32 a, i32 b) { return a >> (b & 31); }
TW_DEVICE i64 int_shr(i64 a, i64 b) { return a >> (b & 63); }
template <class T>
TW_DEVICE T int_abs(T a) {
  return a < 0 ? int_neg(a) : a;
}
template <class T>
TW_DEVICE T int_min(T a, T b) {
  return a < b ? a : b;
}
template <class T>
TW_DEVICE T int_max(T a, T b) {
  return a > b ? a : b;
}
/// Towards minus infinity; x / 0 is 0, and the smallest number over -1 wraps to itself.
template <class T>
TW_DEVICE T int_div(T a, T b) {
  if (b == 0) return 0;
  if (b == -1) return int_neg(a);
  const T quotient = a / b;
  return quotient - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
}
template <class T>
TW_DEVICE T int_mod(T a, T b) {
  if (b == 0 || b == -1) return 0;
  const T rest = a % b;
  return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
}

// Truncation; what lies outside saturates and NaN gives 0.
template <class T>
TW_DEVICE i64 to_i64(T x) {
  if (x != x) return 0;
  if (x >= T(9223372036854775808.0)) return 9223372036854775807ll;
  if (x <= T(-9223372036854775808.0)) return -9223372036854775807ll - 1;
  return i64(x);
}
template <class T>
TW_DEVICE i32 to_i32(T x) {
  return i32(int_max(int_min(to_i64(x), i64(2147483647)), i64(-2147483647) - 1));
}
template <class T>
TW_DEVICE i32 to_i8(T x) {
  return i32(int_max(int_min(to_i64(x), i64(127)), i64(-128)));
}

// Over the lanes of a warp, the same in all of them; all lanes call.
TW_DEVICE i32 lane_index() { return thread_index() & 31; }
TW_DEVICE i32 warp_index() { return thread_index() >> 5; }
TW_DEVICE float shuffle_xor(float x, i32 mask) { return shuffle_xor_f32(x, mask); }
TW_DEVICE double shuffle_xor(double x, i32 mask) { return shuffle_xor_f64(x, mask); }
TW_DEVICE i32 shuffle_xor(i32 x, i32 mask) { return i32(shuffle_xor_u32(u32(x), mask)); }
TW_DEVICE i64 shuffle_xor(i64 x, i32 mask) {
  const u32 low = shuffle_xor_u32(u32(x), mask), high = shuffle_xor_u32(u32(u64(x) >> 32), mask);
  return i64(u64(high) << 32 | low);
}
TW_DEVICE bool shuffle_xor(bool x, i32 mask) { return shuffle_xor_u32(x, mask) != 0; }

template <class T>
TW_DEVICE T warp_sum(T x) {
  for (i32 mask = 16; mask > 0; mask /= 2) x += shuffle_xor(x, mask);
  return x;
}
template <class T>
TW_DEVICE T warp_real_min(T x) {
  for (i32 mask = 16; mask > 0; mask /= 2) x = real_min(x, shuffle_xor(x, mask));
  return x;
}
template <class T>
TW_DEVICE T warp_real_max(T x) {
  for (i32 mask = 16; mask > 0; mask /= 2) x = real_max(x, shuffle_xor(x, mask));
  return x;
}
template <class T>
TW_DEVICE T warp_int_min(T x) {
  for (i32 mask = 16; mask > 0; mask /= 2) x = int_min(x, shuffle_xor(x, mask));
  return x;
}
template <class T>
TW_DEVICE T warp_int_max(T x) {
  for (i32 mask = 16; mask > 0; mask /= 2) x = int_max(x, shuffle_xor(x, mask));
  return x;
}
TW_DEVICE float shuffle(float x, i32 lane) { return shuffle_f32(x, lane); }
TW_DEVICE double shuffle(double x, i32 lane) { return shuffle_f64(x, lane); }
TW_DEVICE i64 shuffle(i64 x, i32 lane) {
  const u32 low = shuffle_u32(u32(x), lane), high = shuffle_u32(u32(u64(x) >> 32), lane);
  return i64(u64(high) << 32 | low);
}

// Shared memory by element type; the first parameter of a load only names it.
TW_DEVICE float shared_get(float, u32 address) { return ld_shared_f32(address); }
TW_DEVICE double shared_get(double, u32 address) { return ld_shared_f64(address); }
TW_DEVICE void shared_set(u32 address, float value) { st_shared_f32(address, value); }
TW_DEVICE void shared_set(u32 address, double value) { st_shared_f64(address, value); }
