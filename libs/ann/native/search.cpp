#include "search.h"
#include <algorithm>
#include <limits>

namespace kith {

char* Scratch::queryRow(size_t bytes) {
    if (query_.size() < bytes + chunkBytes) query_.resize(bytes + chunkBytes);
    const size_t address = reinterpret_cast<size_t>(query_.data());
    return query_.data() + ((address + chunkBytes - 1) / chunkBytes * chunkBytes - address);
}

void Scratch::prepareVisited(uint32_t rows) {
    const size_t words = (static_cast<size_t>(rows) + 63) / 64;
    if (visited.size() < words) visited.resize(words + words / 4, 0);
    touched.clear();
}

void Scratch::clearVisited() {
    for (uint32_t word : touched) visited[word] = 0;
    touched.clear();
}

namespace {

constexpr uint32_t expandedBit = 0x80000000u;
/** Up to here one sorted array serves as both queues of the search; beyond, moving its elements costs more than heaps. */
constexpr size_t sortedPoolMax = 512;
/** Rows per step of a scan: their distances stay in the first cache, and a cancelled scan ends within microseconds. */
constexpr uint32_t scanBlock = 256;
constexpr size_t linksMax = 512;

/** Everything that stays the same during one search. */
struct Context {
    Index& index;
    const SearchRequest& request;
    Scratch& scratch;
    SearchOutcome& outcome;
    const Rows& rows;
    GatherKernel gather;
    const char* arena;
    const char* query;
    size_t chunks;
    Affine affine;
    /** Kills before this one are none of the search's rows; rows killed since were alive when it began. */
    uint64_t kills;
    uint64_t entry;
    uint32_t graphRows;
    /** The search sees rows below this. */
    uint32_t rowLimit;
    bool mapped;
    bool anyDead;

    bool cancelled() const { return request.cancel && *request.cancel; }
    uint32_t slotOf(uint32_t row) const { return mapped ? rows.slotOf(row) : row; }
    bool filterAllows(uint32_t slot) const {
        return (slot >> 3) < request.filterBytes && ((request.filter[slot >> 3] >> (slot & 7)) & 1);
    }
    bool allowed(uint32_t row) const {
        if (anyDead && !rows.alive(row)) return false;
        return !request.filtered || filterAllows(slotOf(row));
    }
    void measure(const uint32_t* ids, size_t count, float* out) {
        gather(query, arena, ids, count, chunks, out);
        for (size_t i = 0; i < count; ++i) out[i] = sane(affine.constant + affine.factor * out[i]);
        outcome.computed += static_cast<uint32_t>(count);
    }
};

/** The k nearest hits so far, as a heap with the farthest on top. Ties go to the smaller slot. */
class TopK {
public:
    TopK(std::vector<Hit>& heap, size_t k) : heap_(heap), k_(k) { heap_.clear(); }
    float worst() const { return heap_.size() < k_ ? std::numeric_limits<float>::infinity() : heap_.front().distance; }
    void offer(Hit hit) {
        if (heap_.size() < k_) {
            heap_.push_back(hit);
            std::push_heap(heap_.begin(), heap_.end());
        } else if (hit < heap_.front()) {
            std::pop_heap(heap_.begin(), heap_.end());
            heap_.back() = hit;
            std::push_heap(heap_.begin(), heap_.end());
        }
    }
    bool has(uint32_t slot) const {
        return std::any_of(heap_.begin(), heap_.end(), [slot](const Hit& hit) { return hit.slot == slot; });
    }
    std::vector<Hit>& heap() { return heap_; }

private:
    std::vector<Hit>& heap_;
    size_t k_;
};

/** Collects rows and measures them block by block. */
class BlockScanner {
public:
    BlockScanner(Context& context, TopK& top) : context_(context), top_(top) {
        context_.scratch.ids.resize(std::max<size_t>(context_.scratch.ids.size(), scanBlock));
        context_.scratch.distances.resize(std::max<size_t>(context_.scratch.distances.size(), scanBlock));
    }
    /** False when the search was cancelled. */
    bool push(uint32_t row) {
        context_.scratch.ids[count_++] = row;
        return count_ < scanBlock || flush();
    }
    bool flush() {
        uint32_t* ids = context_.scratch.ids.data();
        float* distances = context_.scratch.distances.data();
        context_.measure(ids, count_, distances);
        float worst = top_.worst();
        for (size_t i = 0; i < count_; ++i) {
            if (distances[i] > worst) continue;
            top_.offer({distances[i], context_.slotOf(ids[i])});
            worst = top_.worst();
        }
        count_ = 0;
        return !context_.cancelled();
    }

private:
    Context& context_;
    TopK& top_;
    size_t count_ = 0;
};

/** Scans the allowed rows from `from` up to the search's limit. */
bool scanRows(Context& context, uint32_t from, TopK& top) {
    BlockScanner scanner(context, top);
    const uint32_t end = context.rowLimit;
    if (context.request.filtered && from == 0) {
        // Over the bits of the filter, which may be far fewer than the rows.
        const size_t bytes = context.request.filterBytes;
        for (size_t byte = 0; byte < bytes; ++byte) {
            uint32_t bits = context.request.filter[byte];
            for (; bits; bits &= bits - 1) {
                const uint32_t slot = static_cast<uint32_t>(byte * 8) + static_cast<uint32_t>(__builtin_ctz(bits));
                const uint32_t row = context.rows.rowOf(slot, context.mapped, end);
                if (row == noRow || !context.rows.alive(row)) continue;
                if (!scanner.push(row)) return false;
            }
        }
        return scanner.flush();
    }
    for (uint32_t row = from; row < end; ++row) {
        if (!context.allowed(row)) continue;
        if (!scanner.push(row)) return false;
    }
    return scanner.flush();
}

bool scanSlots(Context& context, TopK& top) {
    BlockScanner scanner(context, top);
    context.scratch.prepareVisited(context.rowLimit);
    bool goOn = true;
    for (size_t i = 0; i < context.request.slotCount && goOn; ++i) {
        const uint32_t row = context.rows.rowOf(context.request.slots[i], context.mapped, context.rowLimit);
        if (row == noRow || !context.rows.alive(row) || !context.scratch.visit(row)) continue;
        goOn = scanner.push(row);
    }
    goOn = goOn && scanner.flush();
    context.scratch.clearVisited();
    return goOn;
}

/** How many rows the filter allows at most: its bits, dead and unknown slots included. */
size_t filterBits(const SearchRequest& request) {
    size_t bits = 0, i = 0;
    for (; i + 8 <= request.filterBytes; i += 8) {
        uint64_t word;
        __builtin_memcpy(&word, request.filter + i, 8);
        bits += static_cast<size_t>(__builtin_popcountll(word));
    }
    for (; i < request.filterBytes; ++i) bits += static_cast<size_t>(__builtin_popcount(request.filter[i]));
    return bits;
}

/**
 * The walk through the graph, over the link lists that usearch built. usearch's own search is not used because its
 * entry point and top level are read without synchronisation beside an add, its filter cannot give up, it cannot be
 * cancelled, and it measures one row at a time (see bench/ann, which runs both).
 */
class GraphWalk {
public:
    explicit GraphWalk(Context& context)
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
            next = std::min(lowest, next + 1);
            while (next < size && (items[next].row & expandedBit)) ++next;
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

    void prefetchLinks(uint32_t row) const {
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

    Context& context_;
    const Graph& graph_;
    uint32_t rows_;
    uint64_t entry_;
};

/** Searches the graph; false when the caller must scan instead (or the search was cancelled). */
bool searchGraph(Context& context) {
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

}  // namespace

bool walkToRow(Index& index, uint32_t row, uint32_t rows, uint32_t ef, Scratch& scratch) {
    const Codec& codec = index.codec();
    std::vector<float> vector(index.options().dimension);
    codec.decodeRow(index.rows().row(row), vector.data());
    char* query = scratch.queryRow(codec.rowBytes());
    const Affine affine = codec.encodeQuery(vector.data(), query);
    const SearchRequest request;
    SearchOutcome outcome;
    Context context{index, request, scratch, outcome, index.rows(), index.kernels().gather[codec.storage()][codec.comparison()],
                    index.rows().arena(), query, codec.chunks(), affine, 0, index.entry(), rows, rows, false, false};
    GraphWalk(context).sorted(std::min(ef, rows));
    for (const Scratch::Candidate& near : scratch.pool)
        if (near.row == row) return true;
    float own;
    context.measure(&row, 1, &own);
    return !(own < scratch.pool.back().distance);
}

namespace {

/** A search that could not learn so many times which rows were killed meanwhile scans a copy of what is alive. */
constexpr int attemptsMax = 3;
/** A copy takes microseconds for a million rows; to spoil one after the other, more rows would have to die than there are. */
constexpr int copiesMax = 1000;

enum class Attempt { done, cancelled, overtaken };

/** A reader of the gate that may leave before its end. */
class Visit {
public:
    explicit Visit(Gate& gate) : gate_(gate) { gate_.enter(); }
    ~Visit() { leave(); }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;
    void leave() {
        if (inside_) gate_.leave();
        inside_ = false;
    }

private:
    Gate& gate_;
    bool inside_ = true;
};

/** What a search needs, as of now. Inside the gate: before calibration, codes may change while it is left. */
Context begin(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome) {
    const Codec& codec = index.codec();
    const Rows& rows = index.rows();
    char* query = scratch.queryRow(codec.rowBytes());
    const Affine affine = codec.encodeQuery(request.query, query);
    // In this order: kills before rows (see killCount), and the entry is always among the graph's rows, those among all rows.
    const uint64_t kills = rows.killCount();
    const uint64_t entry = index.entry();
    const uint32_t graphRows = index.graphRows();
    const uint32_t count = rows.count();
    return {index, request, scratch, outcome, rows, index.kernels().gather[codec.storage()][codec.comparison()], rows.arena(), query,
            codec.chunks(), affine, kills, entry, graphRows, count, rows.mapped(), rows.deadCount() > 0};
}

/**
 * Fills scratch.killed with the rows of this search that were killed since it began, newest first. False when they are no
 * longer remembered. Where a slot was given to a newer row that the search sees, the older row is none of its rows.
 */
bool killedMeanwhile(Context& context) {
    std::vector<uint32_t>& killed = context.scratch.killed;
    if (!context.rows.killedSince(context.kills, killed)) {
        killed.clear();
        return false;
    }
    if (killed.empty()) return true;
    std::vector<uint32_t> own;
    for (auto row = killed.rbegin(); row != killed.rend(); ++row) {
        if (*row >= context.rowLimit) continue;
        const uint32_t slot = context.slotOf(*row);
        const uint32_t newest = context.rows.rowOf(slot, context.mapped, context.rowLimit);
        if (newest != *row && newest != noRow) continue;
        if (std::none_of(own.begin(), own.end(), [&](uint32_t newer) { return context.slotOf(newer) == slot; })) own.push_back(*row);
    }
    killed.swap(own);
    return true;
}

/** Whether the filter or the list of slots lets a slot through; for the few rows that are met outside of a plan. */
class Wanted {
public:
    explicit Wanted(const Context& context) : context_(context) {
        const SearchRequest& request = context.request;
        if (request.slots) listed_.assign(request.slots, request.slots + request.slotCount);
        std::sort(listed_.begin(), listed_.end());
    }
    bool operator()(uint32_t slot) const {
        if (context_.request.slots) return std::binary_search(listed_.begin(), listed_.end(), slot);
        return !context_.request.filtered || context_.filterAllows(slot);
    }

private:
    const Context& context_;
    std::vector<uint32_t> listed_;
};

/** Rows that died since the search began were alive then, but it may have passed them by: offers them. */
Attempt offerKilled(Context& context, TopK& top) {
    if (!killedMeanwhile(context)) return Attempt::overtaken;
    const std::vector<uint32_t>& killed = context.scratch.killed;
    if (killed.empty()) return Attempt::done;
    const Wanted wanted(context);
    BlockScanner scanner(context, top);
    for (const uint32_t row : killed) {
        const uint32_t slot = context.slotOf(row);
        if (wanted(slot) && !top.has(slot) && !scanner.push(row)) return Attempt::cancelled;
    }
    return scanner.flush() ? Attempt::done : Attempt::cancelled;
}

/** One search over the rows that are alive when it begins. */
Attempt searchOnce(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome, TopK& top) {
    Visit visit(index.gate());
    Context context = begin(index, request, scratch, outcome);
    const uint32_t graphRows = context.graphRows;
    bool complete = false;
    if (!request.exact && !request.slots && graphRows > 0 && graphRows >= index.options().graphThreshold) {
        complete = searchGraph(context);
        if (complete) {
            for (const Scratch::Candidate& found : scratch.pool) top.offer({found.distance, context.slotOf(found.row)});
        }
    }
    // Rows stay where they are once they are calibrated, so a scan need not keep the writer from growing the graph.
    if (index.calibrated()) visit.leave();
    if (context.cancelled()) return Attempt::cancelled;
    bool finished;
    if (request.slots) {
        finished = scanSlots(context, top);
        outcome.plan = Plan::scan;
    } else if (complete) {
        finished = graphRows == context.rowLimit || scanRows(context, graphRows, top);
        outcome.plan = graphRows == context.rowLimit ? Plan::graph : Plan::graphAndScan;
    } else {
        finished = scanRows(context, 0, top);
        outcome.plan = Plan::scan;
    }
    return finished ? offerKilled(context, top) : Attempt::cancelled;
}

/** An exact scan of a copy of what is alive, with the rows put back that were killed while it was copied. */
Attempt scanCopy(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome, TopK& top) {
    Visit visit(index.gate());
    if (index.calibrated()) visit.leave();
    Context context = begin(index, request, scratch, outcome);
    std::vector<uint64_t> alive = context.rows.aliveSnapshot(context.rowLimit);
    for (int copies = 1; !killedMeanwhile(context) && copies < copiesMax; ++copies) {
        if (context.cancelled()) return Attempt::cancelled;
        context.kills = context.rows.killCount();
        context.rowLimit = context.rows.count();
        context.mapped = context.rows.mapped();
        alive = context.rows.aliveSnapshot(context.rowLimit);
    }
    for (const uint32_t row : scratch.killed) alive[row >> 6] |= uint64_t{1} << (row & 63);
    const Wanted wanted(context);
    BlockScanner scanner(context, top);
    for (uint32_t row = 0; row < context.rowLimit; ++row) {
        if (!((alive[row >> 6] >> (row & 63)) & 1) || !wanted(context.slotOf(row))) continue;
        if (!scanner.push(row)) return Attempt::cancelled;
    }
    outcome.plan = Plan::scan;
    return scanner.flush() ? Attempt::done : Attempt::cancelled;
}

}  // namespace

void search(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome) {
    outcome.hits.clear();
    outcome.computed = 0;
    if (request.cancel && *request.cancel) {
        outcome.failure = Failure::cancelled;
        return;
    }
    const VectorFault fault = index.codec().check(request.query);
    if (fault != VectorFault::none) {
        outcome.failure = fault == VectorFault::zero ? Failure::zeroVector : Failure::notFinite;
        return;
    }
    outcome.failure = Failure::none;
    TopK top(scratch.best, request.k);
    Attempt attempt = Attempt::overtaken;
    for (int tries = 0; tries < attemptsMax && attempt == Attempt::overtaken; ++tries) {
        top.heap().clear();
        attempt = searchOnce(index, request, scratch, outcome, top);
    }
    if (attempt == Attempt::overtaken) {
        top.heap().clear();
        attempt = scanCopy(index, request, scratch, outcome, top);
    }
    if (attempt == Attempt::cancelled) {
        outcome.failure = Failure::cancelled;
        return;
    }
    outcome.hits.assign(top.heap().begin(), top.heap().end());
    std::sort(outcome.hits.begin(), outcome.hits.end());
}

}  // namespace kith
