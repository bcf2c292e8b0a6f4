// Primitives of level base, elementary functions: CUDA's own, which NVRTC knows without a header. Within 2 ulp (f64: 2),
// NaN gives NaN, domain errors NaN, poles infinities. emulator/device/math.h has the other bodies.
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
