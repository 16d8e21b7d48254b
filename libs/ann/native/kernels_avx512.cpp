// Kernels for AVX-512 F + BW + DQ + VL. The parts that need VNNI or BF16 are in their own units.
#include <immintrin.h>
#include "kernels_avx512.h"

namespace kith {
namespace {

struct F32Parts {
    static constexpr int parts = 1;
    static void load(const char* at, __m512* out) { out[0] = _mm512_load_ps(at); }
};
struct F16Parts {
    static constexpr int parts = 2;
    static void load(const char* at, __m512* out) {
        for (int i = 0; i < 2; ++i) out[i] = _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(at) + i));
    }
};
struct Bf16Parts {
    static constexpr int parts = 2;
    static void load(const char* at, __m512* out) {
        const __m512i both = _mm512_load_si512(at);
        out[0] = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
        out[1] = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    }
};

template <class Parts, bool isL2> struct FloatTrait {
    using Sum = __m512;
    struct Query { __m512 part[Parts::parts]; };
    static Sum zero() { return _mm512_setzero_ps(); }
    static Query loadQuery(const char* at) { Query q; Parts::load(at, q.part); return q; }
    static Query loadRow(const char* at) { return loadQuery(at); }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (int i = 0; i < Parts::parts; ++i) {
            if (isL2) {
                const __m512 difference = _mm512_sub_ps(q.part[i], r.part[i]);
                sum = _mm512_fmadd_ps(difference, difference, sum);
            } else {
                sum = _mm512_fmadd_ps(q.part[i], r.part[i], sum);
            }
        }
    }
    static Sum plus(Sum a, Sum b) { return _mm512_add_ps(a, b); }
    static float total(Sum sum) { return horizontal(sum); }
    static void total4(const Sum* s, float* out) { horizontal4(s, out); }
};

template <bool isL2> struct I8Trait {
    using Sum = __m512i;
    struct Query { __m512i part[2]; };
    static Sum zero() { return _mm512_setzero_si512(); }
    static Query loadQuery(const char* at) {
        Query q;
        for (int i = 0; i < 2; ++i) q.part[i] = _mm512_cvtepi8_epi16(_mm256_load_si256(reinterpret_cast<const __m256i*>(at) + i));
        return q;
    }
    static Query loadRow(const char* at) { return loadQuery(at); }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (int i = 0; i < 2; ++i) {
            if (isL2) {
                const __m512i difference = _mm512_sub_epi16(q.part[i], r.part[i]);
                sum = _mm512_add_epi32(sum, _mm512_madd_epi16(difference, difference));
            } else {
                sum = _mm512_add_epi32(sum, _mm512_madd_epi16(q.part[i], r.part[i]));
            }
        }
    }
    static Sum plus(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
    static float total(Sum sum) { return static_cast<float>(_mm512_reduce_add_epi32(sum)); }
    static void total4(const Sum* s, float* out) { horizontal4(s, out); }
};

}  // namespace

const Kernels& avx512Kernels() {
    static const Kernels kernels = {
        {{pairLoop<FloatTrait<F32Parts, false>>, pairLoop<FloatTrait<F32Parts, true>>},
         {pairLoop<FloatTrait<F16Parts, false>>, pairLoop<FloatTrait<F16Parts, true>>},
         {pairLoop<FloatTrait<Bf16Parts, false>>, pairLoop<FloatTrait<Bf16Parts, true>>},
         {pairLoop<I8Trait<false>>, pairLoop<I8Trait<true>>}},
        {{gatherLoop<FloatTrait<F32Parts, false>>, gatherLoop<FloatTrait<F32Parts, true>>},
         {gatherLoop<FloatTrait<F16Parts, false>>, gatherLoop<FloatTrait<F16Parts, true>>},
         {gatherLoop<FloatTrait<Bf16Parts, false>>, gatherLoop<FloatTrait<Bf16Parts, true>>},
         {gatherLoop<I8Trait<false>>, gatherLoop<I8Trait<true>>}},
        "avx512"};
    return kernels;
}

}  // namespace kith
