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

struct AsF32 {
    static constexpr int elements = 16;
    static float at(const char* chunk, int i) { float value; memcpy(&value, chunk + 4 * i, 4); return value; }
};
struct AsBf16 {
    static constexpr int elements = 32;
    static float at(const char* chunk, int i) {
        uint16_t bits;
        memcpy(&bits, chunk + 2 * i, 2);
        return bitsToFloat(static_cast<uint32_t>(bits) << 16);
    }
};
struct AsF16 {
    static constexpr int elements = 32;
    static float at(const char* chunk, int i) {
        uint16_t bits;
        memcpy(&bits, chunk + 2 * i, 2);
        // Moving the exponent into place and multiplying by 2^112 converts normal and subnormal numbers alike.
        const float magnitude = bitsToFloat(static_cast<uint32_t>(bits & 0x7fff) << 13) * 0x1p112f;
        return (bits & 0x8000) ? -magnitude : magnitude;
    }
};

template <class Element, bool isL2> struct FloatTrait {
    using Sum = FloatSum;
    struct Query { const char* at; };
    static Sum zero() { return Sum{}; }
    static Query loadQuery(const char* at) { return {at}; }
    static Query loadRow(const char* at) { return {at}; }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (int i = 0; i < Element::elements; ++i) {
            const float x = Element::at(q.at, i), y = Element::at(r.at, i);
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

}  // namespace

const Kernels& portableKernels() {
    static const Kernels kernels = {
        {{pairLoop<FloatTrait<AsF32, false>>, pairLoop<FloatTrait<AsF32, true>>},
         {pairLoop<FloatTrait<AsF16, false>>, pairLoop<FloatTrait<AsF16, true>>},
         {pairLoop<FloatTrait<AsBf16, false>>, pairLoop<FloatTrait<AsBf16, true>>},
         {pairLoop<I8Trait<false>>, pairLoop<I8Trait<true>>}},
        {{gatherLoop<FloatTrait<AsF32, false>>, gatherLoop<FloatTrait<AsF32, true>>},
         {gatherLoop<FloatTrait<AsF16, false>>, gatherLoop<FloatTrait<AsF16, true>>},
         {gatherLoop<FloatTrait<AsBf16, false>>, gatherLoop<FloatTrait<AsBf16, true>>},
         {gatherLoop<I8Trait<false>>, gatherLoop<I8Trait<true>>}},
        "portable"};
    return kernels;
}

}  // namespace kith
