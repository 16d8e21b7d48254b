#include "walk.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include "beam.h"
#include "plan.h"
#include "score.h"

namespace kith {
namespace {

/** Up to here one sorted array serves as both queues of the search; beyond, moving its elements costs more than heaps. */
constexpr size_t sortedPoolMax = 512;

/** Where slots equal rows, none is dead and the filter covers all of the graph: it alone decides, and stays in registers. */
struct PlainFilter {
    const uint8_t* bits;

    bool operator()(uint32_t row) const { return (bits[row >> 3] >> (row & 7)) & 1; }
};

/** What a walk that may not return every row did: whether it went to its end. */
template <class Allowed>
bool walkAllowed(Beam<SearchContext>& beam, size_t ef, const WalkPlan& plan, bool twoHops, Allowed&& allowed) {
    return twoHops ? beam.twoHops(ef, plan.twoHopsMax, allowed) : beam.heaps(ef, plan.walkedMax, allowed);
}

}  // namespace

bool searchGraph(SearchContext& context, const Graph& graph) {
    const uint32_t graphRows = context.graphRows;
    const SearchRequest& request = context.request;
    // What is to be measured as it was given must be found.
    const size_t wanted = context.given ? scoredRows(context) : request.k;
    const size_t ef = std::min<size_t>(std::max<size_t>(request.ef, wanted), graphRows);
    SearchCosts& costs = context.outcome.costs;
    Beam<SearchContext> beam(graph, graphRows, context.scratch, context);
    const bool every = !context.anyDead && !request.filtered;
    constexpr size_t noBound = std::numeric_limits<size_t>::max();
    WalkPlan plan{context.rowLimit, 0, 0, 0, noBound, noBound, 1};
    if (!every) {
        plan = planWalk(context, ef, graph.config().connectivity_base);
        costs.allowedRows = static_cast<uint32_t>(plan.allowedRows);
        costs.walkEstimateUs = static_cast<uint32_t>(std::ceil(plan.walkNs / 1000));
        costs.scanEstimateUs = static_cast<uint32_t>(std::ceil(plan.scanNs / 1000));
        if (plan.hops()) costs.twoHopsEstimateUs = static_cast<uint32_t>(std::ceil(plan.twoHopsNs / 1000));
        if (!plan.walks() && !plan.hops()) return false;
    }
    const uint32_t before = context.outcome.computed;
    const Scratch::Candidate start = beam.descend(context.entry, 0);
    const auto allowed = [&context](uint32_t row) { return context.allowed(row); };
    // Where the rows around the query are allowed more often than others, few places would reach less far than they ought to; where they are
    // allowed seldom, the walk has a hole to cross, and comes to its other sides by a wider beam alone.
    beam.begin(start);
    const double near = request.filtered ? beam.allowedShare(start, allowed) : plan.part;
    const bool isHole = near < nearPart * plan.part;
    costs.twoHops = !every && plan.hops() && !isHole;
    if (!every && !costs.twoHops && !(isHole ? plan.walksOver() : plan.walks())) {
        costs.walkedRows = context.outcome.computed - before;
        return false;
    }
    const size_t filteredEf = isHole ? std::min<size_t>(ef * 2, graphRows) : filteredBeam(costs.twoHops, request.k, ef, std::max(near, plan.part));
    bool found;
    if (every && ef <= sortedPoolMax) {
        found = beam.sorted(start, 0, ef);
    } else if (every) {
        found = beam.heaps(ef, plan.walkedMax, [](uint32_t) { return true; });
    } else if (!request.filtered) {
        const Rows& rows = context.rows;
        found = beam.heaps(ef, plan.walkedMax, [&rows](uint32_t row) { return rows.alive(row); });
    } else if (!context.mapped && !context.anyDead && request.filterBytes * 8 >= graphRows) {
        found = walkAllowed(beam, filteredEf, plan, costs.twoHops, PlainFilter{request.filter});
    } else {
        found = walkAllowed(beam, filteredEf, plan, costs.twoHops, allowed);
    }
    costs.visitedRows = beam.steps();
    costs.walkedRows = context.outcome.computed - before;
    // Fewer than wanted although there may be more: dead or filtered rows cut the walk off.
    const size_t tailRows = context.rowLimit - graphRows;
    const size_t certain = plan.allowedRows > tailRows ? plan.allowedRows - tailRows : 0;
    return found && context.scratch.pool.size() >= std::min<size_t>(request.k, certain);
}

bool walkToRow(Index& index, uint32_t row, uint32_t rows, uint32_t ef, Scratch& scratch) {
    std::shared_ptr<const Vectors> vectors = index.linkVectors();
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
