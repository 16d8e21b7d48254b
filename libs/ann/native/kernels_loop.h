// The loops shared by all instruction sets. A trait T says how one 64-byte chunk of a code is loaded and added up.
// Everything here has internal linkage: these units are compiled with different instruction sets, and a shared
// inline function would let the linker keep the copy that an older CPU cannot run. For the same reason no C++ standard
// header is included.
#pragma once
#include "kernels.h"
#include "kernels_product.h"

namespace kith {
namespace {

/** Rows whose cache lines are asked for ahead of their use: one step of the loop below. */
constexpr size_t prefetchRows = 4;
/** Lines asked for per row; the hardware's stream prefetcher follows longer rows by itself. */
constexpr size_t prefetchLines = 16;
/** Longer lists are those of scans, whose rows nobody has asked for before: of these, so many lines are on their way, a few with every step. */
constexpr size_t listedMost = 64, linesAhead = 128, rowsAheadMost = 32;

/** Rows of `lines` lines each that are asked for ahead, whole steps. */
inline size_t rowsAhead(size_t count, size_t lines) {
    const size_t rows = linesAhead / lines < rowsAheadMost ? linesAhead / lines / 4 * 4 : rowsAheadMost;
    return count <= listedMost || rows < prefetchRows ? prefetchRows : rows;
}

[[gnu::always_inline]] inline void prefetchRow(const char* row, size_t chunks) {
    size_t lines = chunks < prefetchLines ? chunks : prefetchLines;
    for (size_t line = 0; line < lines; ++line) __builtin_prefetch(row + line * chunkBytes, 0, 3);
}

// T::queryStep is the number of 64-byte chunks of the query that one chunk of a row is compared with: 1 where both are
// written alike, more where the query is in f32.
template <class T> float pairLoop(const void* a, const void* b, size_t chunks) {
    const char* first = static_cast<const char*>(a);
    const char* second = static_cast<const char*>(b);
    if (chunks <= 4) {
        // Merging four sums would take longer than the few additions.
        typename T::Sum sum = T::zero();
        for (size_t offset = 0; offset < chunks * chunkBytes; offset += chunkBytes)
            T::add(sum, T::loadQuery(first + offset * T::queryStep), T::loadRow(second + offset));
        return T::total(sum);
    }
    typename T::Sum sums[4] = {T::zero(), T::zero(), T::zero(), T::zero()};
    size_t chunk = 0;
    // Four independent sums hide the latency of the multiply-add.
    for (; chunk + 4 <= chunks; chunk += 4) {
        for (size_t lane = 0; lane < 4; ++lane) {
            const size_t offset = (chunk + lane) * chunkBytes;
            T::add(sums[lane], T::loadQuery(first + offset * T::queryStep), T::loadRow(second + offset));
        }
    }
    for (; chunk < chunks; ++chunk)
        T::add(sums[chunk & 3], T::loadQuery(first + chunk * chunkBytes * T::queryStep), T::loadRow(second + chunk * chunkBytes));
    return T::total(T::plus(T::plus(sums[0], sums[1]), T::plus(sums[2], sums[3])));
}

template <class T>
void gatherLoop(const void* query, const char* arena, const uint32_t* ids, size_t count, size_t chunks, float* out) {
    const char* wanted = static_cast<const char*>(query);
    const size_t stride = chunks * chunkBytes;
    const size_t ahead = rowsAhead(count, chunks);
    for (size_t i = 0; i < ahead && i < count; ++i) prefetchRow(arena + ids[i] * stride, chunks);
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (size_t next = i + ahead; next < i + ahead + 4 && next < count; ++next) prefetchRow(arena + ids[next] * stride, chunks);
        const char* rows[4] = {arena + ids[i] * stride, arena + ids[i + 1] * stride, arena + ids[i + 2] * stride,
                               arena + ids[i + 3] * stride};
        typename T::Sum sums[4] = {T::zero(), T::zero(), T::zero(), T::zero()};
        // Four rows at once: each chunk of the query is loaded once, and the sums do not wait for each other.
        for (size_t offset = 0; offset < stride; offset += chunkBytes) {
            const typename T::Query chunk = T::loadQuery(wanted + offset * T::queryStep);
            T::add(sums[0], chunk, T::loadRow(rows[0] + offset));
            T::add(sums[1], chunk, T::loadRow(rows[1] + offset));
            T::add(sums[2], chunk, T::loadRow(rows[2] + offset));
            T::add(sums[3], chunk, T::loadRow(rows[3] + offset));
        }
        T::total4(sums, out + i);
    }
    for (; i < count; ++i) out[i] = pairLoop<T>(query, arena + ids[i] * stride, chunks);
}

[[gnu::always_inline]] inline void prefetchParts(const char* row, const uint16_t* parts, size_t lines) {
    for (size_t line = 0; line < lines; ++line) __builtin_prefetch(row + parts[line] * chunkBytes, 0, 3);
}

template <class T>
void partLoop(const void* query, const char* arena, const uint32_t* ids, size_t count, size_t chunks, const uint16_t* parts, size_t partCount, float* sums) {
    const char* wanted = static_cast<const char*>(query);
    const size_t stride = chunks * chunkBytes, lines = partCount < prefetchLines ? partCount : prefetchLines;
    const size_t ahead = rowsAhead(count, partCount);
    for (size_t i = 0; i < ahead && i < count; ++i) prefetchParts(arena + ids[i] * stride, parts, lines);
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        for (size_t next = i + ahead; next < i + ahead + 4 && next < count; ++next) prefetchParts(arena + ids[next] * stride, parts, lines);
        const char* rows[4] = {arena + ids[i] * stride, arena + ids[i + 1] * stride, arena + ids[i + 2] * stride,
                               arena + ids[i + 3] * stride};
        typename T::Sum added[4] = {T::zero(), T::zero(), T::zero(), T::zero()};
        for (size_t part = 0; part < partCount; ++part) {
            const size_t offset = parts[part] * chunkBytes;
            const typename T::Query chunk = T::loadQuery(wanted + offset * T::queryStep);
            T::add(added[0], chunk, T::loadRow(rows[0] + offset));
            T::add(added[1], chunk, T::loadRow(rows[1] + offset));
            T::add(added[2], chunk, T::loadRow(rows[2] + offset));
            T::add(added[3], chunk, T::loadRow(rows[3] + offset));
        }
        float totals[4];
        T::total4(added, totals);
        for (size_t row = 0; row < 4; ++row) sums[i + row] += totals[row];
    }
    for (; i < count; ++i) {
        typename T::Sum added = T::zero();
        for (size_t part = 0; part < partCount; ++part) {
            const size_t offset = parts[part] * chunkBytes;
            T::add(added, T::loadQuery(wanted + offset * T::queryStep), T::loadRow(arena + ids[i] * stride + offset));
        }
        sums[i] += T::total(added);
    }
}

inline uint64_t wordAt(const char* at, size_t i) {
    uint64_t word;
    __builtin_memcpy(&word, at + 8 * i, sizeof word);
    return word;
}
inline int64_t bitsIn(uint64_t word) { return __builtin_popcountll(word); }

/** Bits that differ, of two rows. */
struct BinaryTrait {
    static constexpr size_t queryStep = 1;
    using Sum = int64_t;
    struct Query { const char* at; };
    static Sum zero() { return 0; }
    static Query loadQuery(const char* at) { return {at}; }
    static Query loadRow(const char* at) { return {at}; }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (size_t i = 0; i < chunkBytes / 8; ++i) sum += bitsIn(wordAt(q.at, i) ^ wordAt(r.at, i));
    }
    static Sum plus(Sum a, Sum b) { return a + b; }
    static float total(Sum sum) { return static_cast<float>(sum); }
    static void total4(const Sum* sums, float* out) { for (int i = 0; i < 4; ++i) out[i] = total(sums[i]); }
};

/** A query in planes with a row. */
struct PlanesTrait {
    static constexpr size_t queryStep = queryPlanes;
    using Sum = int64_t;
    struct Query { const char* at; };
    static Sum zero() { return 0; }
    static Query loadQuery(const char* at) { return {at}; }
    static Query loadRow(const char* at) { return {at}; }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (size_t i = 0; i < chunkBytes / 8; ++i) {
            const uint64_t row = wordAt(r.at, i);
            int64_t weighted = 0;
            for (size_t plane = 0; plane < queryPlanes; ++plane)
                weighted += bitsIn(wordAt(q.at + plane * chunkBytes, i) & row) << plane;
            sum += 2 * weighted - queryLevels * bitsIn(row);
        }
    }
    static Sum plus(Sum a, Sum b) { return a + b; }
    static float total(Sum sum) { return static_cast<float>(sum); }
    static void total4(const Sum* sums, float* out) { for (int i = 0; i < 4; ++i) out[i] = total(sums[i]); }
};

inline void decodeBinary(const char* row, size_t chunks, float scale, const float* offset, float* out) {
    for (size_t i = 0; i < chunks * perChunk(codeBinary); ++i) {
        const bool above = (row[i >> 3] >> (i & 7)) & 1;
        out[i] = (above ? scale : -scale) + (offset ? offset[i] : 0.0f);
    }
}

/** Rows of i4; see `nibbleBias`. Both are rows, or the query is in bytes. */
template <bool isL2, bool queryIsBytes> struct NibbleTrait {
    static constexpr size_t queryStep = queryIsBytes ? 2 : 1;
    using Sum = int64_t;
    struct Query { const char* at; };
    static Sum zero() { return 0; }
    static Query loadQuery(const char* at) { return {at}; }
    static Query loadRow(const char* at) { return {at}; }
    static int level(const char* row, size_t i) {
        const unsigned both = static_cast<unsigned char>(row[i & 63]);
        const int u = static_cast<int>(i < 64 ? both & 15 : both >> 4);
        return isL2 ? 4 * u - 30 + nibbleBias : 2 * u - 15;
    }
    static void add(Sum& sum, const Query& q, const Query& r) {
        int32_t part = 0;
        for (size_t i = 0; i < perChunk(codeI4); ++i) {
            const int y = level(r.at, i);
            const int x = !queryIsBytes ? level(q.at, i) : isL2 ? static_cast<unsigned char>(q.at[i]) : static_cast<signed char>(q.at[i]);
            part += isL2 ? (x - y) * (x - y) : x * y;
        }
        sum += part;
    }
    static Sum plus(Sum a, Sum b) { return a + b; }
    static float total(Sum sum) { return static_cast<float>(sum); }
    static void total4(const Sum* sums, float* out) { for (int i = 0; i < 4; ++i) out[i] = total(sums[i]); }
};

inline void decodeNibbles(const char* row, size_t chunks, float scale, const float* offset, float* out) {
    for (size_t i = 0; i < chunks * perChunk(codeI4); ++i) {
        const int number = NibbleTrait<false, false>::level(row + i / perChunk(codeI4) * chunkBytes, i % perChunk(codeI4));
        out[i] = static_cast<float>(number) * scale + (offset ? offset[i] : 0.0f);
    }
}

/** Rows of i4, and queries of these, by a trait of the instruction set. */
template <template <bool, bool> class Trait> void fillNibbles(Kernels& kernels) {
    kernels.pair[codeI4][comparisonDot] = pairLoop<Trait<false, false>>;
    kernels.pair[codeI4][comparisonL2] = pairLoop<Trait<true, false>>;
    kernels.gather[codeI4][comparisonDot] = gatherLoop<Trait<false, false>>;
    kernels.gather[codeI4][comparisonL2] = gatherLoop<Trait<true, false>>;
    kernels.gatherF32[codeI4][comparisonDot] = gatherLoop<Trait<false, true>>;
    kernels.gatherF32[codeI4][comparisonL2] = gatherLoop<Trait<true, true>>;
    kernels.decode[codeI4] = decodeNibbles;
}

/** Sixteen sums a step, which the compiler keeps in registers of whatever width there is. */
inline void exactSums(const float* a, const float* b, size_t count, ExactSums* out) {
    constexpr size_t lanes = 16;
    double dot[lanes] = {}, squaresA[lanes] = {}, squaresB[lanes] = {}, l2[lanes] = {};
    for (size_t i = 0; i < count; i += lanes) {
        for (size_t lane = 0; lane < lanes; ++lane) {
            const double x = a[i + lane], y = b[i + lane];
            dot[lane] += x * y;
            squaresA[lane] += x * x;
            squaresB[lane] += y * y;
            l2[lane] += (x - y) * (x - y);
        }
    }
    *out = {0, 0, 0, 0};
    for (size_t lane = 0; lane < lanes; ++lane) {
        out->dot += dot[lane];
        out->squaresA += squaresA[lane];
        out->squaresB += squaresB[lane];
        out->l2 += l2[lane];
    }
}

/**
 * One component after the other of a few rows, each for all rows of the query: nothing is added up across a register, and the best of several rows is taken
 * register by register. The vectors are those of GCC and Clang, of whatever registers there are; as many rows at once as these hold.
 */
typedef float Lanes __attribute__((vector_size(queryLanes * sizeof(float))));
typedef int32_t Numbers __attribute__((vector_size(queryLanes * sizeof(int32_t))));
struct BestLanes {
    Lanes value;
    Numbers row;
};
#if defined(__AVX512F__)
constexpr size_t rowsAtOnce = 12;
#elif defined(__AVX2__) || defined(__aarch64__)
constexpr size_t rowsAtOnce = 6;
#else
constexpr size_t rowsAtOnce = 2;
#endif

template <bool isL2, size_t n>
inline void bestOfRows(const Lanes* query, const float* rows, size_t stride, size_t dimension, int32_t first, BestLanes& best) {
    Lanes sums[n] = {};
    for (size_t d = 0; d < dimension; ++d) {
        const Lanes component = query[d];
        for (size_t row = 0; row < n; ++row) {
            if (isL2) {
                const Lanes difference = component - rows[row * stride + d];
                sums[row] += difference * difference;
            } else {
                sums[row] += component * rows[row * stride + d];
            }
        }
    }
    for (size_t row = 0; row < n; ++row) {
        const Numbers better = isL2 ? sums[row] < best.value : sums[row] > best.value;
        best.value = better ? sums[row] : best.value;
        best.row = better ? Numbers{} + (first + static_cast<int32_t>(row)) : best.row;
    }
}

template <bool isL2>
void bestLoop(const float* query, const float* rows, size_t stride, size_t count, size_t dimension, int32_t first, BestRows* best) {
    const Lanes* components = reinterpret_cast<const Lanes*>(query);
    BestLanes found;
    __builtin_memcpy(&found, best, sizeof found);
    size_t row = 0;
    const auto step = [&](auto rowsOf, size_t n) {
        rowsOf(components, rows + row * stride, stride, dimension, first + static_cast<int32_t>(row), found);
        row += n;
    };
    while (row + rowsAtOnce <= count) step(bestOfRows<isL2, rowsAtOnce>, rowsAtOnce);
    while (row + 4 <= count) step(bestOfRows<isL2, 4>, 4);
    while (row < count) step(bestOfRows<isL2, 1>, 1);
    __builtin_memcpy(best, &found, sizeof found);
}

/** Plain loops, which the compiler turns into vectors of whatever width there is. */
inline void addCodes(float* __restrict sums, const uint8_t* __restrict codes, float factor, size_t count) {
    for (size_t i = 0; i < count; ++i) sums[i] += factor * static_cast<float>(codes[i]);
}

inline size_t atLeast(const float* sums, size_t count, float least, uint32_t* places) {
    constexpr size_t step = 64;
    size_t found = 0;
    for (size_t i = 0; i < count; i += step) {
        int any = 0;
        for (size_t lane = 0; lane < step; ++lane) any |= sums[i + lane] >= least;
        if (!any) continue;
        for (size_t lane = i; lane < i + step; ++lane)
            if (sums[lane] >= least) places[found++] = static_cast<uint32_t>(lane);
    }
    return found;
}

/**
 * The kernels of one instruction set. `Set` names its traits: `Set::Same<code, isL2>` for a query written as the rows are,
 * `Set::F32<code, isL2>` for one in f32, and `Set::decode<code>`.
 */
template <class Set> struct KernelTable {
    template <Code code> static void fill(Kernels& kernels) {
        kernels.pair[code][comparisonDot] = pairLoop<typename Set::template Same<code, false>>;
        kernels.pair[code][comparisonL2] = pairLoop<typename Set::template Same<code, true>>;
        kernels.gather[code][comparisonDot] = gatherLoop<typename Set::template Same<code, false>>;
        kernels.gather[code][comparisonL2] = gatherLoop<typename Set::template Same<code, true>>;
        kernels.gatherF32[code][comparisonDot] = gatherLoop<typename Set::template F32<code, false>>;
        kernels.gatherF32[code][comparisonL2] = gatherLoop<typename Set::template F32<code, true>>;
        kernels.decode[code] = Set::template decode<code>;
    }
    template <Code code> static void fillPart(Kernels& kernels) { kernels.part[code] = partLoop<typename Set::template F32<code, true>>; }
    static Kernels make(const char* name) {
        Kernels kernels{};
        fill<codeF32>(kernels);
        fill<codeF16>(kernels);
        fill<codeBf16>(kernels);
        fill<codeI8>(kernels);
        fill<codeI16>(kernels);
        fillPart<codeF32>(kernels);
        fillPart<codeF16>(kernels);
        fillPart<codeBf16>(kernels);
        for (int comparison = 0; comparison < comparisonCount; ++comparison) {
            kernels.pair[codeBinary][comparison] = pairLoop<BinaryTrait>;
            kernels.gather[codeBinary][comparison] = gatherLoop<BinaryTrait>;
            kernels.gatherF32[codeBinary][comparison] = gatherLoop<PlanesTrait>;
        }
        kernels.decode[codeBinary] = decodeBinary;
        fillNibbles<NibbleTrait>(kernels);
        fillProducts(kernels);
        kernels.exact = exactSums;
        kernels.best[comparisonDot] = bestLoop<false>;
        kernels.best[comparisonL2] = bestLoop<true>;
        kernels.addCodes = addCodes;
        kernels.atLeast = atLeast;
        kernels.name = name;
        return kernels;
    }
};

}  // namespace
}  // namespace kith
