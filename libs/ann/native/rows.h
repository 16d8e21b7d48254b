// The rows of an index: which are alive, and which of the caller's slots each row carries. Their vectors are in vectors.h.
// One thread (the caller's) changes them; searches and the writer read beside it.
#pragma once
#include <array>
#include <atomic>
#include <cstdint>
#include <vector>
#include "region.h"

namespace kith {

constexpr uint32_t noRow = 0xffffffffu;
/** Rows are numbered below 2^31: searches use the top bit of a row number as a mark. */
constexpr uint32_t rowsMax = 0x7fffffffu;
/** The last removals are remembered for the searches under way: more than one search lasts, unless thousands go at once. */
constexpr uint32_t removalsKept = 4096;
constexpr char outOfRowMemory[] = "no memory for more rows; free memory, or use a smaller datatype or more shards";

class Rows {
public:
    /** Rows that are fully written. Searches take it once and stay below it. */
    uint32_t count() const { return count_.load(std::memory_order_acquire); }
    uint32_t deadCount() const { return dead_.load(std::memory_order_relaxed); }
    uint32_t aliveCount() const { return count_.load(std::memory_order_relaxed) - deadCount(); }
    bool alive(uint32_t row) const { return (aliveWord(row >> 6) >> (row & 63)) & 1; }
    uint64_t aliveWord(size_t word) const {
        return __atomic_load_n(reinterpret_cast<const uint64_t*>(aliveBits_.data()) + word, __ATOMIC_RELAXED);
    }
    /** Whether rows carry slots of their own. While every slot equals its row, no mapping is kept at all. */
    bool mapped() const { return mapped_.load(std::memory_order_acquire); }
    uint32_t slotOf(uint32_t row) const {
        return __atomic_load_n(reinterpret_cast<const uint32_t*>(rowSlots_.data()) + row, __ATOMIC_RELAXED);
    }
    /** The newest row of a slot below `limit`, or noRow. `isMapped` is what mapped() said. */
    uint32_t rowOf(uint32_t slot, bool isMapped, uint32_t limit) const;
    uint32_t aliveRowOf(uint32_t slot) const;

    /** Makes room for `more` rows and for these slots. Changes nothing visible. Throws where there is none. */
    void prepare(const uint32_t* slots, uint32_t more);
    /** Publishes the rows that were written after `prepare`. */
    void publish(const uint32_t* slots, uint32_t more);
    /** Marks the rows of these slots dead, where they are alive. A search sees all of it or nothing. */
    void remove(const uint32_t* slots, size_t count);
    /**
     * How many rows were removed so far; waits for the end of a `remove` under way. A search takes this first and count()
     * second: a row that it regards as dead has a successor that it sees, if the successor was added before the removal.
     */
    uint64_t removalCount() const;
    /** Fills `rows` with those removed since removalCount() was `from`. False when they are no longer remembered. */
    bool removedSince(uint64_t from, std::vector<uint32_t>& rows) const;

    /** For loading: `aliveBits` has (total + 63) / 64 words; `slots` is empty when slots equal rows. Throws where there is no memory. */
    void restore(uint32_t total, const std::vector<uint64_t>& aliveBits, const std::vector<uint32_t>& slots);
    std::vector<uint64_t> aliveSnapshot(uint32_t total) const;

    size_t mappingBytes() const;

private:
    void removeOne(uint32_t slot);
    void startMapping();
    void mapSlots(uint32_t largestSlot, uint32_t total);

    Region aliveBits_;
    Region rowSlots_;
    Region slotRows_;
    uint32_t slotLimit_ = 0;
    std::atomic<uint32_t> count_{0};
    std::atomic<uint32_t> dead_{0};
    /** Removal n is at n % removalsKept. */
    std::array<std::atomic<uint32_t>, removalsKept> removed_{};
    std::atomic<uint64_t> removals_{0};
    /** Odd while a `remove` is under way. */
    std::atomic<uint64_t> removing_{0};
    std::atomic<bool> mapped_{false};
};

}  // namespace kith
