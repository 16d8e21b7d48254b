// Rows of product codes with a query in tables: sums of one byte of each table, which the four bits of each group of the row name.
// As in kernels_loop.h everything has internal linkage, and no C++ standard header is included.
//
// A shuffle of bytes looks up 16 numbers in one table of 16. So the codes of 16 rows are transposed as they are read, 32 bytes of each at a time: then a
// register has the same byte of all 16 rows, its lower half of the first 16 bytes and its upper one of the second. (André, Kermarrec and Le Scouarnec, 2015, keep rows
// transposed; the rows of a walk come from anywhere.)
#pragma once
#include "kernels.h"
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace kith {
namespace {

inline uint32_t productStepsOf(const char* query) {
    uint32_t steps;
    __builtin_memcpy(&steps, query, sizeof steps);
    return steps;
}

#if !defined(__AVX2__)
inline void productGather(const void* query, const char* arena, const uint32_t* ids, size_t count, size_t chunks, float* out) {
    const char* wanted = static_cast<const char*>(query);
    const uint8_t* tables = reinterpret_cast<const uint8_t*>(wanted) + chunkBytes;
    const uint32_t steps = productStepsOf(wanted);
    for (size_t i = 0; i < count; ++i) {
        const char* row = arena + ids[i] * chunks * chunkBytes;
        uint32_t sum = 0;
        for (uint32_t step = 0; step < steps; ++step) {
            const uint8_t* table = tables + step * productStepTables;
            for (size_t byte = 0; byte < productStepBytes; ++byte) {
                const unsigned both = static_cast<unsigned char>(row[step * productStepBytes + byte]);
                const uint8_t* pair = table + byte % 16 * 64 + byte / 16 * 16;
                sum += static_cast<uint32_t>(pair[both & 15]) + pair[32 + (both >> 4)];
            }
        }
        out[i] = static_cast<float>(sum);
    }
}
#else
constexpr size_t productRows = 16;
/** Steps after which sums of 16 bits may be full: each has 32 bytes of a step. */
constexpr uint32_t productStepsMax = 8;

/** Each half of row i becomes its byte i of all rows: four times the rows are shuffled perfectly. */
inline void transposeProduct(__m256i* rows) {
    __m256i other[productRows];
    for (int turn = 0; turn < 2; ++turn) {
        for (size_t i = 0; i < 8; ++i) {
            other[2 * i] = _mm256_unpacklo_epi8(rows[i], rows[i + 8]);
            other[2 * i + 1] = _mm256_unpackhi_epi8(rows[i], rows[i + 8]);
        }
        for (size_t i = 0; i < 8; ++i) {
            rows[2 * i] = _mm256_unpacklo_epi8(other[i], other[i + 8]);
            rows[2 * i + 1] = _mm256_unpackhi_epi8(other[i], other[i + 8]);
        }
    }
}

/** Both halves of eight sums of 16 bits, in 32 bits. */
inline __m256i halvesOf(__m256i sums) {
    return _mm256_add_epi32(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(sums)), _mm256_cvtepu16_epi32(_mm256_extracti128_si256(sums, 1)));
}

inline void productOf16(const char* query, const char* const* rows, float* out) {
    const uint32_t steps = productStepsOf(query);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i evenSums = _mm256_setzero_si256(), oddSums = _mm256_setzero_si256();
    for (uint32_t first = 0; first < steps; first += productStepsMax) {
        // Of rows of even numbers, with those of odd ones in their upper bytes; and these alone.
        __m256i all = _mm256_setzero_si256(), odd = _mm256_setzero_si256();
        const uint32_t end = first + productStepsMax < steps ? first + productStepsMax : steps;
        for (uint32_t step = first; step < end; ++step) {
            __m256i bytes[productRows];
            for (size_t i = 0; i < productRows; ++i)
                bytes[i] = _mm256_load_si256(reinterpret_cast<const __m256i*>(rows[i] + step * productStepBytes));
            transposeProduct(bytes);
            const auto* table = reinterpret_cast<const __m256i*>(query + chunkBytes + step * productStepTables);
            for (size_t i = 0; i < productRows; ++i) {
                const __m256i first16 = _mm256_shuffle_epi8(_mm256_load_si256(table + 2 * i), _mm256_and_si256(bytes[i], low));
                const __m256i second = _mm256_shuffle_epi8(_mm256_load_si256(table + 2 * i + 1), _mm256_and_si256(_mm256_srli_epi16(bytes[i], 4), low));
                all = _mm256_add_epi16(all, _mm256_add_epi16(first16, second));
                odd = _mm256_add_epi16(odd, _mm256_add_epi16(_mm256_srli_epi16(first16, 8), _mm256_srli_epi16(second, 8)));
            }
        }
        evenSums = _mm256_add_epi32(evenSums, halvesOf(_mm256_sub_epi16(all, _mm256_slli_epi16(odd, 8))));
        oddSums = _mm256_add_epi32(oddSums, halvesOf(odd));
    }
    const __m256 even = _mm256_cvtepi32_ps(evenSums), odd = _mm256_cvtepi32_ps(oddSums);
    const __m256 lower = _mm256_unpacklo_ps(even, odd), upper = _mm256_unpackhi_ps(even, odd);
    _mm256_storeu_ps(out, _mm256_permute2f128_ps(lower, upper, 0x20));
    _mm256_storeu_ps(out + 8, _mm256_permute2f128_ps(lower, upper, 0x31));
}

inline void productGather(const void* query, const char* arena, const uint32_t* ids, size_t count, size_t chunks, float* out) {
    const size_t stride = chunks * chunkBytes;
    const auto prefetch = [&](size_t from) {
        for (size_t i = from; i < from + productRows && i < count; ++i)
            for (size_t chunk = 0; chunk < chunks; ++chunk) __builtin_prefetch(arena + ids[i] * stride + chunk * chunkBytes, 0, 3);
    };
    prefetch(0);
    for (size_t i = 0; i < count; i += productRows) {
        prefetch(i + productRows);
        const size_t last = count - i < productRows ? count - i : productRows;
        const char* rows[productRows];
        for (size_t row = 0; row < productRows; ++row) rows[row] = arena + ids[i + (row < last ? row : 0)] * stride;
        float values[productRows];
        productOf16(static_cast<const char*>(query), rows, values);
        for (size_t row = 0; row < last; ++row) out[i + row] = values[row];
    }
}
#endif

/** Rows of product codes are compared with queries alone. */
inline void fillProducts(Kernels& kernels) {
    for (int code = codeProduct16; code <= codeProduct64; ++code)
        for (int comparison = 0; comparison < comparisonCount; ++comparison) kernels.gatherF32[code][comparison] = productGather;
}

}  // namespace
}  // namespace kith
