#include "score.h"
#include <algorithm>
#include "removed.h"

namespace kith {

namespace {

/** What is measured again of binary rows where the query does not say: see docs/decisions/0028-generations.md. */
constexpr size_t binaryFactor = 5, binaryMore = 50;
/** Of i4 rows: see docs/decisions/0032-four-bits.md. */
constexpr size_t nibbleFactor = 2, nibbleMore = 20;
/** Of product codes, of 2, 4 and 8 components: see docs/decisions/0040-product-quantization.md. */
constexpr size_t product16Factor = 3, product16More = 30, product32Factor = 5, product32More = 50, product64Factor = 10, product64More = 100;
/** Of a row; the processor sees by itself what comes next. */
constexpr size_t prefetchedLines = 4;

}  // namespace

size_t scoredRows(const SearchContext& context) {
    const size_t k = context.request.k;
    const Codec& codec = context.vectors->codec();
    if (context.given && codec.code() != codeF32) {
        if (context.request.scored > 0) return std::max<size_t>(k, context.request.scored);
        if (codec.code() == codeBinary) return k * binaryFactor + binaryMore;
        if (codec.code() == codeI4) return k * nibbleFactor + nibbleMore;
        if (codec.code() == codeProduct16) return k * product16Factor + product16More;
        if (codec.code() == codeProduct32) return k * product32Factor + product32More;
        if (codec.code() == codeProduct64) return k * product64Factor + product64More;
    }
    const bool coarse = codec.code() == codeI8 || codec.code() == codeI4 || (codec.code() == codeBf16 && codec.metric() != metricL2);
    return coarse ? k + std::max<size_t>(16, k / 2) : k;
}

namespace {

void addFarRows(const SearchContext& context, std::vector<Hit>& hits) {
    const ClippedRows& clipped = context.vectors->clipped();
    const Wanted wanted(context);
    for (uint32_t i = 0, far = clipped.farCount(); i < far; ++i) {
        const uint32_t row = clipped.rowAt(clipped.farAt(i));
        if (row >= context.rowLimit || !context.rows.alive(row) || !wanted(context.slotOf(row))) continue;
        const auto isRow = [row](const Hit& hit) { return hit.row == row; };
        if (std::none_of(hits.begin(), hits.end(), isRow)) hits.push_back({0, context.slotOf(row), row});
    }
}

}  // namespace

void score(SearchContext& context, TopK& top) {
    std::vector<Hit>& hits = context.outcome.hits;
    const Vectors& vectors = context.given ? *context.given : *context.vectors;
    const Codec& codec = vectors.codec();
    const size_t count = codec.paddedDimension();
    hits.assign(top.heap().begin(), top.heap().end());
    if (context.vectors->clipped().farCount() > 0) addFarRows(context, hits);
    if (context.given) {
        // From anywhere in a large file: they are on their way together.
        for (const Hit& hit : hits)
            for (size_t line = 0; line < std::min<size_t>(codec.chunks(), prefetchedLines); ++line) __builtin_prefetch(vectors.row(hit.row) + line * chunkBytes);
    }
    float* query = context.scratch.normalizedQuery(count);
    std::copy(context.request.query, context.request.query + codec.dimension(), query);
    std::fill(query + codec.dimension(), query + count, 0.0f);
    float* decoded = context.scratch.decodedRow(count);
    for (Hit& hit : hits) hit.distance = exactDistance(vectors.kernels(), codec.metric(), query, vectors.decode(hit.row, decoded), count);
    std::sort(hits.begin(), hits.end());
    if (hits.size() > context.request.k) hits.resize(context.request.k);
}

}  // namespace kith
