#include "walk.h"
#include <algorithm>
#include <limits>
#include "beam.h"
#include "scan.h"

namespace kith {
namespace {

/** Up to here one sorted array serves as both queues of the search; beyond, moving its elements costs more than heaps. */
constexpr size_t sortedPoolMax = 512;

}  // namespace

bool searchGraph(SearchContext& context, const Graph& graph) {
    const uint32_t graphRows = context.graphRows;
    const SearchRequest& request = context.request;
    const size_t ef = std::min<size_t>(std::max(request.ef, request.k), graphRows);
    Beam<SearchContext> beam(graph, graphRows, context.scratch, context);
    const Scratch::Candidate start = beam.descend(context.entry, 0);
    bool found;
    if (!context.anyDead && !request.filtered) {
        found = ef <= sortedPoolMax
                    ? beam.sorted(start, 0, ef)
                    : beam.heaps(start, ef, std::numeric_limits<size_t>::max(), [](uint32_t) { return true; });
        return found && context.scratch.pool.size() >= std::min<size_t>(request.k, graphRows);
    }
    // A walk that has measured more rows than the filter allows costs more than measuring those rows: scan them.
    const size_t allowedRows = request.filtered ? std::min<size_t>(filterBits(request), context.rows.aliveCount())
                                              : context.rows.aliveCount();
    const size_t budget = std::max<size_t>(allowedRows, 1000);
    if (!request.filtered) {
        const Rows& rows = context.rows;
        found = beam.heaps(start, ef, budget, [&rows](uint32_t row) { return rows.alive(row); });
    } else {
        found = beam.heaps(start, ef, budget, [&context](uint32_t row) { return context.allowed(row); });
    }
    // Fewer than wanted although there may be more: dead or filtered rows cut the walk off.
    const size_t tailRows = context.rowLimit - graphRows;
    const size_t certain = allowedRows > tailRows ? allowedRows - tailRows : 0;
    return found && context.scratch.pool.size() >= std::min<size_t>(request.k, certain);
}

bool walkToRow(Index& index, uint32_t row, uint32_t rows, uint32_t ef, Scratch& scratch) {
    std::shared_ptr<const Vectors> vectors = index.vectors();
    const Codec& codec = vectors->codec();
    const char *arena = vectors->arena(), *query = vectors->row(row);
    const GatherKernel gather = vectors->gather();
    const SearchRequest request;
    SearchOutcome outcome;
    SearchContext context{request, scratch, outcome, index.rows(), std::move(vectors), gather, arena, query, codec.chunks(),
                          codec.rowAffine(), 0, index.entry(), rows, rows, false, false};
    Beam<SearchContext> beam(index.graph(), rows, scratch, context);
    beam.sorted(beam.descend(context.entry, 0), 0, std::min(ef, rows));
    for (const Scratch::Candidate& near : scratch.pool)
        if (near.row == row) return true;
    float own;
    context.measure(&row, 1, &own);
    return !(own < scratch.pool.back().distance);
}

}  // namespace kith
