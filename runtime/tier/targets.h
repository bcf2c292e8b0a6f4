// Which of Highway's targets the tier is compiled for: AVX2 and AVX-512, as the engine asks for AVX2 at least. Include
// it before Highway. Code stands between `#if TILEWRIGHT_TIER_TARGET` and `#endif` (Highway's own baseline is left
// out).
#pragma once

#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL)
#define TILEWRIGHT_TIER_TARGET (HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3)
