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
    /** 64-byte aligned. */
    char* queryRow(size_t bytes);
    float* normalizedQuery(size_t count) { return sized(normalized_, count); }
    float* decodedRow(size_t count) { return sized(decoded_, count); }

    struct Candidate {
        float distance;
        uint32_t row;
        bool operator<(const Candidate& other) const { return distance < other.distance; }
        bool operator>(const Candidate& other) const { return distance > other.distance; }
    };
    std::vector<Candidate> pool;
    std::vector<Candidate> frontier;
    /** Rows that a walk begins with. */
    std::vector<Candidate> met;
    std::vector<Hit> best;
    std::vector<uint32_t> ids;
    std::vector<float> distances;
    /** Rows that a walk by two hops goes through without measuring them. */
    std::vector<uint32_t> detours;
    std::vector<uint32_t> removed;

    /** One bit per row; all clear between searches. */
    std::vector<uint64_t> visited;
    /** Words of `visited`; how many of them count, only VisitedRows knows. */
    std::vector<uint32_t> touched;

private:
    static float* sized(std::vector<float>& buffer, size_t count) {
        if (buffer.size() < count) buffer.resize(count);
        return buffer.data();
    }
    std::vector<char> query_;
    std::vector<float> normalized_;
    std::vector<float> decoded_;
};

/** The rows that one walk has visited. One at a time for a scratch. */
class VisitedRows {
public:
    /** At most `step` rows are marked between two calls of `reserve`. */
    VisitedRows(Scratch& scratch, uint32_t rows, size_t step);
    ~VisitedRows();
    VisitedRows(const VisitedRows&) = delete;
    VisitedRows& operator=(const VisitedRows&) = delete;
    void reserve() {
        if (count_ + step_ > scratch_.touched.size()) grow();
    }
    bool has(uint32_t row) const { return (words_[row >> 6] >> (row & 63)) & 1; }
    /** Whether the row had not been marked before. */
    bool mark(uint32_t row) {
        uint64_t& word = words_[row >> 6];
        const uint64_t bit = uint64_t{1} << (row & 63);
        const bool fresh = !(word & bit);
        word |= bit;
        touched_[count_] = row >> 6;
        count_ += fresh;
        return fresh;
    }

private:
    void grow();

    Scratch& scratch_;
    const size_t step_;
    uint64_t* words_;
    uint32_t* touched_;
    size_t count_ = 0;
};

}  // namespace kith
