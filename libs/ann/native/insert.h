// Brings rows into the graph: HNSW's insertion (algorithms 1 and 4 of Malkov and Yashunin, 2016).
//
// index_gt's own insertion measures one row at a time and keeps a hash set of those it has visited. Vectors a second on one
// core, M 16, efConstruction 128, f32, l2, 100,000 × 128 (descriptors of photographs): index_gt 4.4k to 4.8k, this 7.3k to 7.4k, at
// the same recall.
#pragma once
#include <cstdint>
#include <vector>
#include "index.h"
#include "lengths.h"
#include "scratch.h"

namespace kith {

/**
 * Distances between rows while they are linked. Between rows that are byte for byte the same, a tiny number that depends on
 * the pair is taken away: with exact ties HNSW's choice of links keeps identical rows only, and a thousand copies of
 * one vector become an island that swallows searches (with 17 % copies recall@10 was 0.91, now 0.997: search.test.ts).
 */
class RowDistances {
public:
    explicit RowDistances(const Index& index);
    float between(uint32_t a, uint32_t b) const;
    /** Of a row of dot. */
    float squaredLength(uint32_t row) const { return -affine_.factor * pair_(at(row), at(row), chunks_); }
    void from(uint32_t row, const uint32_t* rows, size_t count, float* distances) const;

    [[gnu::always_inline]] void prefetch(uint32_t row) const { prefetchRow(at(row), chunks_); }

    bool same(uint32_t a, uint32_t b) const;
    bool isClipped(uint32_t row) const { return vectors_->clipped().count() > 0 && vectors_->clipped().find(row) != nullptr; }
    float tieUnit() const { return tieUnit_; }

private:
    const char* at(uint32_t row) const { return arena_ + row * rowBytes_; }
    float settle(float raw, uint32_t a, uint32_t b) const;

    std::shared_ptr<const Vectors> vectors_;
    PairKernel pair_;
    GatherKernel gather_;
    const char* arena_;
    size_t rowBytes_;
    size_t chunks_;
    Affine affine_;
    /** What counts as a distance of one where distances are 0: 1 for cosine, next to nothing for l2. */
    float tieUnit_;
};

/** Measures the first `rows` rows of a dot index. False where there is no memory. */
bool measureLengths(const Index& index, uint32_t rows, Lengths& lengths);

class Insertion {
public:
    /** One at a time for an index: it is the only one that changes the graph, together with `repair`. */
    /** `lengths` is null but for dot. */
    Insertion(Index& index, LinkRepair& repair, Lengths* lengths, Scratch& scratch);
    /**
     * Appends the node of row graph.size() and links it. False when there is no memory for the node. Everything that may fail
     * comes before the first change: where it throws, the graph is what it was.
     */
    bool add();

private:
    template <bool passesCopies> uint32_t chooseLinks(uint32_t row, uint64_t entry, uint32_t level, uint32_t levels);
    uint32_t firstOf(uint32_t row) const;
    bool addCopy(uint32_t first, uint32_t row);
    void link(uint32_t level, uint32_t row, const std::vector<Scratch::Candidate>& chosen);
    void linkBack(uint32_t level, Scratch::Candidate from, uint32_t row);
    size_t choose(uint32_t from, Scratch::Candidate* items, size_t count, size_t most) const;

    Index& index_;
    Graph& graph_;
    Copies& copies_;
    LinkRepair& repair_;
    Lengths* const lengths_;
    Scratch& scratch_;
    RowDistances distances_;
    /** What the new row will link to, by level. */
    std::vector<std::vector<Scratch::Candidate>> chosen_;
    std::vector<Scratch::Candidate> around_;
    std::vector<float> measured_;
};

}  // namespace kith
