// Kernels for AVX2 + FMA + F16C.
#include <immintrin.h>
#include "kernels_loop.h"

namespace kith {
namespace {

inline float horizontal(__m256 v) {
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    sum = _mm_hadd_ps(sum, sum);
    return _mm_cvtss_f32(_mm_hadd_ps(sum, sum));
}
inline void horizontal4(__m256 a, __m256 b, __m256 c, __m256 d, float* out) {
    const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1)));
}

/** The numbers of one chunk as registers of 8 f32, in order. */
template <Code code> struct Parts;
template <> struct Parts<codeF32> {
    static constexpr int parts = 2;
    static void load(const char* at, __m256* out) {
        for (int i = 0; i < 2; ++i) out[i] = _mm256_load_ps(reinterpret_cast<const float*>(at) + 8 * i);
    }
};
template <> struct Parts<codeF16> {
    static constexpr int parts = 4;
    static void load(const char* at, __m256* out) {
        for (int i = 0; i < 4; ++i) out[i] = _mm256_cvtph_ps(_mm_load_si128(reinterpret_cast<const __m128i*>(at) + i));
    }
};
template <> struct Parts<codeBf16> {
    static constexpr int parts = 4;
    static void load(const char* at, __m256* out) {
        for (int i = 0; i < 4; ++i) {
            const __m256i wide = _mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(at) + i));
            out[i] = _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
        }
    }
};
template <> struct Parts<codeI8> {
    static constexpr int parts = 8;
    static void load(const char* at, __m256* out) {
        for (int i = 0; i < 8; ++i)
            out[i] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at + 8 * i))));
    }
};
template <> struct Parts<codeI16> {
    static constexpr int parts = 4;
    static void load(const char* at, __m256* out) {
        for (int i = 0; i < 4; ++i)
            out[i] = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(at) + i)));
    }
};

template <Code code, bool isL2, bool queryIsF32> struct FloatTrait {
    static constexpr int parts = Parts<code>::parts;
    static constexpr size_t queryStep = queryIsF32 ? parts / 2 : 1;
    struct Sum { __m256 a, b; };
    struct Query { __m256 part[parts]; };
    static Sum zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
    static Query loadRow(const char* at) { Query q; Parts<code>::load(at, q.part); return q; }
    static Query loadQuery(const char* at) {
        if (!queryIsF32) return loadRow(at);
        Query q;
        for (int i = 0; i < parts; ++i) q.part[i] = _mm256_load_ps(reinterpret_cast<const float*>(at) + 8 * i);
        return q;
    }
    static void one(__m256& sum, __m256 x, __m256 y) {
        if (isL2) {
            const __m256 difference = _mm256_sub_ps(x, y);
            sum = _mm256_fmadd_ps(difference, difference, sum);
        } else {
            sum = _mm256_fmadd_ps(x, y, sum);
        }
    }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (int i = 0; i < parts; i += 2) {
            one(sum.a, q.part[i], r.part[i]);
            one(sum.b, q.part[i + 1], r.part[i + 1]);
        }
    }
    static Sum plus(const Sum& x, const Sum& y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
    static float total(const Sum& sum) { return horizontal(_mm256_add_ps(sum.a, sum.b)); }
    static void total4(const Sum* s, float* out) {
        horizontal4(_mm256_add_ps(s[0].a, s[0].b), _mm256_add_ps(s[1].a, s[1].b), _mm256_add_ps(s[2].a, s[2].b),
                    _mm256_add_ps(s[3].a, s[3].b), out);
    }
};

template <bool isL2> struct I8Trait {
    static constexpr size_t queryStep = 1;
    using Sum = __m256i;
    struct Query { __m256i part[4]; };
    static Sum zero() { return _mm256_setzero_si256(); }
    static Query loadQuery(const char* at) {
        Query q;
        for (int i = 0; i < 4; ++i) q.part[i] = _mm256_cvtepi8_epi16(_mm_load_si128(reinterpret_cast<const __m128i*>(at) + i));
        return q;
    }
    static Query loadRow(const char* at) { return loadQuery(at); }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (int i = 0; i < 4; ++i) {
            if (isL2) {
                const __m256i difference = _mm256_sub_epi16(q.part[i], r.part[i]);
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(difference, difference));
            } else {
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(q.part[i], r.part[i]));
            }
        }
    }
    static Sum plus(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
    static float total(Sum v) {
        __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        sum = _mm_hadd_epi32(sum, sum);
        return static_cast<float>(_mm_cvtsi128_si32(_mm_hadd_epi32(sum, sum)));
    }
    static void total4(const Sum* s, float* out) {
        const __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(s[0], s[1]), _mm256_hadd_epi32(s[2], s[3]));
        _mm_storeu_ps(out, _mm_cvtepi32_ps(_mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1))));
    }
};

/** Both halves of each byte become bytes by a table of the 16 levels. */
template <bool isL2, bool queryIsBytes> struct Nibbles {
    static constexpr size_t queryStep = queryIsBytes ? 2 : 1;
    using Sum = __m256i;
    struct Query { __m256i part[4]; };
    static Sum zero() { return _mm256_setzero_si256(); }
    static __m256i levels() {
        const __m128i u = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m128i twice = _mm_add_epi8(u, u);
        return _mm256_broadcastsi128_si256(isL2 ? _mm_add_epi8(_mm_add_epi8(twice, twice), _mm_set1_epi8(nibbleBias - 30))
                                                : _mm_sub_epi8(twice, _mm_set1_epi8(15)));
    }
    static Query loadRow(const char* at) {
        const __m256i table = levels(), low = _mm256_set1_epi8(15);
        Query q;
        for (int i = 0; i < 2; ++i) {
            const __m256i both = _mm256_load_si256(reinterpret_cast<const __m256i*>(at) + i);
            q.part[i] = _mm256_shuffle_epi8(table, _mm256_and_si256(both, low));
            q.part[i + 2] = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(both, 4), low));
        }
        return q;
    }
    static Query loadQuery(const char* at) {
        if (!queryIsBytes) return loadRow(at);
        Query q;
        for (int i = 0; i < 4; ++i) q.part[i] = _mm256_load_si256(reinterpret_cast<const __m256i*>(at) + i);
        return q;
    }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (int i = 0; i < 4; ++i) {
            __m256i products;
            if (isL2) {
                // At most 127, so that the square of two neighbours fits into 16 bits.
                const __m256i difference = _mm256_or_si256(_mm256_subs_epu8(q.part[i], r.part[i]), _mm256_subs_epu8(r.part[i], q.part[i]));
                products = _mm256_maddubs_epi16(difference, difference);
            } else {
                products = _mm256_maddubs_epi16(_mm256_abs_epi8(r.part[i]), _mm256_sign_epi8(q.part[i], r.part[i]));
            }
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
        }
    }
    static Sum plus(Sum a, Sum b) { return _mm256_add_epi32(a, b); }
    static float total(Sum v) { return I8Trait<isL2>::total(v); }
    static void total4(const Sum* s, float* out) { I8Trait<isL2>::total4(s, out); }
};

template <Code code, bool isL2> struct SameTrait { using Type = FloatTrait<code, isL2, false>; };
template <bool isL2> struct SameTrait<codeI8, isL2> { using Type = I8Trait<isL2>; };

struct Set {
    template <Code code, bool isL2> using Same = typename SameTrait<code, isL2>::Type;
    template <Code code, bool isL2> using F32 = FloatTrait<code, isL2, true>;
    template <Code code> static void decode(const char* row, size_t chunks, float scale, const float* offset, float* out) {
        const __m256 factor = _mm256_set1_ps(scale);
        for (size_t chunk = 0; chunk < chunks; ++chunk, row += chunkBytes) {
            __m256 part[Parts<code>::parts];
            Parts<code>::load(row, part);
            for (int i = 0; i < Parts<code>::parts; ++i, out += 8) {
                const __m256 base = offset ? _mm256_loadu_ps(offset) : _mm256_setzero_ps();
                _mm256_storeu_ps(out, _mm256_fmadd_ps(part[i], factor, base));
                if (offset) offset += 8;
            }
        }
    }
};

}  // namespace

const Kernels& avx2Kernels() {
    static const Kernels kernels = [] {
        Kernels table = KernelTable<Set>::make("avx2");
        fillNibbles<Nibbles>(table);
        return table;
    }();
    return kernels;
}

}  // namespace kith
