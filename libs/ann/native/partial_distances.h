// Rows of a scan that a part of their components shows to be too far.
#pragma once
#include <array>
#include "context.h"

namespace kith {

/** Rows per step of a scan: their distances stay in the first cache, and a cancelled scan ends within microseconds. */
constexpr uint32_t scanBlock = 256;

/**
 * Squared distances grow with every chunk. Of each block the chunks are measured first in which the query differs most from rows of the scan, and rows that are farther than
 * the k-th best already go no further; see docs/decisions/0047-partial-distances.md. What is kept is measured again, so that its distances are those of any other scan.
 */
class PartialDistances {
public:
    explicit PartialDistances(SearchContext& context);
    /** Moves to the front, in their order, the rows that may be as near as `worst`. Returns how many; the others count as measured. */
    size_t keep(uint32_t* ids, size_t count, float worst);

private:
    /** Shorter rows are read as fast as a part of them; longer ones would need more room for the order of their chunks. */
    static constexpr size_t chunksLeast = 8, chunksMost = 512;
    static constexpr size_t sampleRows = 32;

    void order();

    SearchContext& context_;
    PartKernel kernel_ = nullptr;
    /** Of the first block. */
    uint32_t sample_[sampleRows];
    size_t sampled_ = 0;
    bool ordered_ = false;
    /** Blocks that are measured in full, since of the one before nearly all rows were kept; and how many it will be the next time. */
    size_t pause_ = 0, nextPause_ = 1;
    /** The chunks of a row, those that tell most first. */
    std::array<uint16_t, chunksMost> parts_;
    std::array<float, scanBlock> sums_;
};

}  // namespace kith
