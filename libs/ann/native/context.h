// What the parts of one search share.
#pragma once
#include <algorithm>
#include <cstring>
#include "search.h"

namespace kith {

/** Everything that stays the same during one search. */
struct SearchContext {
    const SearchRequest& request;
    Scratch& scratch;
    SearchOutcome& outcome;
    const Rows& rows;
    std::shared_ptr<const Vectors> vectors;
    GatherKernel gather;
    const char* arena;
    const char* query;
    size_t chunks;
    Affine affine;
    /** Removals before this one are none of the search's rows; rows removed since were alive when it began. */
    uint64_t removals;
    uint64_t entry;
    uint32_t graphRows;
    /** The search sees rows below this. */
    uint32_t rowLimit;
    bool mapped;
    bool anyDead;
    /** The rows as they were given, where results are scored by these. */
    const Vectors* given = nullptr;

    bool enters(uint32_t) const { return true; }
    size_t computed() const { return outcome.computed; }
    /** Asked every few microseconds; others may run meanwhile. */
    bool cancelled() const {
        if (request.interlude) request.interlude->offer();
        return request.cancel && *request.cancel;
    }
    uint32_t slotOf(uint32_t row) const { return mapped ? rows.slotOf(row) : row; }
    bool filterAllows(uint32_t slot) const {
        return (slot >> 3) < request.filterBytes && ((request.filter[slot >> 3] >> (slot & 7)) & 1);
    }
    /** 64 slots of the filter, from 64 · `word` on. */
    uint64_t filterWord(size_t word) const {
        uint64_t bits = 0;
        const size_t from = word * 8;
        if (from < request.filterBytes) std::memcpy(&bits, request.filter + from, std::min<size_t>(8, request.filterBytes - from));
        return bits;
    }
    /** By force inline: GCC drops calls of functions that only prefetch. */
    [[gnu::always_inline]] void prefetch(uint32_t row) const { prefetchRow(arena + static_cast<size_t>(row) * chunks * chunkBytes, chunks); }
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

/** How one attempt at a search ended: overtaken when it could not learn which rows were removed meanwhile. */
enum class Attempt { done, cancelled, overtaken };

/** What a search needs, as of now. */
SearchContext beginSearch(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome);

}  // namespace kith
