// Kernels for AVX-512 F + BW + DQ + VL. The parts that need VNNI or BF16 are in their own units.
#include <immintrin.h>
#include "kernels_avx512.h"

namespace kith {
namespace {

/** The numbers of one chunk as registers of 16 f32, in order. */
template <Code code> struct Parts;
template <> struct Parts<codeF32> {
    static constexpr int parts = 1;
    static void load(const char* at, __m512* out) { out[0] = _mm512_load_ps(at); }
};
template <> struct Parts<codeF16> {
    static constexpr int parts = 2;
    static void load(const char* at, __m512* out) {
        for (int i = 0; i < 2; ++i) out[i] = _mm512_cvtph_ps(_mm256_load_si256(reinterpret_cast<const __m256i*>(at) + i));
    }
};
template <> struct Parts<codeBf16> {
    static constexpr int parts = 2;
    static void load(const char* at, __m512* out) {
        for (int i = 0; i < 2; ++i) {
            const __m512i wide = _mm512_cvtepu16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(at) + i));
            out[i] = _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
        }
    }
};
template <> struct Parts<codeI8> {
    static constexpr int parts = 4;
    static void load(const char* at, __m512* out) {
        for (int i = 0; i < 4; ++i)
            out[i] = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(at) + i)));
    }
};
template <> struct Parts<codeI16> {
    static constexpr int parts = 2;
    static void load(const char* at, __m512* out) {
        for (int i = 0; i < 2; ++i)
            out[i] = _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_load_si256(reinterpret_cast<const __m256i*>(at) + i)));
    }
};

template <Code code, bool isL2, bool queryIsF32> struct FloatTrait {
    static constexpr int parts = Parts<code>::parts;
    static constexpr size_t queryStep = queryIsF32 ? parts : 1;
    using Sum = __m512;
    struct Query { __m512 part[parts]; };
    static Sum zero() { return _mm512_setzero_ps(); }
    static Query loadRow(const char* at) { Query q; Parts<code>::load(at, q.part); return q; }
    static Query loadQuery(const char* at) {
        if (!queryIsF32) return loadRow(at);
        Query q;
        for (int i = 0; i < parts; ++i) q.part[i] = _mm512_load_ps(at + i * chunkBytes);
        return q;
    }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (int i = 0; i < parts; ++i) {
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
    static constexpr size_t queryStep = 1;
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

/** Both halves of each byte become bytes by a table of the 16 levels. */
template <bool isL2, bool queryIsBytes> struct Nibbles {
    static constexpr size_t queryStep = queryIsBytes ? 2 : 1;
    using Sum = __m512i;
    struct Query { __m512i part[2]; };
    static Sum zero() { return _mm512_setzero_si512(); }
    static __m512i levels() {
        const __m128i u = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m128i twice = _mm_add_epi8(u, u);
        return _mm512_broadcast_i32x4(isL2 ? _mm_add_epi8(_mm_add_epi8(twice, twice), _mm_set1_epi8(nibbleBias - 30))
                                           : _mm_sub_epi8(twice, _mm_set1_epi8(15)));
    }
    static Query loadRow(const char* at) {
        const __m512i table = levels(), low = _mm512_set1_epi8(15), both = _mm512_load_si512(at);
        return {{_mm512_shuffle_epi8(table, _mm512_and_si512(both, low)),
                 _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(both, 4), low))}};
    }
    static Query loadQuery(const char* at) {
        if (!queryIsBytes) return loadRow(at);
        return {{_mm512_load_si512(at), _mm512_load_si512(at + chunkBytes)}};
    }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (int i = 0; i < 2; ++i) {
            __m512i products;
            if (isL2) {
                // At most 127, so that the square of two neighbours fits into 16 bits.
                const __m512i difference = _mm512_or_si512(_mm512_subs_epu8(q.part[i], r.part[i]), _mm512_subs_epu8(r.part[i], q.part[i]));
                products = _mm512_maddubs_epi16(difference, difference);
            } else {
                const __m512i negated = _mm512_mask_sub_epi8(q.part[i], _mm512_movepi8_mask(r.part[i]), _mm512_setzero_si512(), q.part[i]);
                products = _mm512_maddubs_epi16(_mm512_abs_epi8(r.part[i]), negated);
            }
            sum = _mm512_add_epi32(sum, _mm512_madd_epi16(products, _mm512_set1_epi16(1)));
        }
    }
    static Sum plus(Sum a, Sum b) { return _mm512_add_epi32(a, b); }
    static float total(Sum sum) { return static_cast<float>(_mm512_reduce_add_epi32(sum)); }
    static void total4(const Sum* s, float* out) { horizontal4(s, out); }
};

template <Code code, bool isL2> struct SameTrait { using Type = FloatTrait<code, isL2, false>; };
template <bool isL2> struct SameTrait<codeI8, isL2> { using Type = I8Trait<isL2>; };

struct Set {
    template <Code code, bool isL2> using Same = typename SameTrait<code, isL2>::Type;
    template <Code code, bool isL2> using F32 = FloatTrait<code, isL2, true>;
    template <Code code> static void decode(const char* row, size_t chunks, float scale, const float* offset, float* out) {
        const __m512 factor = _mm512_set1_ps(scale);
        for (size_t chunk = 0; chunk < chunks; ++chunk, row += chunkBytes) {
            __m512 part[Parts<code>::parts];
            Parts<code>::load(row, part);
            for (int i = 0; i < Parts<code>::parts; ++i, out += 16) {
                const __m512 base = offset ? _mm512_loadu_ps(offset) : _mm512_setzero_ps();
                _mm512_storeu_ps(out, _mm512_fmadd_ps(part[i], factor, base));
                if (offset) offset += 16;
            }
        }
    }
};

}  // namespace

const Kernels& avx512Kernels() {
    static const Kernels kernels = [] {
        Kernels table = KernelTable<Set>::make("avx512");
        fillNibbles<Nibbles>(table);
        return table;
    }();
    return kernels;
}

}  // namespace kith
