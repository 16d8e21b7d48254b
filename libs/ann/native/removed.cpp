#include "removed.h"
#include <algorithm>
#include <functional>
#include "scan.h"
#include "score.h"

namespace kith {
namespace {

/** A copy takes microseconds for a million rows; to spoil one after the other, more rows would have to die than there are. */
constexpr int copiesMax = 1000;

/**
 * Fills scratch.removed with the rows of this search that were removed since it began. False when they are no
 * longer remembered. Where a slot was given to a newer row that the search sees, the older row is none of its rows.
 */
bool removedMeanwhile(SearchContext& context) {
    std::vector<uint32_t>& removed = context.scratch.removed;
    if (!context.rows.removedSince(context.removals, removed)) {
        removed.clear();
        return false;
    }
    if (removed.empty()) return true;
    const auto isOther = [&](uint32_t row) {
        if (row >= context.rowLimit) return true;
        const uint32_t newest = context.rows.rowOf(context.slotOf(row), context.mapped, context.rowLimit);
        return newest != row && newest != noRow;
    };
    removed.erase(std::remove_if(removed.begin(), removed.end(), isOther), removed.end());
    if (context.mapped) keepNewest(removed, [&](uint32_t row) { return context.slotOf(row); }, std::less<uint32_t>());
    return true;
}

}  // namespace

Wanted::Wanted(const SearchContext& context) : context_(context) {
    const SearchRequest& request = context.request;
    if (request.slots) listed_.assign(request.slots, request.slots + request.slotCount);
    std::sort(listed_.begin(), listed_.end());
}

bool Wanted::operator()(uint32_t slot) const {
    if (context_.request.slots) return std::binary_search(listed_.begin(), listed_.end(), slot);
    return !context_.request.filtered || context_.filterAllows(slot);
}

Attempt offerRemoved(SearchContext& context, TopK& top) {
    if (!removedMeanwhile(context)) return Attempt::overtaken;
    std::vector<uint32_t>& removed = context.scratch.removed;
    if (removed.empty()) return Attempt::done;
    const Wanted wanted(context);
    std::vector<uint32_t> found;
    found.reserve(top.heap().size());
    for (const Hit& hit : top.heap()) found.push_back(hit.slot);
    dropFound(removed, found, [&](uint32_t row) { return context.slotOf(row); }, std::less<uint32_t>());
    BlockScanner scanner(context, top);
    for (const uint32_t row : removed) {
        if (wanted(context.slotOf(row)) && !scanner.push(row)) return Attempt::cancelled;
    }
    return scanner.flush() ? Attempt::done : Attempt::cancelled;
}

Attempt scanCopy(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome) {
    for (int copies = 1;; ++copies) {
        SearchContext context = beginSearch(index, request, scratch, outcome);
        if (context.cancelled()) return Attempt::cancelled;
        std::vector<uint64_t> alive = context.rows.aliveSnapshot(context.rowLimit);
        if (!removedMeanwhile(context) && copies < copiesMax) continue;
        for (const uint32_t row : scratch.removed) alive[row >> 6] |= uint64_t{1} << (row & 63);
        const Wanted wanted(context);
        TopK top(scratch.best, scoredRows(context));
        BlockScanner scanner(context, top);
        for (uint32_t row = 0; row < context.rowLimit; ++row) {
            if (!((alive[row >> 6] >> (row & 63)) & 1) || !wanted(context.slotOf(row))) continue;
            if (!scanner.push(row)) return Attempt::cancelled;
        }
        if (!scanner.flush()) return Attempt::cancelled;
        outcome.plan = Plan::scan;
        score(context, top);
        return Attempt::done;
    }
}

}  // namespace kith
