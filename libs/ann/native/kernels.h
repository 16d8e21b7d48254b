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

/**
 * How the components of a row are written. i8 and i16 count steps of a scale that the codec knows; binary is one bit, of a component after a rotation: above its
 * offset or not (5 was the same without a rotation, and in no release); i4 is one of 16 levels, 2u - 15 halves of a step above the offset. Byte j of a chunk of i4 holds component j in its lower half, and 64 + j in the upper one.
 * Product codes name one of 16 centroids of 2, 4 or 8 components, and take a 16th, a 32nd or a 64th of f32 (product.h). Byte j holds group 2j in its lower half, and 2j + 1 in the upper one.
 */
enum Code : uint8_t {
    codeF32 = 0, codeF16 = 1, codeBf16 = 2, codeI8 = 3, codeI16 = 4, codeI4 = 6, codeBinary = 7,
    codeProduct16 = 8, codeProduct32 = 9, codeProduct64 = 10, codeCount = 11
};
constexpr uint8_t formerBinaryCode = 5;
constexpr bool isProduct(Code code) { return code >= codeProduct16; }
enum Comparison : uint8_t { comparisonDot = 0, comparisonL2 = 1, comparisonCount = 2 };

constexpr size_t chunkBytes = 64;

/** Components of a group of product codes, and groups of a row. */
constexpr size_t productWidth(Code code) { return code == codeProduct16 ? 2 : code == codeProduct32 ? 4 : 8; }
constexpr size_t productGroups(Code code, size_t dimension) { return (dimension + productWidth(code) - 1) / productWidth(code); }
constexpr size_t productLevels = 16;

/** Bytes of a component of all codes but binary, i4 and product codes. */
constexpr size_t bytesOf(Code code) { return code == codeF32 ? 4 : code == codeI8 ? 1 : 2; }
constexpr size_t bitsOf(Code code) { return code == codeBinary ? 1 : code == codeI4 ? 4 : 8 * bytesOf(code); }
/** Components of a chunk, and chunks of a row. */
constexpr size_t perChunk(Code code) { return isProduct(code) ? 2 * chunkBytes * productWidth(code) : 8 * chunkBytes / bitsOf(code); }
constexpr size_t chunksOf(Code code, size_t dimension) { return (dimension + perChunk(code) - 1) / perChunk(code); }

/**
 * A query that is compared with binary rows is written as so many bits of whole numbers, one plane of all components for each: of every chunk of a
 * row, the planes one after the other. Its raw value is the sum over the bits that are set in the row of 2q - queryLevels, twice the distance
 * of the number q from the middle.
 */
constexpr size_t queryPlanes = 4;
constexpr int64_t queryLevels = (1 << queryPlanes) - 1;

/**
 * A query that is compared with i4 rows is written in whole bytes, two chunks for each of a row, in order. For dot products these are signed numbers of a
 * scale of its own, and a level of a row is 2u - 15. For l2 they are quarters of a step (which are halves of those numbers) above the offset plus `nibbleBias`,
 * which no difference leaves 0..127 by: a level is 4u - 30 plus that.
 */
constexpr int nibbleBias = 98, nibbleQueryMax = 97;

/**
 * A query that is compared with rows of product codes is written as a table of 16 bytes for each group, after a chunk that begins with the number of steps of rows: of 32
 * bytes, 64 groups. The tables of a step: of its byte i and of i + 16, those of the groups in the lower halves, and then those of the groups in the upper ones.
 */
constexpr size_t productStepBytes = 32, productStepTables = 2 * productStepBytes * productLevels;
constexpr size_t productSteps(size_t groups) { return (groups + 2 * productStepBytes - 1) / (2 * productStepBytes); }
constexpr size_t productQueryBytes(size_t groups) { return chunkBytes + productSteps(groups) * productStepTables; }
constexpr size_t productTableAt(size_t group) {
    const size_t byte = group / 2 % productStepBytes;
    return chunkBytes + group / 2 / productStepBytes * productStepTables + byte % 16 * 64 + group % 2 * 32 + byte / 16 * 16;
}

/** distance = constant + factor · raw. */
struct Affine {
    float constant;
    float factor;
};

/** The raw value (dot product or squared distance of the numbers as written) of two rows of `chunks` chunks. */
using PairKernel = float (*)(const void* a, const void* b, size_t chunks);
/** The raw values of one query against the rows `ids`, which lie in one arena with a stride of `chunks` chunks. */
using GatherKernel = void (*)(const void* query, const char* arena, const uint32_t* ids, size_t count, size_t chunks,
                              float* out);
/**
 * Adds to the sum of each row what `partCount` of its chunks, whose numbers are in `parts`, add to its squared distance from a query of f32. All numbers that it
 * adds are 0 or more, so what the sum is above after some chunks it is above after all of them.
 */
using PartKernel = void (*)(const void* query, const char* arena, const uint32_t* ids, size_t count, size_t chunks,
                            const uint16_t* parts, size_t partCount, float* sums);
/** A row as f32: number · scale, plus the offset of its component unless `offset` is null. Fills all of `chunks` chunks. */
using DecodeKernel = void (*)(const char* row, size_t chunks, float scale, const float* offset, float* out);

/** Sums over two vectors of f32, in f64. */
struct ExactSums {
    double dot;
    double squaresA, squaresB;
    /** Of the squared differences. */
    double l2;
};
/** `count` is a multiple of 16. */
using ExactKernel = void (*)(const float* a, const float* b, size_t count, ExactSums* out);

/** Rows of a query that are compared at once with each row of a matrix. */
constexpr size_t queryLanes = 16;
/** Of each row of the query, the best raw value so far (the largest product or the least squared distance), and the row that it is with. */
struct BestRows {
    float value[queryLanes];
    int32_t row[queryLanes];
};
/**
 * Compares `count` rows of f32, of which the first has the number `first`, with `queryLanes` rows of a query. `query`: for each of `dimension` components
 * those of all its rows, aligned to 64 bytes; `stride`: numbers from one row to the next.
 */
using BestKernel = void (*)(const float* query, const float* rows, size_t stride, size_t count, size_t dimension, int32_t first, BestRows* best);
/** Adds factor · code to each sum. `count` is a multiple of 64. */
using AddCodesKernel = void (*)(float* sums, const uint8_t* codes, float factor, size_t count);
/** The places, ascending, of the sums that are `least` or more, which is above 0, as all sums are that are not 0. Returns how many. `count` is a multiple of 64. */
using AtLeastKernel = size_t (*)(const float* sums, size_t count, float least, uint32_t* places);

struct Kernels {
    /** Null for product codes, which are compared with queries alone; so are `gather` and `decode`. */
    PairKernel pair[codeCount][comparisonCount];
    /** The query is written as the rows are. */
    GatherKernel gather[codeCount][comparisonCount];
    /** The query is in f32, whatever the rows are: it is neither rounded nor clipped. For binary rows it is in planes, for i4 rows in bytes, for product codes in tables. */
    GatherKernel gatherF32[codeCount][comparisonCount];
    /** Of f32, f16 and bf16; null for others. */
    PartKernel part[codeCount];
    DecodeKernel decode[codeCount];
    ExactKernel exact;
    BestKernel best[comparisonCount];
    AddCodesKernel addCodes;
    AtLeastKernel atLeast;
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
GatherKernel avx512PopcntGather();
GatherKernel avx512PopcntPlanes();
PairKernel avx512Bf16DotPair();
GatherKernel avx512Bf16DotGather();
#elif defined(__aarch64__)
const Kernels& neonKernels();
#endif

}  // namespace kith
