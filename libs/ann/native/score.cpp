#include "score.h"
#include <algorithm>
#include "removed.h"

namespace kith {

size_t scoredRows(const SearchContext& context) {
    const size_t k = context.request.k;
    const Codec& codec = context.vectors->codec();
    const bool coarse = codec.code() == codeI8 || (codec.code() == codeBf16 && codec.metric() != metricL2);
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
    const Vectors& vectors = *context.vectors;
    const Codec& codec = vectors.codec();
    const size_t count = codec.paddedDimension();
    hits.assign(top.heap().begin(), top.heap().end());
    if (vectors.clipped().farCount() > 0) addFarRows(context, hits);
    float* query = context.scratch.normalizedQuery(count);
    std::copy(context.request.query, context.request.query + codec.dimension(), query);
    std::fill(query + codec.dimension(), query + count, 0.0f);
    float* decoded = context.scratch.decodedRow(count);
    for (Hit& hit : hits) hit.distance = exactDistance(vectors.kernels(), codec.metric(), query, vectors.decode(hit.row, decoded), count);
    std::sort(hits.begin(), hits.end());
    if (hits.size() > context.request.k) hits.resize(context.request.k);
}

}  // namespace kith
