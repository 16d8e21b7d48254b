#include "search.h"
#include <algorithm>
#include "context.h"
#include "removed.h"
#include "scan.h"
#include "score.h"
#include "shared_scan.h"
#include "walk.h"

namespace kith {
namespace {

/** A search that could not learn so many times which rows were removed meanwhile scans a copy of what is alive. */
constexpr int attemptsMax = 3;

/** Graphs of at most so many times the threshold are scanned where few of their rows differ. */
constexpr uint32_t scannedMost = 8;

/**
 * Whether there are rows enough for a walk. Those that differ count: a few hundred that are all as near to each other as can be, with copies of each, do
 * not lead a walk anywhere (47 copies of each of 128 unit vectors: recall@1 0.83 to 0.94), and a scan of no more than eight times the threshold is quick.
 */
bool isWalked(Index& index, uint32_t graphRows) {
    const uint32_t threshold = index.options().graphThreshold;
    if (graphRows == 0 || graphRows < threshold) return false;
    return graphRows - std::min(graphRows, index.copies().count()) >= threshold || graphRows / scannedMost >= threshold;
}

/** One search over the rows that are alive when it begins. */
Attempt searchOnce(Index& index, SearchContext& context, TopK& top) {
    const SearchRequest& request = context.request;
    const uint32_t graphRows = context.graphRows;
    bool complete = false;
    if (!request.exact && !request.slots && isWalked(index, graphRows)) {
        complete = searchGraph(context, index.graph());
        if (complete) {
            for (const Scratch::Candidate& found : context.scratch.pool)
                top.offer({found.distance, context.slotOf(found.row), found.row});
        }
    }
    if (context.cancelled()) return Attempt::cancelled;
    bool finished;
    if (request.slots) {
        finished = scanSlots(context, top);
        context.outcome.plan = Plan::scan;
    } else if (complete) {
        finished = graphRows == context.rowLimit || scanRows(context, graphRows, top);
        context.outcome.plan = graphRows == context.rowLimit ? Plan::graph : Plan::graphAndScan;
    } else {
        context.outcome.plan = Plan::scan;
        finished = request.company ? scanInCompany(index, context, top) : scanRows(context, 0, top);
    }
    return finished ? offerRemoved(context, top) : Attempt::cancelled;
}

}  // namespace

bool prepare(const Index& index, const SearchRequest& request, SearchOutcome& outcome) {
    outcome.hits.clear();
    outcome.computed = 0;
    outcome.costs = {};
    outcome.failure = {};
    if (request.cancel && *request.cancel) {
        outcome.failure.code = Failure::cancelled;
        return false;
    }
    outcome.failure = index.checkQuery(request.query);
    return !outcome.failure;
}

void search(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome) {
    if (!prepare(index, request, outcome)) return;
    Attempt attempt = Attempt::overtaken;
    for (int tries = 0; tries < attemptsMax && attempt == Attempt::overtaken; ++tries) {
        SearchContext context = beginSearch(index, request, scratch, outcome);
        TopK top(scratch.best, scoredRows(context));
        attempt = searchOnce(index, context, top);
        if (attempt == Attempt::done) score(context, top);
    }
    if (attempt == Attempt::overtaken) attempt = scanCopy(index, request, scratch, outcome);
    if (attempt == Attempt::cancelled) outcome.failure.code = Failure::cancelled;
}

}  // namespace kith
