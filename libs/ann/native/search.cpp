#include "search.h"
#include <algorithm>
#include "context.h"
#include "removed.h"
#include "scan.h"
#include "walk.h"

namespace kith {
namespace {

/** A search that could not learn so many times which rows were removed meanwhile scans a copy of what is alive. */
constexpr int attemptsMax = 3;

/** One search over the rows that are alive when it begins. */
Attempt searchOnce(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome, TopK& top) {
    GateReader reader(index.gate());
    SearchContext context = beginSearch(index, request, scratch, outcome);
    const uint32_t graphRows = context.graphRows;
    bool complete = false;
    if (!request.exact && !request.slots && graphRows > 0 && graphRows >= index.options().graphThreshold) {
        complete = searchGraph(context);
        if (complete) {
            for (const Scratch::Candidate& found : scratch.pool) top.offer({found.distance, context.slotOf(found.row)});
        }
    }
    // Rows stay where they are once they are calibrated, so a scan need not keep the writer from growing the graph.
    if (index.calibrated()) reader.leave();
    if (context.cancelled()) return Attempt::cancelled;
    bool finished;
    if (request.slots) {
        finished = scanSlots(context, top);
        outcome.plan = Plan::scan;
    } else if (complete) {
        finished = graphRows == context.rowLimit || scanRows(context, graphRows, top);
        outcome.plan = graphRows == context.rowLimit ? Plan::graph : Plan::graphAndScan;
    } else {
        finished = scanRows(context, 0, top);
        outcome.plan = Plan::scan;
    }
    return finished ? offerRemoved(context, top) : Attempt::cancelled;
}

}  // namespace

void search(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome) {
    outcome.hits.clear();
    outcome.computed = 0;
    if (request.cancel && *request.cancel) {
        outcome.failure.code = Failure::cancelled;
        return;
    }
    const VectorFault fault = index.codec().check(request.query);
    if (fault != VectorFault::none) {
        outcome.failure.code = fault == VectorFault::zero ? Failure::zeroVector : Failure::notFinite;
        return;
    }
    outcome.failure = {};
    TopK top(scratch.best, request.k);
    Attempt attempt = Attempt::overtaken;
    for (int tries = 0; tries < attemptsMax && attempt == Attempt::overtaken; ++tries) {
        top.heap().clear();
        attempt = searchOnce(index, request, scratch, outcome, top);
    }
    if (attempt == Attempt::overtaken) {
        top.heap().clear();
        attempt = scanCopy(index, request, scratch, outcome, top);
    }
    if (attempt == Attempt::cancelled) {
        outcome.failure.code = Failure::cancelled;
        return;
    }
    outcome.hits.assign(top.heap().begin(), top.heap().end());
    std::sort(outcome.hits.begin(), outcome.hits.end());
}

}  // namespace kith
