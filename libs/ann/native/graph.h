// The HNSW graph: usearch's index_gt builds it, links it and serialises it; the vectors stay in our arena. Row r is
// usearch's slot r, because one writer adds the rows in order.
#pragma once
#include <cstring>
#include <memory>
#include <new>
#include <usearch/index.hpp>
#include "codec.h"
#include "region.h"
#include "rows.h"

namespace kith {

/** Nodes of the graph, one after the other, never freed singly. */
class NodeTape {
public:
    char* allocate(size_t bytes) {
        // A node starts with 6 bytes of key and level. At an address of 4n + 2 its link lists are 4-byte aligned, so a
        // search beside the writer never reads half of a link.
        const size_t start = usedBytes_ == 0 ? 2 : usedBytes_;
        const size_t end = start + (bytes + 3) / 4 * 4;
        if (!region_.data() && !region_.reserve(reservationBytes(), size_t{64} << 20, true)) return nullptr;
        if (!region_.commit(end)) return nullptr;
        usedBytes_ = end;
        return region_.data() + start;
    }
    size_t usedBytes() const { return usedBytes_; }

private:
    Region region_;
    size_t usedBytes_ = 0;
};

/** The allocator form of a NodeTape that index_gt wants: copies share one tape. */
class TapeAllocator {
public:
    using value_type = char;
    char* allocate(size_t bytes) {
        if (!tape_) tape_ = std::make_shared<NodeTape>();
        return tape_->allocate(bytes);
    }
    void deallocate(char*, size_t) {}
    /** index_gt asks for it to know that nodes need not be freed one by one. */
    void reset() { tape_.reset(); }
    size_t usedBytes() const { return tape_ ? tape_->usedBytes() : 0; }

private:
    std::shared_ptr<NodeTape> tape_;
};

using Graph = unum::usearch::index_gt<float, uint32_t, uint32_t, std::allocator<char>, TapeAllocator>;

/** Keeps NaN and infinity (overflow of f32 sums) out of the heaps, whose order they would break. */
inline float sane(float distance) {
    constexpr float most = 3.4028234e38f;
    return distance <= most ? (distance >= -most ? distance : -most) : most;
}

/** A vector in row format that may lie outside the arena; `id` is its row, or noRow when it is a query. */
struct RowPointer {
    const char* row;
    uint32_t id;
};

/** The links of one row at the base level, in place: a count, then rows, 4-byte aligned. Searches read them meanwhile. */
class BaseLinks {
public:
    BaseLinks(Graph& graph, uint32_t row) : words_(reinterpret_cast<uint32_t*>(graph.at(row).key.ptr() + nodeHeadBytes)) {}
    uint32_t size() const { return words_[0]; }
    uint32_t operator[](uint32_t i) const { return words_[1 + i]; }
    bool has(uint32_t row) const {
        for (uint32_t i = 0; i < size(); ++i)
            if (words_[1 + i] == row) return true;
        return false;
    }
    void append(uint32_t row) {
        __atomic_store_n(words_ + 1 + size(), row, __ATOMIC_RELAXED);
        __atomic_store_n(words_, size() + 1, __ATOMIC_RELEASE);
    }
    void replace(uint32_t i, uint32_t row) { __atomic_store_n(words_ + 1 + i, row, __ATOMIC_RELEASE); }
    /** Count and links as they are now. */
    const uint32_t* words() const { return words_; }

private:
    /** Key and level. */
    static constexpr size_t nodeHeadBytes = 6;
    uint32_t* words_;
};

/**
 * Remembers the base links of the rows whose full lists an add is about to rewrite. index_gt says so through the metric
 * alone: it measures the new row against such a row, and next that row against the first of its links. The same pair of
 * calls may come by chance; then a list that does not change is remembered, which is harmless.
 */
class LinkJournal {
public:
    explicit LinkJournal(Graph& graph)
        : graph_(graph), stride_(graph.config().connectivity_base + 1), most_(graph.config().connectivity * levelsMax) {}
    bool begin() {
        if (!lists_) lists_.reset(new (std::nothrow) uint32_t[stride_ * most_]);
        if (!rows_) rows_.reset(new (std::nothrow) uint32_t[most_]);
        count_ = 0;
        measured_ = noRow;
        return lists_ && rows_;
    }
    void newRowWith(uint32_t row) { measured_ = row; }
    void pairFrom(uint32_t row) {
        if (row != measured_) return;
        measured_ = noRow;
        if (count_ == most_ || find(row)) return;
        const BaseLinks links(graph_, row);
        rows_[count_] = row;
        std::memcpy(&lists_[stride_ * count_], links.words(), (links.size() + 1) * sizeof(uint32_t));
        ++count_;
    }
    /** A count and the links, or null. */
    const uint32_t* find(uint32_t row) const {
        for (size_t i = 0; i < count_; ++i)
            if (rows_[i] == row) return &lists_[stride_ * i];
        return nullptr;
    }

private:
    /** Lists of upper levels trigger it too; even with M 2 one row in 2^32 would have more levels. */
    static constexpr size_t levelsMax = 32;
    Graph& graph_;
    size_t stride_, most_, count_ = 0;
    uint32_t measured_ = noRow;
    std::unique_ptr<uint32_t[]> lists_, rows_;
};

/**
 * Distances for index_gt while it builds. Between rows that are byte for byte the same, a tiny number that depends on
 * the pair is taken away: with exact ties HNSW's choice of links keeps identical rows only, and a thousand copies of
 * one vector become an island that swallows searches (with 17 % copies recall@10 was 0.91, now 0.997: search.test.ts).
 */
struct GraphMetric {
    PairKernel pair;
    const char* arena;
    size_t rowBytes;
    size_t chunks;
    Affine affine;
    /** What counts as a distance of one where distances are 0: 1 for cosine, next to nothing for l2. */
    float tieUnit;
    /** While rows are added. */
    LinkJournal* journal = nullptr;

    float between(const char* a, const char* b) const {
        return sane(affine.constant + affine.factor * pair(a, b, chunks));
    }
    float between(const char* a, uint32_t idA, const char* b, uint32_t idB) const {
        const float distance = between(a, b);
        uint64_t headA, headB;
        std::memcpy(&headA, a, sizeof headA);
        std::memcpy(&headB, b, sizeof headB);
        if (headA != headB || idA == idB || std::memcmp(a, b, rowBytes) != 0) return distance;
        const uint64_t low = idA < idB ? idA : idB, high = idA < idB ? idB : idA;
        const uint64_t mixed = ((high << 32) | low) * 0x9e3779b97f4a7c15ull;
        const float fraction = static_cast<float>(((mixed ^ (mixed >> 29)) * 0xbf58476d1ce4e5b9ull) >> 40) * 0x1p-24f;
        const float size = distance < 0 ? -distance : distance;
        return distance - fraction * 1e-6f * (size > tieUnit ? size : tieUnit);
    }
    template <class Entry> const char* at(const Entry& entry) const { return arena + get_slot(entry) * rowBytes; }
    template <class Entry> float operator()(const RowPointer& value, const Entry& entry) const {
        if (value.id == noRow) return between(value.row, at(entry));
        if (journal) journal->newRowWith(static_cast<uint32_t>(get_slot(entry)));
        return between(value.row, value.id, at(entry), static_cast<uint32_t>(get_slot(entry)));
    }
    template <class Entry> float operator()(const Entry& a, const Entry& b) const {
        if (journal) journal->pairFrom(static_cast<uint32_t>(get_slot(a)));
        return between(at(a), static_cast<uint32_t>(get_slot(a)), at(b), static_cast<uint32_t>(get_slot(b)));
    }
};

/** Asks for the rows that index_gt is about to compare. Inlined by force: GCC drops calls that only prefetch. */
struct GraphPrefetch {
    const char* arena;
    size_t rowBytes;
    template <class Iterator> [[gnu::always_inline]] void operator()(Iterator from, Iterator to) const {
        const size_t lines = rowBytes / chunkBytes < 8 ? rowBytes / chunkBytes : 8;
        for (; from != to; ++from) {
            const char* row = arena + get_slot(from) * rowBytes;
            for (size_t line = 0; line < lines; ++line) __builtin_prefetch(row + line * chunkBytes, 0, 3);
        }
    }
};

}  // namespace kith
