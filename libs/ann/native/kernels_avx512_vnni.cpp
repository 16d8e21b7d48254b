// i8 kernels for AVX-512 with VNNI: 64 elements per instruction.
#include "kernels_avx512.h"

namespace kith {
namespace {

struct DotTrait {
    static constexpr size_t queryStep = 1;
    // vpdpbusd multiplies unsigned by signed bytes. With the query biased by 128, Σ(q+128)·r = Σq·r + 128·Σr, and the
    // second sum takes that last part away again. All in exact integers.
    struct Sum { __m512i biased, row; };
    using Query = __m512i;
    static Sum zero() { return {_mm512_setzero_si512(), _mm512_setzero_si512()}; }
    static Query loadQuery(const char* at) { return _mm512_xor_si512(_mm512_load_si512(at), _mm512_set1_epi8(static_cast<char>(0x80))); }
    static Query loadRow(const char* at) { return _mm512_load_si512(at); }
    static void add(Sum& sum, const Query& q, const Query& r) {
        sum.biased = _mm512_dpbusd_epi32(sum.biased, q, r);
        sum.row = _mm512_dpbusd_epi32(sum.row, _mm512_set1_epi8(static_cast<char>(0x80)), r);
    }
    static Sum plus(const Sum& a, const Sum& b) {
        return {_mm512_add_epi32(a.biased, b.biased), _mm512_add_epi32(a.row, b.row)};
    }
    static __m512i unbiased(const Sum& sum) { return _mm512_sub_epi32(sum.biased, sum.row); }
    static float total(const Sum& sum) { return static_cast<float>(_mm512_reduce_add_epi32(unbiased(sum))); }
    static void total4(const Sum* s, float* out) {
        const __m512i sums[4] = {unbiased(s[0]), unbiased(s[1]), unbiased(s[2]), unbiased(s[3])};
        horizontal4(sums, out);
    }
};

struct L2Trait {
    static constexpr size_t queryStep = 1;
    using Sum = __m512i;
    using Query = __m512i;
    static Sum zero() { return _mm512_setzero_si512(); }
    static Query loadQuery(const char* at) { return _mm512_xor_si512(_mm512_load_si512(at), _mm512_set1_epi8(static_cast<char>(0x80))); }
    static Query loadRow(const char* at) { return loadQuery(at); }
    static void add(Sum& sum, const Query& q, const Query& r) {
        // |q − r| of biased bytes by two saturating subtractions, widened to 16 bits, squared and added.
        const __m512i difference = _mm512_or_si512(_mm512_subs_epu8(q, r), _mm512_subs_epu8(r, q));
        const __m512i low = _mm512_unpacklo_epi8(difference, _mm512_setzero_si512());
        const __m512i high = _mm512_unpackhi_epi8(difference, _mm512_setzero_si512());
        sum = _mm512_dpwssd_epi32(_mm512_dpwssd_epi32(sum, low, low), high, high);
    }
    static Sum plus(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
    static float total(Sum sum) { return static_cast<float>(_mm512_reduce_add_epi32(sum)); }
    static void total4(const Sum* s, float* out) { horizontal4(s, out); }
};

}  // namespace

PairKernel avx512VnniPair(Comparison comparison) {
    return comparison == comparisonL2 ? pairLoop<L2Trait> : pairLoop<DotTrait>;
}
GatherKernel avx512VnniGather(Comparison comparison) {
    return comparison == comparisonL2 ? gatherLoop<L2Trait> : gatherLoop<DotTrait>;
}

}  // namespace kith
