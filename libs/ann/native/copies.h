// Rows of the graph whose codes are byte for byte those of an earlier one, the first of its kind.
//
// Rows at one place are all as near to each other as can be: they take each other's links, and a thousand of them become an island
// that leads nowhere and that no other row is linked to. So a copy has no place of its own in the graph. Copies hang on the first row as a
// chain (it links to the newest, each copy to the one before), and whoever chooses links passes them by: a search that comes to the
// first row finds the others, and all else is as if there were one row. recall@1 by a point's own vector, 8,000 directions of 64
// components and copies of one of them, ef 64, before and after:
//
//     copies, when they came      dot              cosine           l2
//     1,000, after the others     0.967 / 1.000    0.998 / 1.000    0.994 / 1.000
//     1,000, among them           0.989 / 1.000    0.998 / 1.000    0.998 / 1.000
//     15,000, after the others    0.848 / 1.000    0.973 / 1.000    0.984 / 1.000
//     15,000, among them          0.964 / 1.000    0.992 / 1.000    0.987 / 1.000
//
// And 15,000 of them are linked in a third of the time.
#pragma once
#include <atomic>
#include <cstdint>
#include "graph.h"
#include "region.h"
#include "rows.h"

namespace kith {

/** For the writer's thread, where nothing else is said. */
class Copies {
public:
    /** Room for so many rows. False where there is no memory. */
    bool reserve(uint32_t rows) {
        if (!bits_.data() && !bits_.reserve(rowsMax / 8 + 8, size_t{1} << 20, false)) return false;
        return bits_.commit((static_cast<size_t>(rows) + 63) / 64 * 8);
    }
    bool any() const { return count() > 0; }
    /** For any thread. */
    uint32_t count() const { return count_.load(std::memory_order_relaxed); }
    bool has(uint32_t row) const { return any() && (words()[row >> 6] >> (row & 63)) & 1; }
    void add(Graph& graph, uint32_t row) {
        graph.at(row).key = key;
        words()[row >> 6] |= uint64_t{1} << (row & 63);
        count_.fetch_add(1, std::memory_order_relaxed);
    }
    /** After loading. */
    void adopt(Graph& graph, uint32_t rows) {
        for (uint32_t row = 0; row < rows; ++row)
            if (static_cast<uint32_t>(graph.at(row).key) == key) add(graph, row);
    }

private:
    /** usearch's key of a copy, in place of its row: so the mark is saved with the graph. No row has this number. */
    static constexpr uint32_t key = rowsMax;
    uint64_t* words() const { return reinterpret_cast<uint64_t*>(bits_.data()); }

    Region bits_;
    std::atomic<uint32_t> count_{0};
};

}  // namespace kith
