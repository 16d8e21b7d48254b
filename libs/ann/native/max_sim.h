// Exact MaxSim of one query over many matrices.
#pragma once
#include <algorithm>
#include <atomic>
#include <memory>
#include <vector>
#include "clock.h"
#include "matrices.h"

namespace kith {

struct MaxSimRequest {
    std::shared_ptr<const Matrices> matrices;
    uint32_t k = 0;
    /** All matrices below `count` that were alive at `change`, ... */
    uint32_t count = 0, change = 0;
    bool filtered = false;
    /** ... of these those that the filter of slots allows, ... */
    std::vector<uint8_t> filter;
    /** ... or exactly these, each once. */
    bool listed = false;
    std::vector<uint32_t> list;
    const volatile uint8_t* cancel = nullptr;
};

/** A query that was prepared, which any number of threads may compare at once. */
class MaxSim {
public:
    /** `query`: `rows` vectors as they were given. */
    MaxSim(const MaxSimRequest& request, const float* query, uint32_t rows);

    /** Buffers of one thread. */
    struct Buffers {
        std::vector<char> decoded, block;
        uint32_t computed = 0;
    };
    /** Where to begin and end: matrices, or places of the list. */
    uint32_t end() const { return request_.listed ? static_cast<uint32_t>(request_.list.size()) : request_.count; }
    /** Adds the nearest of a range to the heap, by distances as the kernels give them. False when the search was cancelled. */
    bool scan(uint32_t from, uint32_t to, Buffers& buffers, TopK& top, Interlude* interlude) const;
    /** Computes the distances of hits again, in f64 by the rows that are nearest, and leaves the k nearest in order. False when the search was cancelled. */
    bool finish(std::vector<Hit>& hits, Buffers& buffers, Interlude* interlude) const;
    /** How many are to be found for k results: the kernels round. */
    size_t wanted() const { return size_t{request_.k} + 16; }
    const MaxSimRequest& request() const { return request_; }

private:
    bool goesOn(Interlude* interlude) const {
        if (interlude) interlude->offer();
        return !(request_.cancel && *request_.cancel);
    }
    /** Of the rows of the query from `group` · queryLanes on, the best raw values (products or squared distances) with all rows of a matrix. */
    void compare(uint32_t group, const Matrices::Place& place, Buffers& buffers, BestRows& best) const;
    uint32_t groups() const { return (rows_ + queryLanes - 1) / queryLanes; }
    uint32_t rowsOf(uint32_t group) const { return std::min<uint32_t>(queryLanes, rows_ - group * queryLanes); }
    const float* queryAt(uint32_t row) const { return reinterpret_cast<const float*>(query_ + row * queryBytes_); }

    MaxSimRequest request_;
    const Matrices& matrices_;
    const uint32_t rows_;
    size_t queryBytes_;
    const Comparison comparison_;
    std::vector<char> memory_, lanesMemory_;
    char* query_;
    /** The rows of the query by groups: of each component those of all rows of the group. */
    float* lanes_;
};

}  // namespace kith
