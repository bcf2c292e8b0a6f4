// The second bodies of primitives/math.cuh: the C library's functions, by the compiler's names for them.
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
