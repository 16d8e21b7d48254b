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
        scratch.ids.resize(std::max(scratch.ids.size(), 2 * (linksMax + twoHopRows)));
        scratch.distances.resize(std::max(scratch.distances.size(), linksMax + twoHopRows));
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
        uint32_t *ids = scratch_.ids.data(), *nextIds = ids + linksMax;
        float* distances = scratch_.distances.data();
        scratch_.pool.resize(ef + 1);
        Candidate* items = scratch_.pool.data();
        size_t size = 1, next = 0, count = 0;
        items[0] = start;
        visited.reserve();
        visited.mark(start.row);
        steps_ = 0;
        while (next < size || count > 0) {
            // The rows of the next step are on their way while those of this one are measured. Which rows are nearest by then does not
            // matter: all that stay in the pool come to be steps.
            size_t nextCount = 0;
            if (next < size) {
                const uint32_t row = items[next].row;
                items[next].row |= expandedBit;
                next = nextUnexpanded(items, next + 1, size);
                if (next < size) Links::prefetch(graph_, items[next].row);
                nextCount = unvisitedLinks(visited, row, level, nextIds);
                ++steps_;
            }
            query_.measure(ids, count, distances);
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
                // What is behind moves on, also the next step.
                next = at <= next ? at : next;
            }
            next = nextUnexpanded(items, next, size);
            if (next < size) Links::prefetch(graph_, items[next].row);
            std::swap(ids, nextIds);
            count = nextCount;
            if ((steps_ & 15) == 0 && query_.cancelled()) return false;
        }
        scratch_.pool.resize(size);
        for (Candidate& item : scratch_.pool) item.row &= ~expandedBit;
        return true;
    }

    /**
     * The same at the base level with two heaps, from the rows that `begin` or `allowedShare` left: for wide beams, and where some rows may not
     * be returned. Rows that are not allowed are walked through like others but take no place among the results, so `ef` counts allowed rows
     * alone. False also when more than `budget` rows were measured.
     */
    template <class Allowed> bool heaps(size_t ef, size_t budget, Allowed&& allowed) {
        VisitedRows visited(scratch_, rows_, linksMax);
        Queues queues(scratch_, ef);
        const size_t most = rowsUpTo(budget);
        uint32_t *ids = scratch_.ids.data(), *nextIds = ids + linksMax;
        for (size_t i = 0; i < scratch_.met.size(); ++i) {
            const Candidate& met = scratch_.met[i];
            visited.reserve();
            visited.mark(met.row);
            if (i >= metSteps_) queues.frontier.push_back(met);
            if (allowed(met.row)) queues.results.push_back(met);
        }
        queues.start();
        steps_ = static_cast<uint32_t>(metSteps_);
        for (size_t count = 0, nextCount;; count = nextCount, std::swap(ids, nextIds)) {
            nextCount = 0;
            // As in `sorted`, the rows of the next step are on their way while those of this one are measured.
            if (queues.goesOn()) {
                const uint32_t row = queues.takeNearest();
                if (!queues.frontier.empty()) Links::prefetch(graph_, queues.frontier.front().row);
                nextCount = unvisitedLinks(visited, row, 0, nextIds);
                ++steps_;
            } else if (count == 0) {
                break;
            }
            const float* distances = measured(ids, count);
            for (size_t i = 0; i < count; ++i) {
                const Candidate candidate{distances[i], ids[i]};
                if (!queues.wants(candidate)) continue;
                queues.pushFrontier(candidate);
                if (allowed(candidate.row)) queues.pushResult(candidate);
            }
            if (!queues.frontier.empty()) Links::prefetch(graph_, queues.frontier.front().row);
            if (query_.computed() > most) return false;
            if ((steps_ & 15) == 0 && query_.cancelled()) return false;
        }
        queues.finish();
        return true;
    }

    /**
     * The same where few rows are allowed: the others are neither measured nor steps of the walk, but their links are followed in their
     * stead, so that the walk goes over the allowed rows as if these were linked with one another (ACORN, Patel et al., 2024). It finds
     * its way only where the surroundings of the query have allowed rows enough: see `allowedShare`.
     */
    template <class Allowed> bool twoHops(size_t ef, size_t budget, Allowed&& allowed) {
        VisitedRows visited(scratch_, rows_, linksMax);
        Queues queues(scratch_, ef);
        const size_t most = rowsUpTo(budget);
        scratch_.detours.resize(std::max(scratch_.detours.size(), linksMax));
        uint32_t *ids = scratch_.ids.data(), *nextIds = ids + linksMax + twoHopRows, *detours = scratch_.detours.data();
        for (size_t i = 0; i < scratch_.met.size(); ++i) {
            const Candidate& met = scratch_.met[i];
            const bool passes = allowed(met.row);
            visited.reserve();
            // Of a step all links have been measured. Those of an allowed one are followed further.
            if (passes || i < metSteps_) visited.mark(met.row);
            if (!passes) continue;
            queues.frontier.push_back(met);
            queues.results.push_back(met);
        }
        // Where nothing is allowed around the start, that is still a way to what is.
        if (queues.frontier.empty()) queues.frontier.push_back(scratch_.met.front());
        queues.start();
        steps_ = static_cast<uint32_t>(metSteps_);
        for (size_t count = 0, nextCount;; count = nextCount, std::swap(ids, nextIds)) {
            nextCount = 0;
            size_t detourCount = 0;
            const bool steps = queues.goesOn();
            if (!steps && count == 0) break;
            if (steps) {
                const uint32_t row = queues.takeNearest();
                visited.reserve();
                nextCount = links(row, 0, nextIds, [&](uint32_t to) {
                    if (allowed(to)) return visited.mark(to);
                    // Each is gone through once.
                    if (!visited.has(to)) detours[detourCount++] = to;
                    return false;
                });
                for (size_t i = 0; i < detourCount; ++i) Links::prefetch(graph_, detours[i]);
                ++steps_;
            }
            const float* distances = measured(ids, count);
            for (size_t i = 0; i < count; ++i) {
                const Candidate candidate{distances[i], ids[i]};
                if (!queues.wants(candidate)) continue;
                queues.pushFrontier(candidate);
                queues.pushResult(candidate);
            }
            if (!queues.frontier.empty()) Links::prefetch(graph_, queues.frontier.front().row);
            for (size_t i = 0; i < detourCount && nextCount < twoHopRows; ++i) {
                visited.reserve();
                visited.mark(detours[i]);
                nextCount += allowedLinks(visited, detours[i], nextIds + nextCount, allowed);
            }
            for (size_t i = 0; i < nextCount; ++i) query_.prefetch(nextIds[i]);
            if (query_.computed() > most) return false;
            if ((steps_ & 15) == 0 && query_.cancelled()) return false;
        }
        queues.finish();
        return true;
    }

    /** For `heaps` and `twoHops`: they begin with this row alone. */
    void begin(Candidate start) {
        scratch_.met.assign(1, start);
        metSteps_ = 0;
    }

    /**
     * Of the rows around the query the share that is allowed: of the `surroundings` nearest that a short walk of `nearSteps` steps meets. What is
     * linked with a row beside the query is not near enough to count: where the nearest thousand rows are not allowed and many behind
     * them are, links lead to those too. The walk that follows begins with the rows that this one has met.
     */
    template <class Allowed> double allowedShare(Candidate start, Allowed&& allowed) {
        VisitedRows visited(scratch_, rows_, linksMax);
        std::vector<Candidate>& met = scratch_.met;
        begin(start);
        visited.reserve();
        visited.mark(start.row);
        // The first `metSteps_` rows are those whose links were followed.
        for (; metSteps_ < std::min(nearSteps, met.size()); ++metSteps_) {
            const auto at = met.begin() + static_cast<std::ptrdiff_t>(metSteps_);
            std::iter_swap(at, std::min_element(at, met.end()));
            const size_t count = unvisitedLinks(visited, at->row, 0, scratch_.ids.data());
            const float* distances = measured(scratch_.ids.data(), count);
            for (size_t i = 0; i < count; ++i) met.push_back({distances[i], scratch_.ids[i]});
        }
        std::vector<Candidate>& nearest = scratch_.frontier;
        nearest = met;
        const size_t counted = std::min(surroundings, nearest.size());
        std::nth_element(nearest.begin(), nearest.begin() + static_cast<std::ptrdiff_t>(counted - 1), nearest.end());
        size_t passed = 0;
        for (size_t i = 0; i < counted; ++i) passed += allowed(nearest[i].row);
        return static_cast<double>(passed) / static_cast<double>(counted);
    }

    /** Rows that one step of a walk by two hops measures: it goes through no more of the others once it has so many. */
    static constexpr size_t twoHopRows = 24;

    /** Rows whose links the last walk followed. */
    uint32_t steps() const { return steps_; }

private:
    static constexpr uint32_t expandedBit = 0x80000000u;
    static constexpr size_t linksMax = 512;
    /** Steps that lead to the surroundings of a query, and the rows that count as these. */
    static constexpr size_t nearSteps = 10, surroundings = 48;

    /** The rows that a walk has yet to step on, nearest first, and the `ef` nearest that it may return, farthest first. */
    struct Queues {
        Queues(Scratch& scratch, size_t ef) : frontier(scratch.frontier), results(scratch.pool), most(ef) {
            frontier.clear();
            results.clear();
        }
        void start() {
            std::make_heap(frontier.begin(), frontier.end(), std::greater<Candidate>());
            std::make_heap(results.begin(), results.end());
            while (results.size() > most) dropFarthest();
        }
        void finish() { std::sort_heap(results.begin(), results.end()); }
        bool full() const { return results.size() == most; }
        bool goesOn() const { return !frontier.empty() && !(full() && frontier.front().distance > results.front().distance); }
        bool wants(const Candidate& candidate) const { return !full() || candidate.distance < results.front().distance; }
        uint32_t takeNearest() {
            const uint32_t row = frontier.front().row;
            std::pop_heap(frontier.begin(), frontier.end(), std::greater<Candidate>());
            frontier.pop_back();
            return row;
        }
        void pushFrontier(const Candidate& candidate) {
            frontier.push_back(candidate);
            std::push_heap(frontier.begin(), frontier.end(), std::greater<Candidate>());
        }
        void pushResult(const Candidate& candidate) {
            if (full()) dropFarthest();
            results.push_back(candidate);
            std::push_heap(results.begin(), results.end());
        }
        void dropFarthest() {
            std::pop_heap(results.begin(), results.end());
            results.pop_back();
        }

        std::vector<Candidate>& frontier;
        std::vector<Candidate>& results;
        const size_t most;
    };

    const float* measured(const uint32_t* ids, size_t count) {
        query_.measure(ids, count, scratch_.distances.data());
        return scratch_.distances.data();
    }

    /** Of all that the query measures, where so many more rows are too many. */
    size_t rowsUpTo(size_t budget) const {
        return budget > std::numeric_limits<size_t>::max() - query_.computed() ? budget : query_.computed() + budget;
    }

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

    /** Of the links of a row, those that are allowed and not visited yet. */
    template <class Allowed> size_t allowedLinks(VisitedRows& visited, uint32_t row, uint32_t* out, Allowed&& allowed) const {
        const Links links(graph_, row, 0);
        const size_t count = std::min({static_cast<size_t>(links.size()), graph_.config().connectivity_base, linksMax});
        size_t passing = 0;
        for (size_t i = 0; i < count; ++i) {
            const uint32_t to = links[static_cast<uint32_t>(i)];
            out[passing] = to;
            passing += to < rows_ && allowed(to);
        }
        size_t kept = 0;
        for (size_t i = 0; i < passing; ++i) {
            const uint32_t to = out[i];
            out[kept] = to;
            kept += visited.mark(to);
        }
        return kept;
    }

    /** Those are asked for that are not visited yet. Without branches, because which ones are would be guessed wrong. */
    size_t unvisitedLinks(VisitedRows& visited, uint32_t row, uint32_t level, uint32_t* out) const {
        visited.reserve();
        const Links links(graph_, row, level);
        const size_t most = level ? graph_.config().connectivity : graph_.config().connectivity_base;
        const size_t count = std::min({static_cast<size_t>(links.size()), most, linksMax});
        size_t kept = 0;
        for (size_t i = 0; i < count; ++i) {
            const uint32_t to = links[static_cast<uint32_t>(i)];
            if (to >= rows_ || !query_.enters(to)) continue;
            query_.prefetch(to);
            out[kept] = to;
            kept += visited.mark(to);
        }
        return kept;
    }

    const Graph& graph_;
    const uint32_t rows_;
    Scratch& scratch_;
    Query& query_;
    uint32_t steps_ = 0;
    /** Of the rows met, those at the front whose links were followed. */
    size_t metSteps_ = 0;
};

}  // namespace kith
