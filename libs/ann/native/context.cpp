#include "context.h"
#include <utility>

namespace kith {
namespace {

/** Codes that keep so little of a row that nearest rows may not be among those that look best. */
bool isCoarse(const Codec& codec) { return codec.code() == codeBinary || codec.code() == codeI4 || isProduct(codec.code()); }

}  // namespace

SearchContext beginSearch(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome) {
    const Rows& rows = index.rows();
    // In this order: removals before rows (see removalCount); the entry is always among the graph's rows, those among all rows, and
    // these in the vectors.
    const uint64_t removals = rows.removalCount();
    const uint64_t entry = index.entry();
    const uint32_t graphRows = index.graphRows();
    const uint32_t count = rows.count();
    std::shared_ptr<const Vectors> vectors = index.vectors();
    const Vectors* given = request.codesOnly ? nullptr : index.given();
    // An exact search finds the nearest rows: where codes would decide which rows are looked at, the rows themselves are compared.
    if (request.exact && given && isCoarse(vectors->codec())) vectors = {std::shared_ptr<const Vectors>(), std::exchange(given, nullptr)};
    const Codec& codec = vectors->codec();
    float* normalized = scratch.normalizedQuery(codec.paddedDimension());
    codec.normalize(request.query, normalized);
    char* query = scratch.queryRow(codec.queryBytes());
    const PreparedQuery prepared = codec.encodeQuery(normalized, index.kernels(), query);
    const char* arena = vectors->arena();
    return {request, scratch, outcome, rows, std::move(vectors), prepared.gather, arena, query, codec.chunks(), prepared.affine,
            removals, entry, graphRows, count, rows.mapped(), rows.deadCount() > 0, given};
}

}  // namespace kith
