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

    /**
     * The same where few rows are allowed: the others are neither measured nor steps of the walk, but their links are followed in their
     * stead, so that the walk goes over the allowed rows as if these were linked with one another (ACORN, Patel et al., 2024). It finds
     * its way only where the surroundings of the query have allowed rows enough: see `allowedShare`.
     */
    template <class Allowed> bool twoHops(Candidate start, size_t ef, size_t budget, Allowed&& allowed) {
        VisitedRows visited(scratch_, rows_, linksMax);
        const size_t most = budget > std::numeric_limits<size_t>::max() - query_.computed() ? budget : query_.computed() + budget;
        std::vector<Candidate>& results = scratch_.pool;
        std::vector<Candidate>& frontier = scratch_.frontier;
        scratch_.ids.resize(std::max(scratch_.ids.size(), linksMax + twoHopRows));
        scratch_.distances.resize(std::max(scratch_.distances.size(), linksMax + twoHopRows));
        scratch_.detours.resize(std::max(scratch_.detours.size(), linksMax));
        uint32_t *ids = scratch_.ids.data(), *detours = scratch_.detours.data();
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
            size_t detourCount = 0;
            visited.reserve();
            size_t count = links(nearest.row, 0, ids, [&](uint32_t to) {
                if (allowed(to)) return visited.mark(to);
                // Each is gone through once.
                if (!visited.has(to)) detours[detourCount++] = to;
                return false;
            });
            for (size_t i = 0; i < detourCount; ++i) Links::prefetchNode(graph_, detours[i]);
            for (size_t i = 0; i < std::min(detourCount, detoursAhead); ++i) Links::prefetch(graph_, detours[i]);
            for (size_t i = 0; i < detourCount && count < twoHopRows; ++i) {
                if (i + detoursAhead < detourCount) Links::prefetch(graph_, detours[i + detoursAhead]);
                visited.reserve();
                visited.mark(detours[i]);
                count += links(detours[i], 0, ids + count, [&](uint32_t to) { return allowed(to) && visited.mark(to); });
            }
            query_.measure(ids, count, distances);
            for (size_t i = 0; i < count; ++i) {
                const Candidate candidate{distances[i], ids[i]};
                if (results.size() == ef && !(candidate.distance < results.front().distance)) continue;
                frontier.push_back(candidate);
                std::push_heap(frontier.begin(), frontier.end(), nearestFirst);
                if (results.size() == ef) {
                    std::pop_heap(results.begin(), results.end());
                    results.back() = candidate;
                } else {
                    results.push_back(candidate);
                }
                std::push_heap(results.begin(), results.end());
            }
            if (query_.computed() > most) return false;
            if ((++steps_ & 15) == 0 && query_.cancelled()) return false;
        }
        std::sort_heap(results.begin(), results.end());
        return true;
    }

    /**
     * Of the rows around the query the share that is allowed: of the `surroundings` nearest that a short walk of `nearSteps` steps meets. What is
     * linked with a row beside the query is not near enough to count: where the nearest thousand rows are not allowed and many behind
     * them are, links lead to those too.
     */
    template <class Allowed> double allowedShare(Candidate start, Allowed&& allowed) {
        VisitedRows visited(scratch_, rows_, linksMax);
        std::vector<Candidate>& met = scratch_.frontier;
        uint32_t* ids = scratch_.ids.data();
        float* distances = scratch_.distances.data();
        met.assign(1, start);
        visited.reserve();
        visited.mark(start.row);
        // The first `step` rows are those whose links were followed.
        for (size_t step = 0; step < std::min(nearSteps, met.size()); ++step) {
            std::iter_swap(met.begin() + static_cast<std::ptrdiff_t>(step), std::min_element(met.begin() + static_cast<std::ptrdiff_t>(step), met.end()));
            const size_t count = unvisitedLinks(visited, met[step].row, 0, ids);
            query_.measure(ids, count, distances);
            for (size_t i = 0; i < count; ++i) met.push_back({distances[i], ids[i]});
        }
        const size_t counted = std::min(surroundings, met.size());
        std::nth_element(met.begin(), met.begin() + static_cast<std::ptrdiff_t>(counted - 1), met.end());
        size_t passed = 0;
        for (size_t i = 0; i < counted; ++i) passed += allowed(met[i].row);
        return static_cast<double>(passed) / static_cast<double>(counted);
    }

    /** Rows that one step of a walk by two hops measures: it goes through no more of the others once it has so many. */
    static constexpr size_t twoHopRows = 24;

    /** Rows whose links the last walk followed. */
    uint32_t steps() const { return steps_; }

private:
    static constexpr uint32_t expandedBit = 0x80000000u;
    static constexpr size_t linksMax = 512;
    /** Links are asked for so many rows before they are read. */
    static constexpr size_t detoursAhead = 6;
    /** Steps that lead to the surroundings of a query, and the rows that count as these. */
    static constexpr size_t nearSteps = 10, surroundings = 48;

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
