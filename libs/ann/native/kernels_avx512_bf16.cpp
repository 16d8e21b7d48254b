// The bf16 dot product for AVX-512 with BF16. There is no such kernel for l2: written with dot products
// (a² + b² − 2ab) it loses all its digits for near neighbours, so l2 widens to f32 instead.
#include "kernels_avx512.h"

namespace kith {
namespace {

struct DotTrait {
    static constexpr size_t queryStep = 1;
    using Sum = __m512;
    using Query = __m512i;
    static Sum zero() { return _mm512_setzero_ps(); }
    static Query loadQuery(const char* at) { return _mm512_load_si512(at); }
    static Query loadRow(const char* at) { return _mm512_load_si512(at); }
    static void add(Sum& sum, const Query& q, const Query& r) {
        __m512bh x, y;
        static_assert(sizeof x == sizeof q, "a register is a register");
        __builtin_memcpy(&x, &q, sizeof x);
        __builtin_memcpy(&y, &r, sizeof y);
        sum = _mm512_dpbf16_ps(sum, x, y);
    }
    static Sum plus(Sum a, Sum b) { return _mm512_add_ps(a, b); }
    static float total(Sum sum) { return horizontal(sum); }
    static void total4(const Sum* s, float* out) { horizontal4(s, out); }
};

}  // namespace

PairKernel avx512Bf16DotPair() { return pairLoop<DotTrait>; }
GatherKernel avx512Bf16DotGather() { return gatherLoop<DotTrait>; }

}  // namespace kith
