// Exact scans.
#pragma once
#include <algorithm>
#include "context.h"

namespace kith {

/** Rows per step of a scan: their distances stay in the first cache, and a cancelled scan ends within microseconds. */
constexpr uint32_t scanBlock = 256;

/** Collects rows and measures them block by block. */
class BlockScanner {
public:
    BlockScanner(SearchContext& context, TopK& top) : context_(context), top_(top) {
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
        // Rows of a sparse filter come from anywhere: as in a walk, some are on their way while others are measured.
        for (size_t from = 0, to = 0; from < count_; from = to) {
            to = std::min<size_t>(from + aheadRows, count_);
            if (ahead_)
                for (size_t i = to; i < std::min<size_t>(to + aheadRows, count_); ++i) context_.prefetch(ids[i]);
            context_.measure(ids + from, to - from, distances + from);
        }
        float worst = top_.worst();
        for (size_t i = 0; i < count_; ++i) {
            if (distances[i] > worst) continue;
            top_.offer({distances[i], context_.slotOf(ids[i]), ids[i]});
            worst = top_.worst();
        }
        count_ = 0;
        return !context_.cancelled();
    }

private:
    /** Of long rows the processor sees by itself what comes next. */
    static constexpr size_t aheadChunksMax = 16, aheadRows = 16;

    SearchContext& context_;
    TopK& top_;
    const bool ahead_ = context_.chunks <= aheadChunksMax;
    size_t count_ = 0;
};

/** Scans the allowed rows from `from` up to the search's limit. False when the search was cancelled. */
bool scanRows(SearchContext& context, uint32_t from, TopK& top);
/** Scans the rows of the slots that the request lists, each once. False when the search was cancelled. */
bool scanSlots(SearchContext& context, TopK& top);
/** How many rows may be returned. Where rows carry slots of their own dead and unknown ones are counted too. */
size_t allowedRows(const SearchContext& context);

}  // namespace kith
