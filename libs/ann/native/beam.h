// The beam search of HNSW over the links of one level (algorithm 2 of Malkov and Yashunin, 2016): searches and the writer
// share it. usearch's own is not used because its entry point and top level are read without synchronisation beside an add,
// its filter cannot give up, it cannot be cancelled, and it measures one row at a time (see bench/ann, which runs both).
#pragma once
#include <algorithm>
#include <functional>
#include <limits>
#include "graph.h"
#include "scratch.h"

namespace kith {

/**
 * `Query` measures rows and says when to stop: `void measure(const uint32_t* rows, size_t count, float* distances)`,
 * `bool cancelled()`, `bool enters(uint32_t row)`, and for `heaps` also `size_t computed()`.
 */
template <class Query> class Beam {
public:
    using Candidate = Scratch::Candidate;

    /** Links that lead beyond the first `rows` rows are left out: they may have come after the search began. */
    Beam(const Graph& graph, uint32_t rows, Scratch& scratch, Query& query)
        : graph_(graph), rows_(rows), scratch_(scratch), query_(query) {
        scratch.ids.resize(std::max(scratch.ids.size(), linksMax));
        scratch.distances.resize(std::max(scratch.distances.size(), linksMax));
    }

    /** From the entry (its row in the low half, its level in the high half) down to `level`, always to the nearest neighbour. */
    Candidate descend(uint64_t entry, uint32_t level) {
        uint32_t* ids = scratch_.ids.data();
        float* distances = scratch_.distances.data();
        Candidate best{0, static_cast<uint32_t>(entry)};
        query_.measure(&best.row, 1, &best.distance);
        for (uint32_t at = static_cast<uint32_t>(entry >> 32); at > level; --at) {
            for (bool moved = true; moved;) {
                moved = false;
                const size_t count = links(best.row, at, ids, [](uint32_t) { return true; });
                query_.measure(ids, count, distances);
                for (size_t i = 0; i < count; ++i) {
                    if (!(distances[i] < best.distance)) continue;
                    best = {distances[i], ids[i]};
                    moved = true;
                }
            }
        }
        return best;
    }

    /** Fills scratch.pool with up to `ef` nearest rows, nearest first. False when cancelled. */
    bool sorted(Candidate start, uint32_t level, size_t ef) {
        VisitedRows visited(scratch_, rows_, linksMax);
        uint32_t* ids = scratch_.ids.data();
        float* distances = scratch_.distances.data();
        scratch_.pool.resize(ef + 1);
        Candidate* items = scratch_.pool.data();
        size_t size = 1, next = 0;
        items[0] = start;
        visited.reserve();
        visited.mark(start.row);
        steps_ = 0;
        while (next < size) {
            const uint32_t row = items[next].row;
            items[next].row |= expandedBit;
            const size_t count = unvisitedLinks(visited, row, level, ids);
            // Four times out of five the next in line stays it.
            if (const size_t second = nextUnexpanded(items, next + 1, size); second < size) Links::prefetch(graph_, items[second].row);
            query_.measure(ids, count, distances);
            size_t lowest = next + 1;
            for (size_t i = 0; i < count; ++i) {
                const float distance = distances[i];
                if (size == ef && !(distance < items[size - 1].distance)) continue;
                const Candidate candidate{distance, ids[i]};
                const size_t at = placeOf(items, size, distance);
                Candidate* place = items + at;
                std::copy_backward(place, items + size, items + size + 1);
                *place = candidate;
                Links::prefetchNode(graph_, candidate.row);
                if (size < ef) ++size;
                if (at < lowest) lowest = at;
            }
            next = nextUnexpanded(items, std::min(lowest, next + 1), size);
            if (next < size) Links::prefetch(graph_, items[next].row);
            if ((++steps_ & 15) == 0 && query_.cancelled()) return false;
        }
        scratch_.pool.resize(size);
        for (Candidate& item : scratch_.pool) item.row &= ~expandedBit;
        return true;
    }

    /**
     * The same at the base level with two heaps: for wide beams, and where some rows may not be returned. Rows that are not
     * allowed are walked through like others but take no place among the results, so `ef` counts allowed rows alone. False
     * also when more than `budget` rows were measured.
     */
    template <class Allowed> bool heaps(Candidate start, size_t ef, size_t budget, Allowed&& allowed) {
        VisitedRows visited(scratch_, rows_, linksMax);
        const size_t most = budget > std::numeric_limits<size_t>::max() - query_.computed() ? budget : query_.computed() + budget;
        std::vector<Candidate>& results = scratch_.pool;
        std::vector<Candidate>& frontier = scratch_.frontier;
        uint32_t* ids = scratch_.ids.data();
        float* distances = scratch_.distances.data();
        const auto nearestFirst = std::greater<Candidate>();
        results.clear();
        frontier.clear();
        visited.reserve();
        visited.mark(start.row);
        frontier.push_back(start);
        if (allowed(start.row)) results.push_back(start);
        steps_ = 0;
        while (!frontier.empty()) {
            const Candidate nearest = frontier.front();
            if (results.size() == ef && nearest.distance > results.front().distance) break;
            std::pop_heap(frontier.begin(), frontier.end(), nearestFirst);
            frontier.pop_back();
            const size_t count = unvisitedLinks(visited, nearest.row, 0, ids);
            if (!frontier.empty()) Links::prefetch(graph_, frontier.front().row);
            query_.measure(ids, count, distances);
            for (size_t i = 0; i < count; ++i) {
                const Candidate candidate{distances[i], ids[i]};
                if (results.size() == ef && !(candidate.distance < results.front().distance)) continue;
                frontier.push_back(candidate);
                std::push_heap(frontier.begin(), frontier.end(), nearestFirst);
                if (!allowed(candidate.row)) continue;
                if (results.size() == ef) {
                    std::pop_heap(results.begin(), results.end());
                    results.back() = candidate;
                } else {
                    results.push_back(candidate);
                }
                std::push_heap(results.begin(), results.end());
            }
            if (!frontier.empty()) Links::prefetch(graph_, frontier.front().row);
            if (query_.computed() > most) return false;
            if ((++steps_ & 15) == 0 && query_.cancelled()) return false;
        }
        std::sort_heap(results.begin(), results.end());
        return true;
    }

    /** Rows whose links the last walk followed. */
    uint32_t steps() const { return steps_; }

private:
    static constexpr uint32_t expandedBit = 0x80000000u;
    static constexpr size_t linksMax = 512;

    static size_t nextUnexpanded(const Candidate* items, size_t next, size_t size) {
        while (next < size && (items[next].row & expandedBit)) ++next;
        return next;
    }

    /** Where a candidate goes: behind those that are as near. Without branches, because half of them would be guessed wrong. */
    [[gnu::always_inline]] static size_t placeOf(const Candidate* items, size_t size, float distance) {
        const Candidate* base = items;
        while (size > 1) {
            const size_t half = size / 2;
            base += half & -static_cast<size_t>(base[half - 1].distance <= distance);
            size -= half;
        }
        return static_cast<size_t>(base - items) + (base->distance <= distance);
    }

    /** The links of a row that are wanted, without those beyond the rows of this search. The writer may be changing them. */
    template <class Wanted> size_t links(uint32_t row, uint32_t level, uint32_t* out, Wanted&& wanted) const {
        const Links links(graph_, row, level);
        const size_t most = level ? graph_.config().connectivity : graph_.config().connectivity_base;
        const size_t count = std::min({static_cast<size_t>(links.size()), most, linksMax});
        size_t kept = 0;
        for (size_t i = 0; i < count; ++i) {
            const uint32_t to = links[static_cast<uint32_t>(i)];
            if (to < rows_ && wanted(to)) out[kept++] = to;
        }
        return kept;
    }

    size_t unvisitedLinks(VisitedRows& visited, uint32_t row, uint32_t level, uint32_t* out) const {
        visited.reserve();
        return links(row, level, out, [&](uint32_t to) { return query_.enters(to) && visited.mark(to); });
    }

    const Graph& graph_;
    const uint32_t rows_;
    Scratch& scratch_;
    Query& query_;
    uint32_t steps_ = 0;
};

}  // namespace kith
