// Kernels in plain C++: for CPUs without AVX2, and the yardstick that the tests hold the others against.
#include <string.h>
#include "kernels_loop.h"

namespace kith {
namespace {

constexpr int lanes = 16;
struct FloatSum { float lane[lanes]; };

inline float bitsToFloat(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/** The number at a place of a chunk. */
template <Code code> float numberAt(const char* chunk, size_t i);
template <> float numberAt<codeF32>(const char* chunk, size_t i) {
    float value;
    memcpy(&value, chunk + 4 * i, 4);
    return value;
}
template <> float numberAt<codeBf16>(const char* chunk, size_t i) {
    uint16_t bits;
    memcpy(&bits, chunk + 2 * i, 2);
    return bitsToFloat(static_cast<uint32_t>(bits) << 16);
}
template <> float numberAt<codeF16>(const char* chunk, size_t i) {
    uint16_t bits;
    memcpy(&bits, chunk + 2 * i, 2);
    // Moving the exponent into place and multiplying by 2^112 converts normal and subnormal numbers alike.
    const float magnitude = bitsToFloat(static_cast<uint32_t>(bits & 0x7fff) << 13) * 0x1p112f;
    return (bits & 0x8000) ? -magnitude : magnitude;
}
template <> float numberAt<codeI8>(const char* chunk, size_t i) { return static_cast<signed char>(chunk[i]); }
template <> float numberAt<codeI16>(const char* chunk, size_t i) {
    int16_t value;
    memcpy(&value, chunk + 2 * i, 2);
    return value;
}

template <Code code, bool isL2, bool queryIsF32> struct FloatTrait {
    static constexpr size_t queryStep = queryIsF32 ? 4 / bytesOf(code) : 1;
    using Sum = FloatSum;
    struct Query { const char* at; };
    static Sum zero() { return Sum{}; }
    static Query loadQuery(const char* at) { return {at}; }
    static Query loadRow(const char* at) { return {at}; }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (size_t i = 0; i < perChunk(code); ++i) {
            const float x = numberAt<queryIsF32 ? codeF32 : code>(q.at, i), y = numberAt<code>(r.at, i);
            sum.lane[i & (lanes - 1)] += isL2 ? (x - y) * (x - y) : x * y;
        }
    }
    static Sum plus(const Sum& a, const Sum& b) {
        Sum sum;
        for (int i = 0; i < lanes; ++i) sum.lane[i] = a.lane[i] + b.lane[i];
        return sum;
    }
    static float total(const Sum& sum) {
        float total = 0;
        for (int i = 0; i < lanes; ++i) total += sum.lane[i];
        return total;
    }
    static void total4(const Sum* sums, float* out) { for (int i = 0; i < 4; ++i) out[i] = total(sums[i]); }
};

template <bool isL2> struct I8Trait {
    static constexpr size_t queryStep = 1;
    using Sum = int64_t;
    struct Query { const char* at; };
    static Sum zero() { return 0; }
    static Query loadQuery(const char* at) { return {at}; }
    static Query loadRow(const char* at) { return {at}; }
    static void add(Sum& sum, const Query& q, const Query& r) {
        int32_t part = 0;
        for (size_t i = 0; i < chunkBytes; ++i) {
            const int32_t x = static_cast<signed char>(q.at[i]), y = static_cast<signed char>(r.at[i]);
            part += isL2 ? (x - y) * (x - y) : x * y;
        }
        sum += part;
    }
    static Sum plus(Sum a, Sum b) { return a + b; }
    static float total(Sum sum) { return static_cast<float>(sum); }
    static void total4(const Sum* sums, float* out) { for (int i = 0; i < 4; ++i) out[i] = total(sums[i]); }
};

template <Code code, bool isL2> struct SameTrait { using Type = FloatTrait<code, isL2, false>; };
template <bool isL2> struct SameTrait<codeI8, isL2> { using Type = I8Trait<isL2>; };

struct Set {
    template <Code code, bool isL2> using Same = typename SameTrait<code, isL2>::Type;
    template <Code code, bool isL2> using F32 = FloatTrait<code, isL2, true>;
    template <Code code> static void decode(const char* row, size_t chunks, float scale, const float* offset, float* out) {
        const size_t count = chunks * perChunk(code);
        for (size_t i = 0; i < count; ++i) out[i] = numberAt<code>(row, i) * scale + (offset ? offset[i] : 0.0f);
    }
};

}  // namespace

const Kernels& portableKernels() {
    static const Kernels kernels = KernelTable<Set>::make("portable");
    return kernels;
}

}  // namespace kith
