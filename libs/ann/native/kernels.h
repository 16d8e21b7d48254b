// Distance kernels. Every row is a whole number of 64-byte chunks, zero-padded, so that no kernel has a remainder loop;
// zero padding changes neither a dot product nor a squared euclidean distance.
//
// They are our own and not NumKong's (which come with usearch), because a search measures a list of rows at once: four
// rows a step share each load of the query. Nanoseconds per row in the second cache, AVX-512, NumKong's pair against
// our gather, at 128 / 768 dimensions: bf16 dot 3.8 / 22 against 2.5 / 14, bf16 l2 5.1 / 27 against 4.6 / 26 (without
// the cancellation of a² + b² − 2ab), f16 dot 9.0 / 49 against 5.6 / 31, i8 dot 3.8 / 13 against 2.2 / 11, i8 l2
// 4.9 / 19 against 3.5 / 16. For f32 NumKong adds up in f64, which costs more than it gives here.
#pragma once
#include <stddef.h>
#include <stdint.h>

namespace kith {

enum Datatype : uint8_t { datatypeF32 = 0, datatypeF16 = 1, datatypeBf16 = 2, datatypeI8 = 3, datatypeCount = 4 };
enum Comparison : uint8_t { comparisonDot = 0, comparisonL2 = 1, comparisonCount = 2 };

constexpr size_t chunkBytes = 64;

/** The raw value (dot product or squared distance of the stored numbers) of two rows of `chunks` chunks. */
using PairKernel = float (*)(const void* a, const void* b, size_t chunks);
/** The raw values of one query against the rows `ids`, which lie in one arena with a stride of `chunks` chunks. */
using GatherKernel = void (*)(const void* query, const char* arena, const uint32_t* ids, size_t count, size_t chunks,
                              float* out);

struct Kernels {
    PairKernel pair[datatypeCount][comparisonCount];
    GatherKernel gather[datatypeCount][comparisonCount];
    /** "avx512", "avx2", "neon" or "portable". */
    const char* name;
};

/** The best kernels that this CPU runs. */
const Kernels& bestKernels();
/** The kernels of that name, or null where this CPU (or this build) has not got them. */
const Kernels* kernelsByName(const char* name);

// Each is defined in its own translation unit, compiled for its instruction set.
const Kernels& portableKernels();
#if defined(__x86_64__)
const Kernels& avx2Kernels();
const Kernels& avx512Kernels();
PairKernel avx512VnniPair(Comparison comparison);
GatherKernel avx512VnniGather(Comparison comparison);
PairKernel avx512Bf16DotPair();
GatherKernel avx512Bf16DotGather();
#elif defined(__aarch64__)
const Kernels& neonKernels();
#endif

}  // namespace kith
