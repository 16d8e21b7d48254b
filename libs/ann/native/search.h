// One search: graph, exact scan, or both, on one thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>
#include "hits.h"
#include "index.h"
#include "scratch.h"

namespace kith {

/** Where a long search lets others come in between. */
class Interlude {
public:
    virtual ~Interlude() = default;
    /** Called every few microseconds of a search, with nothing held that others need. */
    virtual void offer() = 0;
    /** How long others ran meanwhile. */
    virtual uint64_t awayNs() const = 0;
};

struct SearchRequest;
struct SearchOutcome;

/** A search that waits for the rows that another one is about to scan. */
struct Companion {
    const SearchRequest& request;
    Scratch& scratch;
    SearchOutcome& outcome;
    /** Whether the outcome is complete; else it is a search of its own still. */
    bool ended = false;
};

/** Those that wait for the same rows as a search. */
class Company {
public:
    virtual ~Company() = default;
    /** Asked once, as all rows that are allowed are about to be scanned. */
    virtual std::vector<Companion>& gather() = 0;
};

struct SearchRequest {
    uint32_t k = 0;
    uint32_t ef = 0;
    bool exact = false;
    /** Rows that are measured as they were given, where that is kept; 0: what is usual for the code. */
    uint32_t scored = 0;
    /** Scores are those of codes, though the rows are kept as they were given. */
    bool codesOnly = false;
    /** The query, f32, `dimension` numbers. */
    const float* query = nullptr;
    /** Whether there is a filter. An empty one allows nothing, and its pointer may be null. */
    bool filtered = false;
    /** Bit s says whether slot s is allowed. */
    const uint8_t* filter = nullptr;
    size_t filterBytes = 0;
    /** Scan exactly these slots when not null. */
    const uint32_t* slots = nullptr;
    size_t slotCount = 0;
    /** Set to non-zero by another thread to end the search. */
    const volatile uint8_t* cancel = nullptr;
    Interlude* interlude = nullptr;
    Company* company = nullptr;
};

enum class Plan : uint32_t { graph = 0, scan = 1, graphAndScan = 2 };

/** What a search did, and what it had been thought to cost. The estimates are 0 where there was nothing to decide. */
struct SearchCosts {
    /** Rows whose links were followed, and rows measured on the way; the other rows measured were scanned. */
    uint32_t visitedRows = 0, walkedRows = 0;
    uint32_t allowedRows = 0;
    uint32_t walkEstimateUs = 0, scanEstimateUs = 0, twoHopsEstimateUs = 0;
    /** Whether the walk was one by two hops. */
    bool twoHops = false;
};

struct SearchOutcome {
    Failure failure;
    std::vector<Hit> hits;
    uint32_t computed = 0;
    SearchCosts costs;
    Plan plan = Plan::scan;
};

/** Empties the outcome. Whether there is anything to search for: false where the request is cancelled, or the index cannot have its query. */
bool prepare(const Index& index, const SearchRequest& request, SearchOutcome& outcome);

void search(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome);

}  // namespace kith
