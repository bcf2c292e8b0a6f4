// Primitives of level base, elementary functions: CUDA's own, which NVRTC knows without a header. Within 2 ulp (f64: 2),
// NaN gives NaN, domain errors NaN, poles infinities. emulator/device/math.h has the other bodies.
TW_DEVICE float sqrt_f32(float x) { return sqrtf(x); }
TW_DEVICE double sqrt_f64(double x) { return sqrt(x); }
TW_DEVICE float floor_f32(float x) { return floorf(x); }
TW_DEVICE double floor_f64(double x) { return floor(x); }
TW_DEVICE float exp_f32(float x) { return expf(x); }
TW_DEVICE double exp_f64(double x) { return exp(x); }
TW_DEVICE float exp2_f32(float x) { return exp2f(x); }
TW_DEVICE double exp2_f64(double x) { return exp2(x); }
TW_DEVICE float log_f32(float x) { return logf(x); }
TW_DEVICE double log_f64(double x) { return log(x); }
TW_DEVICE float tanh_f32(float x) { return tanhf(x); }
TW_DEVICE double tanh_f64(double x) { return tanh(x); }
TW_DEVICE float erf_f32(float x) { return erff(x); }
TW_DEVICE double erf_f64(double x) { return erf(x); }
TW_DEVICE float fma_f32(float a, float b, float c) { return __fmaf_rn(a, b, c); }
TW_DEVICE double fma_f64(double a, double b, double c) { return __fma_rn(a, b, c); }
