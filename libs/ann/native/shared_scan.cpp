#include "shared_scan.h"
#include <array>
#include <atomic>
#include <deque>
#include "plan.h"
#include "removed.h"
#include "scan.h"
#include "score.h"

namespace kith {
namespace {

std::atomic<uint64_t> served{0};

/** A scan that is thought to take less is over before it has looked for company in the queue. */
constexpr double sharedLeastNs = 20'000;

bool isWorthSharing(const SearchContext& context) {
    const size_t allowed = context.outcome.costs.allowedRows;
    return scanCostNs(allowed > 0 ? allowed : allowedRows(context), context.chunks * chunkBytes) >= sharedLeastNs;
}

/** A companion under way. */
struct Member {
    Member(Index& index, Companion& companion)
        : companion(companion), context(beginSearch(index, companion.request, companion.scratch, companion.outcome)),
          top(companion.scratch.best, scoredRows(context)), scanner(context, top) {}

    Companion& companion;
    SearchContext context;
    TopK top;
    BlockScanner scanner;
    bool isCancelled = false;
};

/** Collects rows, and has each block measured for one search after the other. */
class SharedScanner {
public:
    SharedScanner(SearchContext& context, TopK& top, std::deque<Member>& members) : context_(context), scanner_(context, top), members_(members) {}
    /** False when all searches were cancelled. */
    bool push(uint32_t row) {
        rows_[count_++] = row;
        return count_ < scanBlock || flush();
    }
    bool flush() {
        // Whoever is cancelled, this is where others come in between.
        isCancelled_ = isCancelled_ ? context_.cancelled() : !scanner_.measure(rows_.data(), count_);
        bool goesOn = !isCancelled_;
        for (Member& member : members_) {
            member.isCancelled = member.isCancelled || !member.scanner.measure(rows_.data(), count_);
            goesOn = goesOn || !member.isCancelled;
        }
        count_ = 0;
        return goesOn;
    }
    bool isCancelled() const { return isCancelled_; }

private:
    SearchContext& context_;
    BlockScanner scanner_;
    std::deque<Member>& members_;
    std::array<uint32_t, scanBlock> rows_;
    size_t count_ = 0;
    bool isCancelled_ = false;
};

/** Brings a companion to its end, unless it was overtaken. */
void end(Member& member, const SearchCosts& costs) {
    SearchOutcome& outcome = member.companion.outcome;
    const Attempt attempt = member.isCancelled ? Attempt::cancelled : offerRemoved(member.context, member.top);
    if (attempt == Attempt::overtaken) return;
    if (attempt == Attempt::cancelled) outcome.failure.code = Failure::cancelled;
    else score(member.context, member.top);
    outcome.plan = Plan::scan;
    outcome.costs.allowedRows = costs.allowedRows;
    outcome.costs.walkEstimateUs = costs.walkEstimateUs;
    outcome.costs.scanEstimateUs = costs.scanEstimateUs;
    outcome.costs.twoHopsEstimateUs = costs.twoHopsEstimateUs;
    member.companion.ended = true;
    served.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

bool scanInCompany(Index& index, SearchContext& context, TopK& top) {
    if (!isWorthSharing(context)) return scanRows(context, 0, top);
    std::deque<Member> members;
    for (Companion& companion : context.request.company->gather()) {
        companion.ended = !prepare(index, companion.request, companion.outcome);
        if (companion.ended) continue;
        Member& member = members.emplace_back(index, companion);
        // What was removed since a search began is offered to it again at its end, if it was told that there are dead rows at all.
        if (member.context.rowLimit != context.rowLimit || member.context.anyDead != context.anyDead) members.pop_back();
    }
    if (members.empty()) return scanRows(context, 0, top);
    SharedScanner scanner(context, top, members);
    scanAllowed(context, scanner);
    for (Member& member : members) end(member, context.outcome.costs);
    return !scanner.isCancelled();
}

uint64_t companionsServed() { return served.load(std::memory_order_relaxed); }

}  // namespace kith
