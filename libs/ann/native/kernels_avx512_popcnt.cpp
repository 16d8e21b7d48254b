// Binary kernels for AVX-512 with VPOPCNTDQ: 512 components per instruction.
#include "kernels_avx512.h"

namespace kith {
namespace {

inline float totalOf(__m512i sum) { return static_cast<float>(_mm512_reduce_add_epi64(sum)); }

struct SameTrait {
    static constexpr size_t queryStep = 1;
    using Sum = __m512i;
    using Query = __m512i;
    static Sum zero() { return _mm512_setzero_si512(); }
    static Query loadQuery(const char* at) { return _mm512_load_si512(at); }
    static Query loadRow(const char* at) { return _mm512_load_si512(at); }
    static void add(Sum& sum, const Query& q, const Query& r) { sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(q, r))); }
    static Sum plus(Sum a, Sum b) { return _mm512_add_epi64(a, b); }
    static float total(Sum sum) { return totalOf(sum); }
    static void total4(const Sum* sums, float* out) { for (int i = 0; i < 4; ++i) out[i] = totalOf(sums[i]); }
};

struct BitPlanesTrait {
    static constexpr size_t queryStep = queryPlanes;
    using Sum = __m512i;
    struct Query { __m512i plane[queryPlanes]; };
    static Sum zero() { return _mm512_setzero_si512(); }
    static Query loadQuery(const char* at) {
        Query q;
        for (size_t i = 0; i < queryPlanes; ++i) q.plane[i] = _mm512_load_si512(at + i * chunkBytes);
        return q;
    }
    static __m512i loadRow(const char* at) { return _mm512_load_si512(at); }
    static void add(Sum& sum, const Query& q, const __m512i& r) {
        // From the highest plane down, what there is so far counts twice.
        __m512i weighted = _mm512_setzero_si512();
        for (size_t i = queryPlanes; i-- > 0;)
            weighted = _mm512_add_epi64(_mm512_add_epi64(weighted, weighted), _mm512_popcnt_epi64(_mm512_and_si512(q.plane[i], r)));
        const __m512i bits = _mm512_popcnt_epi64(r);
        const __m512i middle = _mm512_sub_epi64(_mm512_slli_epi64(bits, queryPlanes), bits);
        sum = _mm512_add_epi64(sum, _mm512_sub_epi64(_mm512_add_epi64(weighted, weighted), middle));
    }
    static Sum plus(Sum a, Sum b) { return _mm512_add_epi64(a, b); }
    static float total(Sum sum) { return totalOf(sum); }
    static void total4(const Sum* sums, float* out) { for (int i = 0; i < 4; ++i) out[i] = totalOf(sums[i]); }
};

}  // namespace

GatherKernel avx512PopcntGather() { return gatherLoop<SameTrait>; }
GatherKernel avx512PopcntPlanes() { return gatherLoop<BitPlanesTrait>; }

}  // namespace kith
