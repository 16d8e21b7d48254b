// One search: graph, exact scan, or both, on one thread.
#pragma once
#include <atomic>
#include <cstdint>
#include <vector>
#include "index.h"

namespace kith {

struct SearchRequest {
    uint32_t k = 0;
    uint32_t ef = 0;
    bool exact = false;
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
};

enum class Plan : uint32_t { graph = 0, scan = 1, graphAndScan = 2 };

struct Hit {
    float distance;
    uint32_t slot;
    bool operator<(const Hit& other) const {
        return distance < other.distance || (distance == other.distance && slot < other.slot);
    }
};

struct SearchOutcome {
    Failure::Code failure = Failure::none;
    std::vector<Hit> hits;
    uint32_t computed = 0;
    Plan plan = Plan::scan;
};

/** Buffers that a thread keeps from one search to the next. */
class Scratch {
public:
    char* queryRow(size_t bytes);

    struct Candidate {
        float distance;
        uint32_t row;
        bool operator<(const Candidate& other) const { return distance < other.distance; }
        bool operator>(const Candidate& other) const { return distance > other.distance; }
    };
    std::vector<Candidate> pool;
    std::vector<Candidate> frontier;
    std::vector<Hit> best;
    std::vector<uint32_t> ids;
    std::vector<float> distances;
    std::vector<uint32_t> killed;

    /** One bit per row; all clear between searches. */
    std::vector<uint64_t> visited;
    std::vector<uint32_t> touched;
    void prepareVisited(uint32_t rows);
    bool visit(uint32_t row) {
        uint64_t& word = visited[row >> 6];
        const uint64_t bit = uint64_t{1} << (row & 63);
        if (word & bit) return false;
        word |= bit;
        touched.push_back(row >> 6);
        return true;
    }
    void clearVisited();

private:
    std::vector<char> query_;
};

/**
 * For the writer: fills scratch.pool with the nearest that a walk to the row's own vector finds among the first `rows` rows of
 * the graph, nearest first. False when it has not found the row although that is nearer than others in the pool.
 */
bool walkToRow(Index& index, uint32_t row, uint32_t rows, uint32_t ef, Scratch& scratch);

void search(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome);

}  // namespace kith
