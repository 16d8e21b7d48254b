#include "rows.h"
#include <algorithm>
#include <thread>
#include "failure.h"

namespace kith {
namespace {

[[noreturn]] void refuse(const char* text) { throw Refusal(Failure::resources, text); }

uint32_t* words(Region& region) { return reinterpret_cast<uint32_t*>(region.data()); }

}  // namespace

uint32_t Rows::rowOf(uint32_t slot, bool isMapped, uint32_t limit) const {
    if (!isMapped) return slot < limit ? slot : noRow;
    if (slot >= __atomic_load_n(&slotLimit_, __ATOMIC_ACQUIRE)) return noRow;
    // Stored plus one, so that untouched memory means "none".
    const uint32_t stored = __atomic_load_n(reinterpret_cast<const uint32_t*>(slotRows_.data()) + slot, __ATOMIC_RELAXED);
    return stored == 0 || stored - 1 >= limit ? noRow : stored - 1;
}

uint32_t Rows::aliveRowOf(uint32_t slot) const {
    const uint32_t row = rowOf(slot, mapped(), count());
    return row != noRow && alive(row) ? row : noRow;
}

void Rows::mapSlots(uint32_t largestSlot, uint32_t total) {
    if (!rowSlots_.data()) {
        if (!rowSlots_.reserve(static_cast<size_t>(rowsMax) * 4, size_t{64} << 20, false) ||
            !slotRows_.reserve(size_t{4} << 32, size_t{64} << 20, false))
            refuse("no address space for the slots; lift the limit on virtual memory (ulimit -v)");
    }
    if (!rowSlots_.commit(static_cast<size_t>(total) * 4)) refuse(outOfRowMemory);
    if (!slotRows_.commit((static_cast<size_t>(largestSlot) + 1) * 4)) refuse(outOfRowMemory);
    if (largestSlot >= slotLimit_) __atomic_store_n(&slotLimit_, largestSlot + 1 ? largestSlot + 1 : largestSlot, __ATOMIC_RELEASE);
}

void Rows::startMapping() {
    const uint32_t rows = count();
    if (rows > 0) {
        mapSlots(rows - 1, rows);
        for (uint32_t row = 0; row < rows; ++row) {
            words(rowSlots_)[row] = row;
            words(slotRows_)[row] = row + 1;
        }
    }
    mapped_.store(true, std::memory_order_release);
}

void Rows::prepare(const uint32_t* slots, uint32_t more) {
    const uint32_t rows = count();
    if (more > rowsMax - rows) refuse("an index holds at most 2147483647 rows; use more shards");
    if (!aliveBits_.data() && !aliveBits_.reserve(rowsMax / 8 + 8, size_t{1} << 20, false))
        refuse("no address space for the rows; lift the limit on virtual memory (ulimit -v)");
    const uint32_t total = rows + more;
    if (!aliveBits_.commit((static_cast<size_t>(total) + 63) / 64 * 8)) refuse(outOfRowMemory);
    uint32_t largestSlot = 0;
    bool equal = true;
    for (uint32_t i = 0; i < more; ++i) {
        equal &= slots[i] == rows + i;
        largestSlot = std::max(largestSlot, slots[i]);
    }
    if (!mapped()) {
        if (equal) return;
        startMapping();
    }
    mapSlots(largestSlot, total);
}

void Rows::publish(const uint32_t* slots, uint32_t more) {
    const uint32_t rows = count_.load(std::memory_order_relaxed);
    uint64_t* alive = reinterpret_cast<uint64_t*>(aliveBits_.data());
    for (uint32_t i = 0; i < more; ++i) {
        const uint32_t row = rows + i;
        __atomic_fetch_or(alive + (row >> 6), uint64_t{1} << (row & 63), __ATOMIC_RELAXED);
        if (mapped()) {
            __atomic_store_n(words(rowSlots_) + row, slots[i], __ATOMIC_RELAXED);
            __atomic_store_n(words(slotRows_) + slots[i], row + 1, __ATOMIC_RELAXED);
        }
    }
    count_.store(rows + more, std::memory_order_release);
}

void Rows::remove(const uint32_t* slots, size_t count) {
    const uint64_t before = removing_.load(std::memory_order_relaxed);
    removing_.store(before + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    for (size_t i = 0; i < count; ++i) removeOne(slots[i]);
    removing_.store(before + 2, std::memory_order_release);
}

uint64_t Rows::removalCount() const {
    for (;;) {
        const uint64_t before = removing_.load(std::memory_order_acquire);
        const uint64_t removals = removals_.load(std::memory_order_acquire);
        std::atomic_thread_fence(std::memory_order_acquire);
        if (before % 2 == 0 && removing_.load(std::memory_order_relaxed) == before) return removals;
        // The remover may wait for this processor.
        std::this_thread::yield();
    }
}

void Rows::removeOne(uint32_t slot) {
    const uint32_t row = aliveRowOf(slot);
    if (row == noRow) return;
    // The order is what searches beside it rely on. The ring, then the number, then the bit: who sees the bit cleared (and
    // fences) sees the number, and who sees the number sees the ring, the count of the dead, and rows added before.
    // The store into the ring is a release too: who reads there what belongs to removal n + removalsKept in place of removal n sees
    // that the number has come to n + removalsKept, for that was stored before.
    const uint64_t removals = removals_.load(std::memory_order_relaxed);
    removed_[removals % removalsKept].store(row, std::memory_order_release);
    dead_.fetch_add(1, std::memory_order_relaxed);
    removals_.store(removals + 1, std::memory_order_release);
    __atomic_fetch_and(reinterpret_cast<uint64_t*>(aliveBits_.data()) + (row >> 6), ~(uint64_t{1} << (row & 63)), __ATOMIC_RELEASE);
}

bool Rows::removedSince(uint64_t from, std::vector<uint32_t>& rows) const {
    rows.clear();
    std::atomic_thread_fence(std::memory_order_acquire);
    const uint64_t to = removals_.load(std::memory_order_acquire);
    if (to - from >= removalsKept) return false;
    for (uint64_t removal = from; removal < to; ++removal) rows.push_back(removed_[removal % removalsKept].load(std::memory_order_acquire));
    return rows.empty() || removals_.load(std::memory_order_relaxed) - from < removalsKept;
}

void Rows::restore(uint32_t total, const std::vector<uint64_t>& aliveBits, const std::vector<uint32_t>& slots) {
    if (!aliveBits_.reserve(rowsMax / 8 + 8, size_t{1} << 20, false) || !aliveBits_.commit(aliveBits.size() * 8)) refuse(outOfRowMemory);
    uint64_t* alive = reinterpret_cast<uint64_t*>(aliveBits_.data());
    uint32_t aliveTotal = 0;
    for (size_t i = 0; i < aliveBits.size(); ++i) {
        alive[i] = aliveBits[i];
        aliveTotal += static_cast<uint32_t>(__builtin_popcountll(aliveBits[i]));
    }
    if (!slots.empty()) {
        mapSlots(*std::max_element(slots.begin(), slots.end()), total);
        for (uint32_t row = 0; row < total; ++row) {
            words(rowSlots_)[row] = slots[row];
            // Rows are in order of addition, so a slot that was used again ends with its newest row.
            words(slotRows_)[slots[row]] = row + 1;
        }
        mapped_.store(true, std::memory_order_release);
    }
    dead_.store(total - aliveTotal, std::memory_order_relaxed);
    count_.store(total, std::memory_order_release);
}

std::vector<uint64_t> Rows::aliveSnapshot(uint32_t total) const {
    std::vector<uint64_t> bits((static_cast<size_t>(total) + 63) / 64);
    for (size_t i = 0; i < bits.size(); ++i) bits[i] = aliveWord(i);
    return bits;
}

size_t Rows::mappingBytes() const {
    const size_t rows = count();
    return (rows + 7) / 8 + (mapped() ? rows * 4 + std::min(static_cast<size_t>(slotLimit_) * 4, rows * 4096) : 0);
}

}  // namespace kith
