// What the AVX-512 units share: sums over the lanes of a register.
#pragma once
#include <immintrin.h>
#include "kernels_loop.h"

namespace kith {
namespace {

inline __m128 fold(__m512 v) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
inline __m128i fold(__m512i v) {
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}
[[maybe_unused]] inline float horizontal(__m512 v) {
    __m128 sum = fold(v);
    sum = _mm_hadd_ps(sum, sum);
    return _mm_cvtss_f32(_mm_hadd_ps(sum, sum));
}
[[maybe_unused]] inline void horizontal4(const __m512* s, float* out) {
    _mm_storeu_ps(out, _mm_hadd_ps(_mm_hadd_ps(fold(s[0]), fold(s[1])), _mm_hadd_ps(fold(s[2]), fold(s[3]))));
}
[[maybe_unused]] inline void horizontal4(const __m512i* s, float* out) {
    _mm_storeu_ps(out, _mm_cvtepi32_ps(_mm_hadd_epi32(_mm_hadd_epi32(fold(s[0]), fold(s[1])),
                                                      _mm_hadd_epi32(fold(s[2]), fold(s[3])))));
}

}  // namespace
}  // namespace kith
