// The HNSW graph: the nodes, their levels and their file are those of usearch's index_gt; who links to whom is decided by
// insert.h, and the vectors stay in our arena. Row r is usearch's slot r, because one writer adds the rows in order.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>
#include <usearch/index.hpp>
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

/** Whether an element is a node of index_gt, whose type has no public name. */
template <class Element, class = void> constexpr bool isNode = false;
template <class Element> constexpr bool isNode<Element, decltype(static_cast<void>(std::declval<Element>().neighbors_tape()))> = true;

/**
 * The allocator of index_gt's tables. The table of nodes gets address space for all nodes that there may ever be, so that it
 * never moves: searches read it without a lock while it grows. What else index_gt allocates is small.
 */
template <class Element> class TableAllocator {
public:
    using value_type = Element;
    template <class Other> struct rebind { using other = TableAllocator<Other>; };
    Element* allocate(size_t count) {
        if constexpr (isNode<Element>) {
            // The region is remembered in front of what it holds.
            auto region = std::make_unique<Region>();
            if (!region->reserve((static_cast<size_t>(rowsMax) + 1) * sizeof(void*), size_t{1} << 20, false)) return nullptr;
            if (!region->commit((count + 1) * sizeof(void*))) return nullptr;
            Region** at = reinterpret_cast<Region**>(region->data());
            *at = region.release();
            return reinterpret_cast<Element*>(at + 1);
        } else {
            return static_cast<Element*>(std::malloc(count * sizeof(Element)));
        }
    }
    void deallocate(Element* data, size_t) {
        if constexpr (isNode<Element>) {
            if (data) delete *(reinterpret_cast<Region**>(data) - 1);
        } else {
            std::free(data);
        }
    }
};

using Graph = unum::usearch::index_gt<float, uint32_t, uint32_t, TableAllocator<char>, TapeAllocator>;

// index_gt appends a node only together with a search and links of its own, which take twice as long as ours (insert.h). The
// parts of it that appending a node needs are private; an explicit instantiation may name them, and nothing else may.
template <class Part, auto member> struct Reveal {
    friend constexpr auto memberOf(Part) { return member; }
};
struct GraphMakeNode { friend constexpr auto memberOf(GraphMakeNode); };
struct GraphNodes { friend constexpr auto memberOf(GraphNodes); };
struct GraphNodeCount { friend constexpr auto memberOf(GraphNodeCount); };
struct GraphEntry { friend constexpr auto memberOf(GraphEntry); };
struct GraphTopLevel { friend constexpr auto memberOf(GraphTopLevel); };
template struct Reveal<GraphMakeNode, &Graph::node_make_>;
template struct Reveal<GraphNodes, &Graph::nodes_>;
template struct Reveal<GraphNodeCount, &Graph::nodes_count_>;
template struct Reveal<GraphEntry, &Graph::entry_slot_>;
template struct Reveal<GraphTopLevel, &Graph::max_level_>;

/** Prepares a new or a loaded graph for `appendNode`. False where there is no memory. Before the first search: the table moves. */
inline bool startGraph(Graph& graph) { return graph.try_reserve(unum::usearch::index_limits_t(graph.size() + 1, 1)); }

/** Appends the node of row graph.size(), without links. False when there is no memory for it. */
inline bool appendNode(Graph& graph, uint32_t level) {
    const size_t row = graph.size();
    Region* table = *(reinterpret_cast<Region**>((graph.*memberOf(GraphNodes{})).data()) - 1);
    if (!table->commit((row + 2) * sizeof(void*))) return false;
    const auto node = (graph.*memberOf(GraphMakeNode{}))(static_cast<uint32_t>(row), static_cast<int16_t>(level));
    if (!node) return false;
    (graph.*memberOf(GraphNodes{}))[row] = node;
    (graph.*memberOf(GraphNodeCount{})).store(row + 1);
    return true;
}

/** Where index_gt's own searches begin, and what it saves as such. */
inline void setEntry(Graph& graph, uint32_t row, uint32_t level) {
    graph.*memberOf(GraphEntry{}) = row;
    graph.*memberOf(GraphTopLevel{}) = static_cast<int16_t>(level);
}

/** Keeps NaN and infinity (overflow of f32 sums) out of the heaps, whose order they would break. */
inline float sane(float distance) {
    constexpr float most = 3.4028234e38f;
    return distance <= most ? (distance >= -most ? distance : -most) : most;
}

/**
 * The links of one row at one of its levels, in place: a count, then rows, 4-byte aligned. One writer changes them while
 * searches read: what these find may be old or new, link by link, but never half of one.
 */
class Links {
public:
    Links(const Graph& graph, uint32_t row, uint32_t level)
        : words_(reinterpret_cast<uint32_t*>(const_cast<char*>(nodeOf(graph, row)) + nodeHeadBytes)) {
        const auto& config = graph.config();
        if (level > 0) words_ += config.connectivity_base + 1 + (level - 1) * (config.connectivity + 1);
    }
    uint32_t size() const { return __atomic_load_n(words_, __ATOMIC_ACQUIRE); }
    uint32_t operator[](uint32_t i) const { return __atomic_load_n(words_ + 1 + i, __ATOMIC_RELAXED); }
    bool has(uint32_t row) const {
        for (uint32_t i = 0, count = size(); i < count; ++i)
            if ((*this)[i] == row) return true;
        return false;
    }
    /** The links in a row, for the writer, who alone changes them. */
    const uint32_t* rows() const { return words_ + 1; }
    void replace(uint32_t i, uint32_t row) { __atomic_store_n(words_ + 1 + i, row, __ATOMIC_RELEASE); }
    void resize(uint32_t count) { __atomic_store_n(words_, count, __ATOMIC_RELEASE); }
    void append(uint32_t row) {
        const uint32_t count = size();
        replace(count, row);
        resize(count + 1);
    }

    // By force inline: GCC drops calls of functions that only prefetch.
    /** Asks for the place where the node of a row is noted; before `prefetch`, which waits for it. */
    [[gnu::always_inline]] static void prefetchNode(const Graph& graph, uint32_t row) {
        __builtin_prefetch((graph.*memberOf(GraphNodes{})).data() + row);
    }
    /** Asks for the links of a row at the base level. */
    [[gnu::always_inline]] static void prefetch(const Graph& graph, uint32_t row) {
        const char* node = nodeOf(graph, row);
        __builtin_prefetch(node);
        __builtin_prefetch(node + 64);
        __builtin_prefetch(node + 128);
    }

private:
    static const char* nodeOf(const Graph& graph, uint32_t row) { return graph.at(row).key.ptr(); }
    /** Key and level. */
    static constexpr size_t nodeHeadBytes = 6;
    uint32_t* words_;
};

}  // namespace kith
