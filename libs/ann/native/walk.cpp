#include "walk.h"
#include <algorithm>
#include <functional>
#include <limits>
#include "scan.h"

namespace kith {
namespace {

constexpr uint32_t expandedBit = 0x80000000u;
/** Up to here one sorted array serves as both queues of the search; beyond, moving its elements costs more than heaps. */
constexpr size_t sortedPoolMax = 512;
constexpr size_t linksMax = 512;

/**
 * The walk through the graph, over the link lists that usearch built. usearch's own search is not used because its
 * entry point and top level are read without synchronisation beside an add, its filter cannot give up, it cannot be
 * cancelled, and it measures one row at a time (see bench/ann, which runs both).
 */
class GraphWalk {
public:
    explicit GraphWalk(SearchContext& context)
        : context_(context), graph_(context.index.graph()), rows_(context.graphRows), entry_(context.entry) {
        context_.scratch.ids.resize(std::max(context_.scratch.ids.size(), linksMax));
        context_.scratch.distances.resize(std::max(context_.scratch.distances.size(), linksMax));
        context_.scratch.prepareVisited(rows_);
    }
    ~GraphWalk() { context_.scratch.clearVisited(); }

    /** Fills scratch.pool with up to `ef` nearest rows, nearest first. False when cancelled or over the budget. */
    bool sorted(size_t ef) {
        std::vector<Scratch::Candidate>& pool = context_.scratch.pool;
        uint32_t* ids = context_.scratch.ids.data();
        float* distances = context_.scratch.distances.data();
        pool.resize(ef + 1);
        Scratch::Candidate* items = pool.data();
        size_t size = 1, next = 0;
        items[0] = descend();
        context_.scratch.visit(items[0].row);
        uint32_t steps = 0;
        while (next < size) {
            const uint32_t row = items[next].row;
            items[next].row |= expandedBit;
            const size_t count = unvisitedLinks(row, 0, ids);
            // Four times out of five the next in line stays it.
            if (const size_t second = nextUnexpanded(items, next + 1, size); second < size) prefetchLinks(items[second].row);
            context_.measure(ids, count, distances);
            size_t lowest = next + 1;
            for (size_t i = 0; i < count; ++i) {
                const float distance = distances[i];
                if (size == ef && !(distance < items[size - 1].distance)) continue;
                const Scratch::Candidate candidate{distance, ids[i]};
                Scratch::Candidate* place = std::upper_bound(items, items + size, candidate);
                const size_t at = static_cast<size_t>(place - items);
                std::copy_backward(place, items + size, items + size + 1);
                *place = candidate;
                if (size < ef) ++size;
                if (at < lowest) lowest = at;
            }
            next = nextUnexpanded(items, std::min(lowest, next + 1), size);
            if (next < size) prefetchLinks(items[next].row);
            if ((++steps & 15) == 0 && context_.cancelled()) return false;
        }
        pool.resize(size);
        for (Scratch::Candidate& item : pool) item.row &= ~expandedBit;
        return true;
    }

    /**
     * The same with two heaps: for wide beams, and where some rows may not be returned. Rows that are not allowed are
     * walked through like others but take no place among the results, so `ef` counts allowed rows alone.
     */
    template <class Allowed> bool heaps(size_t ef, size_t budget, Allowed&& allowed) {
        std::vector<Scratch::Candidate>& results = context_.scratch.pool;
        std::vector<Scratch::Candidate>& frontier = context_.scratch.frontier;
        uint32_t* ids = context_.scratch.ids.data();
        float* distances = context_.scratch.distances.data();
        const auto nearestFirst = std::greater<Scratch::Candidate>();
        results.clear();
        frontier.clear();
        const Scratch::Candidate start = descend();
        context_.scratch.visit(start.row);
        frontier.push_back(start);
        if (allowed(start.row)) results.push_back(start);
        uint32_t steps = 0;
        while (!frontier.empty()) {
            const Scratch::Candidate nearest = frontier.front();
            if (results.size() == ef && nearest.distance > results.front().distance) break;
            std::pop_heap(frontier.begin(), frontier.end(), nearestFirst);
            frontier.pop_back();
            const size_t count = unvisitedLinks(nearest.row, 0, ids);
            context_.measure(ids, count, distances);
            for (size_t i = 0; i < count; ++i) {
                const Scratch::Candidate candidate{distances[i], ids[i]};
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
            if (!frontier.empty()) prefetchLinks(frontier.front().row);
            if (context_.outcome.computed > budget) return false;
            if ((++steps & 15) == 0 && context_.cancelled()) return false;
        }
        std::sort_heap(results.begin(), results.end());
        return true;
    }

private:
    /**
     * The links of a row that lead to rows of this search. The writer may be rewriting the list at this moment: a
     * count or a link may be old or new, but never half of one (lists are 4-byte aligned), and links beyond the
     * rows that this search knows are left out. usearch's own search reads the same lists without a lock.
     */
    size_t links(uint32_t row, uint32_t level, uint32_t* out) const {
        const auto view = graph_.neighbors(row, level);
        const size_t most = level ? graph_.config().connectivity : graph_.config().connectivity_base;
        size_t count = std::min({view.size(), most, linksMax});
        size_t kept = 0;
        for (auto link = view.begin(); count > 0; --count, ++link) {
            const uint32_t to = link.slot();
            if (to < rows_) out[kept++] = to;
        }
        return kept;
    }

    size_t unvisitedLinks(uint32_t row, uint32_t level, uint32_t* out) {
        const size_t count = links(row, level, out);
        size_t kept = 0;
        for (size_t i = 0; i < count; ++i)
            if (context_.scratch.visit(out[i])) out[kept++] = out[i];
        return kept;
    }

    static size_t nextUnexpanded(const Scratch::Candidate* items, size_t next, size_t size) {
        while (next < size && (items[next].row & expandedBit)) ++next;
        return next;
    }

    /** Inlined by force: GCC takes a function that only prefetches for one without effect, and drops the call. */
    [[gnu::always_inline]] void prefetchLinks(uint32_t row) const {
        const char* node = graph_.at(row).key.ptr();
        __builtin_prefetch(node);
        __builtin_prefetch(node + 64);
        __builtin_prefetch(node + 128);
    }

    /** From the entry down to the base level, always to the nearest neighbour. */
    Scratch::Candidate descend() {
        uint32_t* ids = context_.scratch.ids.data();
        float* distances = context_.scratch.distances.data();
        Scratch::Candidate best{0, static_cast<uint32_t>(entry_)};
        context_.measure(&best.row, 1, &best.distance);
        for (uint32_t level = static_cast<uint32_t>(entry_ >> 32); level > 0; --level) {
            for (bool moved = true; moved;) {
                moved = false;
                const size_t count = links(best.row, level, ids);
                context_.measure(ids, count, distances);
                for (size_t i = 0; i < count; ++i) {
                    if (!(distances[i] < best.distance)) continue;
                    best = {distances[i], ids[i]};
                    moved = true;
                }
            }
        }
        return best;
    }

    SearchContext& context_;
    const Graph& graph_;
    uint32_t rows_;
    uint64_t entry_;
};

}  // namespace

bool searchGraph(SearchContext& context) {
    const uint32_t graphRows = context.graphRows;
    const SearchRequest& request = context.request;
    const size_t ef = std::min<size_t>(std::max(request.ef, request.k), graphRows);
    GraphWalk walk(context);
    bool found;
    if (!context.anyDead && !request.filtered) {
        found = ef <= sortedPoolMax ? walk.sorted(ef)
                                    : walk.heaps(ef, std::numeric_limits<size_t>::max(), [](uint32_t) { return true; });
        return found && context.scratch.pool.size() >= std::min<size_t>(request.k, graphRows);
    }
    // A walk that has measured more rows than the filter allows costs more than measuring those rows: scan them.
    const size_t allowedRows = request.filtered ? std::min<size_t>(filterBits(request), context.rows.aliveCount())
                                              : context.rows.aliveCount();
    const size_t budget = std::max<size_t>(allowedRows, 1000);
    if (!request.filtered) {
        const Rows& rows = context.rows;
        found = walk.heaps(ef, budget, [&rows](uint32_t row) { return rows.alive(row); });
    } else {
        found = walk.heaps(ef, budget, [&context](uint32_t row) { return context.allowed(row); });
    }
    // Fewer than wanted although there may be more: dead or filtered rows cut the walk off.
    const size_t tailRows = context.rowLimit - graphRows;
    const size_t certain = allowedRows > tailRows ? allowedRows - tailRows : 0;
    return found && context.scratch.pool.size() >= std::min<size_t>(request.k, certain);
}

bool walkToRow(Index& index, uint32_t row, uint32_t rows, uint32_t ef, Scratch& scratch) {
    const Codec& codec = index.codec();
    std::vector<float> vector(index.options().dimension);
    codec.decodeRow(index.rows().row(row), vector.data());
    char* query = scratch.queryRow(codec.rowBytes());
    const Affine affine = codec.encodeQuery(vector.data(), query);
    const SearchRequest request;
    SearchOutcome outcome;
    SearchContext context{index, request, scratch, outcome, index.rows(), index.kernels().gather[codec.storage()][codec.comparison()],
                          index.rows().arena(), query, codec.chunks(), affine, 0, index.entry(), rows, rows, false, false};
    GraphWalk(context).sorted(std::min(ef, rows));
    for (const Scratch::Candidate& near : scratch.pool)
        if (near.row == row) return true;
    float own;
    context.measure(&row, 1, &own);
    return !(own < scratch.pool.back().distance);
}

}  // namespace kith
