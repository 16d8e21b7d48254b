// Kernels for 64-bit ARM. They use the base instruction set alone, so they need no dispatch.
#include <arm_neon.h>
#include "kernels_loop.h"

namespace kith {
namespace {

/** The numbers of one chunk as registers of 4 f32, in order. */
template <Code code> struct Parts;
template <> struct Parts<codeF32> {
    static constexpr int parts = 4;
    static void load(const char* at, float32x4_t* out) {
        for (int i = 0; i < 4; ++i) out[i] = vld1q_f32(reinterpret_cast<const float*>(at) + 4 * i);
    }
};
template <> struct Parts<codeF16> {
    static constexpr int parts = 8;
    static void load(const char* at, float32x4_t* out) {
        for (int i = 0; i < 8; ++i)
            out[i] = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(at) + 4 * i)));
    }
};
template <> struct Parts<codeBf16> {
    static constexpr int parts = 8;
    static void load(const char* at, float32x4_t* out) {
        for (int i = 0; i < 8; ++i)
            out[i] = vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(reinterpret_cast<const uint16_t*>(at) + 4 * i), 16));
    }
};
template <> struct Parts<codeI8> {
    static constexpr int parts = 16;
    static void load(const char* at, float32x4_t* out) {
        for (int i = 0; i < 8; ++i) {
            const int16x8_t wide = vmovl_s8(vld1_s8(reinterpret_cast<const int8_t*>(at) + 8 * i));
            out[2 * i] = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
            out[2 * i + 1] = vcvtq_f32_s32(vmovl_high_s16(wide));
        }
    }
};
template <> struct Parts<codeI16> {
    static constexpr int parts = 8;
    static void load(const char* at, float32x4_t* out) {
        for (int i = 0; i < 8; ++i) out[i] = vcvtq_f32_s32(vmovl_s16(vld1_s16(reinterpret_cast<const int16_t*>(at) + 4 * i)));
    }
};

template <Code code, bool isL2, bool queryIsF32> struct FloatTrait {
    static constexpr int parts = Parts<code>::parts;
    static constexpr size_t queryStep = queryIsF32 ? parts / 4 : 1;
    struct Sum { float32x4_t a, b; };
    struct Query { float32x4_t part[parts]; };
    static Sum zero() { return {vdupq_n_f32(0), vdupq_n_f32(0)}; }
    static Query loadRow(const char* at) { Query q; Parts<code>::load(at, q.part); return q; }
    static Query loadQuery(const char* at) {
        if (!queryIsF32) return loadRow(at);
        Query q;
        for (int i = 0; i < parts; ++i) q.part[i] = vld1q_f32(reinterpret_cast<const float*>(at) + 4 * i);
        return q;
    }
    static void one(float32x4_t& sum, float32x4_t x, float32x4_t y) {
        if (isL2) {
            const float32x4_t difference = vsubq_f32(x, y);
            sum = vfmaq_f32(sum, difference, difference);
        } else {
            sum = vfmaq_f32(sum, x, y);
        }
    }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (int i = 0; i < parts; i += 2) {
            one(sum.a, q.part[i], r.part[i]);
            one(sum.b, q.part[i + 1], r.part[i + 1]);
        }
    }
    static Sum plus(const Sum& x, const Sum& y) { return {vaddq_f32(x.a, y.a), vaddq_f32(x.b, y.b)}; }
    static float total(const Sum& sum) { return vaddvq_f32(vaddq_f32(sum.a, sum.b)); }
    static void total4(const Sum* s, float* out) { for (int i = 0; i < 4; ++i) out[i] = total(s[i]); }
};

template <bool isL2> struct I8Trait {
    static constexpr size_t queryStep = 1;
    using Sum = int32x4_t;
    struct Query { int8x16_t part[4]; };
    static Sum zero() { return vdupq_n_s32(0); }
    static Query loadQuery(const char* at) {
        Query q;
        for (int i = 0; i < 4; ++i) q.part[i] = vld1q_s8(reinterpret_cast<const int8_t*>(at) + 16 * i);
        return q;
    }
    static Query loadRow(const char* at) { return loadQuery(at); }
    static void add(Sum& sum, const Query& q, const Query& r) {
        for (int i = 0; i < 4; ++i) {
            if (isL2) {
                const int16x8_t low = vsubl_s8(vget_low_s8(q.part[i]), vget_low_s8(r.part[i]));
                const int16x8_t high = vsubl_high_s8(q.part[i], r.part[i]);
                sum = vmlal_s16(sum, vget_low_s16(low), vget_low_s16(low));
                sum = vmlal_high_s16(sum, low, low);
                sum = vmlal_s16(sum, vget_low_s16(high), vget_low_s16(high));
                sum = vmlal_high_s16(sum, high, high);
            } else {
                sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(q.part[i]), vget_low_s8(r.part[i])));
                sum = vpadalq_s16(sum, vmull_high_s8(q.part[i], r.part[i]));
            }
        }
    }
    static Sum plus(Sum a, Sum b) { return vaddq_s32(a, b); }
    static float total(Sum sum) { return static_cast<float>(vaddvq_s32(sum)); }
    static void total4(const Sum* s, float* out) { for (int i = 0; i < 4; ++i) out[i] = total(s[i]); }
};

template <Code code, bool isL2> struct SameTrait { using Type = FloatTrait<code, isL2, false>; };
template <bool isL2> struct SameTrait<codeI8, isL2> { using Type = I8Trait<isL2>; };

struct Set {
    template <Code code, bool isL2> using Same = typename SameTrait<code, isL2>::Type;
    template <Code code, bool isL2> using F32 = FloatTrait<code, isL2, true>;
    template <Code code> static void decode(const char* row, size_t chunks, float scale, const float* offset, float* out) {
        for (size_t chunk = 0; chunk < chunks; ++chunk, row += chunkBytes) {
            float32x4_t part[Parts<code>::parts];
            Parts<code>::load(row, part);
            for (int i = 0; i < Parts<code>::parts; ++i, out += 4) {
                const float32x4_t base = offset ? vld1q_f32(offset) : vdupq_n_f32(0);
                vst1q_f32(out, vfmaq_n_f32(base, part[i], scale));
                if (offset) offset += 4;
            }
        }
    }
};

}  // namespace

const Kernels& neonKernels() {
    static const Kernels kernels = KernelTable<Set>::make("neon");
    return kernels;
}

}  // namespace kith
