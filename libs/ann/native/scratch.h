// The buffers of a search.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>
#include "hits.h"

namespace kith {

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

}  // namespace kith
