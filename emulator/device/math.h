// The second bodies of primitives/math.cuh: the C library's functions, by the compiler's names for them.
TW_DEVICE float sqrt_f32(float x) { return __builtin_sqrtf(x); }
TW_DEVICE double sqrt_f64(double x) { return __builtin_sqrt(x); }
TW_DEVICE float floor_f32(float x) { return __builtin_floorf(x); }
TW_DEVICE double floor_f64(double x) { return __builtin_floor(x); }
TW_DEVICE float exp_f32(float x) { return __builtin_expf(x); }
TW_DEVICE double exp_f64(double x) { return __builtin_exp(x); }
TW_DEVICE float exp2_f32(float x) { return __builtin_exp2f(x); }
TW_DEVICE double exp2_f64(double x) { return __builtin_exp2(x); }
TW_DEVICE float log_f32(float x) { return __builtin_logf(x); }
TW_DEVICE double log_f64(double x) { return __builtin_log(x); }
TW_DEVICE float tanh_f32(float x) { return __builtin_tanhf(x); }
TW_DEVICE double tanh_f64(double x) { return __builtin_tanh(x); }
TW_DEVICE float erf_f32(float x) { return __builtin_erff(x); }
TW_DEVICE double erf_f64(double x) { return __builtin_erf(x); }
TW_DEVICE float fma_f32(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
TW_DEVICE double fma_f64(double a, double b, double c) { return __builtin_fma(a, b, c); }
