#include "walk.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include "beam.h"
#include "plan.h"

namespace kith {
namespace {

/** Up to here one sorted array serves as both queues of the search; beyond, moving its elements costs more than heaps. */
constexpr size_t sortedPoolMax = 512;

}  // namespace

bool searchGraph(SearchContext& context, const Graph& graph) {
    const uint32_t graphRows = context.graphRows;
    const SearchRequest& request = context.request;
    const size_t ef = std::min<size_t>(std::max(request.ef, request.k), graphRows);
    SearchCosts& costs = context.outcome.costs;
    Beam<SearchContext> beam(graph, graphRows, context.scratch, context);
    const bool every = !context.anyDead && !request.filtered;
    WalkPlan plan{context.rowLimit, 0, 0, std::numeric_limits<size_t>::max()};
    if (!every) {
        plan = planWalk(context, ef, graph.config().connectivity_base);
        costs.allowedRows = static_cast<uint32_t>(plan.allowedRows);
        costs.walkEstimateUs = static_cast<uint32_t>(std::ceil(plan.walkNs / 1000));
        costs.scanEstimateUs = static_cast<uint32_t>(std::ceil(plan.scanNs / 1000));
        if (!plan.walks()) return false;
    }
    const uint32_t before = context.outcome.computed;
    const Scratch::Candidate start = beam.descend(context.entry, 0);
    bool found;
    if (every && ef <= sortedPoolMax) {
        found = beam.sorted(start, 0, ef);
    } else if (every) {
        found = beam.heaps(start, ef, plan.walkedMax, [](uint32_t) { return true; });
    } else if (!request.filtered) {
        const Rows& rows = context.rows;
        found = beam.heaps(start, ef, plan.walkedMax, [&rows](uint32_t row) { return rows.alive(row); });
    } else {
        found = beam.heaps(start, ef, plan.walkedMax, [&context](uint32_t row) { return context.allowed(row); });
    }
    costs.visitedRows = beam.steps();
    costs.walkedRows = context.outcome.computed - before;
    // Fewer than wanted although there may be more: dead or filtered rows cut the walk off.
    const size_t tailRows = context.rowLimit - graphRows;
    const size_t certain = plan.allowedRows > tailRows ? plan.allowedRows - tailRows : 0;
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
