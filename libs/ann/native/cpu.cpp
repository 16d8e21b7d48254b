// Which kernels this CPU can run, decided once at run time.
#include <string.h>
#include "kernels.h"
#if defined(__x86_64__)
#include <cpuid.h>
#include <initializer_list>
#endif

namespace kith {
#if defined(__x86_64__)
namespace {

struct Features { bool avx2 = false, avx512 = false, vnni = false, bf16 = false, popcnt = false; };

uint64_t enabledStates() {
    uint32_t low = 0, high = 0;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (static_cast<uint64_t>(high) << 32) | low;
}

Features detect() {
    Features found;
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
    const bool fma = c & (1u << 12), osxsave = c & (1u << 27), avx = c & (1u << 28), f16c = c & (1u << 29);
    if (!osxsave || !avx) return found;
    const uint64_t states = enabledStates();
    if ((states & 0x6) != 0x6 || !__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    found.avx2 = fma && f16c && (b & (1u << 5));
    const bool f = b & (1u << 16), dq = b & (1u << 17), bw = b & (1u << 30), vl = b & (1u << 31);
    // The system must also save the opmask and the upper registers on a switch of context.
    found.avx512 = found.avx2 && f && dq && bw && vl && (states & 0xe0) == 0xe0;
    found.vnni = found.avx512 && (c & (1u << 11));
    found.popcnt = found.avx512 && (c & (1u << 14));
    if (found.avx512 && a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) found.bf16 = a & (1u << 5);
    return found;
}

const Features& features() {
    static const Features found = detect();
    return found;
}

const Kernels& bestAvx512() {
    static const Kernels kernels = [] {
        Kernels table = avx512Kernels();
        if (features().vnni) {
            for (Comparison comparison : {comparisonDot, comparisonL2}) {
                table.pair[codeI8][comparison] = avx512VnniPair(comparison);
                table.gather[codeI8][comparison] = avx512VnniGather(comparison);
            }
        }
        if (features().popcnt) {
            for (Comparison comparison : {comparisonDot, comparisonL2}) {
                table.gather[codeBinary][comparison] = avx512PopcntGather();
                table.gatherF32[codeBinary][comparison] = avx512PopcntPlanes();
            }
        }
        if (features().bf16) {
            table.pair[codeBf16][comparisonDot] = avx512Bf16DotPair();
            table.gather[codeBf16][comparisonDot] = avx512Bf16DotGather();
        }
        return table;
    }();
    return kernels;
}

}  // namespace

const Kernels& bestKernels() {
    if (features().avx512) return bestAvx512();
    return features().avx2 ? avx2Kernels() : portableKernels();
}

const Kernels* kernelsByName(const char* name) {
    if (!strcmp(name, "portable")) return &portableKernels();
    if (!strcmp(name, "avx2") && features().avx2) return &avx2Kernels();
    if (!strcmp(name, "avx512") && features().avx512) return &bestAvx512();
    return nullptr;
}
#elif defined(__aarch64__)
const Kernels& bestKernels() { return neonKernels(); }
const Kernels* kernelsByName(const char* name) {
    if (!strcmp(name, "portable")) return &portableKernels();
    return strcmp(name, "neon") ? nullptr : &neonKernels();
}
#else
const Kernels& bestKernels() { return portableKernels(); }
const Kernels* kernelsByName(const char* name) { return strcmp(name, "portable") ? nullptr : &portableKernels(); }
#endif
}  // namespace kith
