// Keeps the rows of the graph findable.
//
// HNSW's choice of links may leave a row without any link that leads to it: none of its neighbours takes one back, or
// later rows push the last one out. And a row that lies alone between clusters keeps links that no walk comes by any more
// once the clusters have grown. The invariant:
//
// * Every row of the graph has links that lead to it: `linksMin` of them at least, unless all lists around it are full of
//   rows that have no more themselves. Counts are exact, so this is seen at the add that would break it.
// * A row that ever had fewer, or was missed by a walk to its own vector, is suspect. Suspect rows are looked at again as long as
//   the graph grows: the rows where a walk with a narrow beam ends link to them.
// * When the writer is at rest, every row has been found by such a walk (or was linked from its end) since the graph was a
//   fifth smaller, and every suspect row since it was 1/64 smaller. Index::goOnWithRound makes these rounds.
//
// Measured with 50,000 rows around 200 centres, 2 % of them outliers, M 16, efConstruction 128, own vector, ef 64:
//
//     dimension, metric                 no link leads there   not found          of the outliers
//     64, l2                            108 rows, now 0       179 rows, now 0    78 of 1000, now 0
//     32, l2                            71, now 0             159, now 0         43 of 1019, now 0
//     64, cosine, rows at the centres   1618, now 0           3470, now 6        22 of 795, now 0    (40,000 rows)
//
// 1 to 3 % of the rows are suspect, in the last line 13 %. Islands (rows that have links, but only from each other) were up to 26
// rows of 50,000 with 20 % outliers, now none: the walk to a row's vector starts outside. With dot a row need not be found by
// its own vector, so there a row without any link gets one, and that is all: of 40,000 rows 8 were still in islands.
//
// Of the rows where a walk ends, those with room in their lists are linked from first. Taking full ones first cost recall wherever the
// same rows are in many pools: M 16, efConstruction 128, f32, ef 64, full lists first / those with room first / hnswlib 0.8.0:
//
//     6,144 rows of two ones in 1,024 dimensions, own vector      l2 0.54 / 0.76 / 0.76       cosine 0.93 / 0.94 / 0.85
//     the same once the writer is at rest                         l2 0.83 / 0.95              cosine 0.96 / 0.97
//     8,000 × 300 of word2vec, recall@10 once they are linked     l2 0.959 / 0.986
#pragma once
#include <cstdint>
#include <functional>
#include <vector>
#include "copies.h"
#include "graph.h"
#include "region.h"
#include "rows.h"

namespace kith {

class LinkRepair {
public:
    /** `evicts`: whether a link may take the place of another one. */
    LinkRepair(Graph& graph, uint32_t linksMin, bool evicts) : graph_(graph), linksMin_(linksMin), evicts_(evicts) {}

    /** Room for the counts of so many rows. */
    bool reserve(uint32_t rows);
    /** What an add does to the links of the base level, in this order: its start, links that come and go, its end. */
    void startAdd() {
        underLinked_.clear();
        // All that one add can take a link from: then nothing of it needs memory.
        underLinked_.reserve(graph_.config().connectivity * (graph_.config().connectivity_base + 1) + 1);
    }
    void linked(uint32_t to) { ++counts()[to]; }
    void unlinked(uint32_t to) {
        if (--counts()[to] < linksMin_) underLinked_.push_back(to);
    }
    /** Marks the rows that have too few links now as suspect. A copy has the one that it needs, so it is not named. */
    void endAdd(uint32_t row = noRow);
    /** After loading: counts everything, and marks rows with few links. Copies need no more than the one of their chain. */
    void adopt(uint32_t rows, const Copies& copies);
    /** The rows that the last add or `adopt` found to have too few links. */
    const std::vector<uint32_t>& underLinked() const { return underLinked_; }

    /** Fills in the distances of rows from one. */
    using Measure = std::function<void(uint32_t from, const uint32_t* rows, size_t count, float* distances)>;
    /** Makes `from` link to `to`, unless its list is full and leads elsewhere. */
    bool link(uint32_t from, uint32_t to);
    /** The same where the list is full, instead of to the farthest row that has enough. False when it is not, or there is none. */
    bool linkInstead(uint32_t from, uint32_t to, const Measure& measure);
    bool isSuspect(uint32_t row) const { return static_cast<uint32_t>(graph_.at(row).key) & suspectMark; }
    void mark(uint32_t row) { graph_.at(row).key = row | suspectMark; }
    uint32_t incoming(uint32_t row) const { return counts()[row]; }
    /** For tests: how many of the first `rows` rows have another count than a recount gives. */
    uint32_t miscounted(uint32_t rows) const;
    /** The first suspect row from `row` on, or `end`. */
    uint32_t nextSuspect(uint32_t row, uint32_t end) const;
    size_t bytes(uint32_t rows) const { return static_cast<size_t>(rows) * sizeof(uint32_t); }

private:
    // usearch's key of a row is the row, so its top bit is free: the mark is saved with the graph and costs nothing.
    static constexpr uint32_t suspectMark = 0x80000000u;
    /** Adds the links of the first `rows` rows to `counts`. */
    void countAll(uint32_t rows, uint32_t* counts) const;
    uint32_t* counts() const { return reinterpret_cast<uint32_t*>(counts_.data()); }

    Graph& graph_;
    const uint32_t linksMin_;
    const bool evicts_;
    /** Links at the base level that lead to a row, by row. */
    Region counts_;
    std::vector<uint32_t> underLinked_;
    std::vector<float> measured_;
};

}  // namespace kith
