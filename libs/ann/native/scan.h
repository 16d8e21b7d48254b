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
        context_.measure(ids, count_, distances);
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
    SearchContext& context_;
    TopK& top_;
    size_t count_ = 0;
};

/** Scans the allowed rows from `from` up to the search's limit. False when the search was cancelled. */
bool scanRows(SearchContext& context, uint32_t from, TopK& top);
/** Scans the rows of the slots that the request lists, each once. False when the search was cancelled. */
bool scanSlots(SearchContext& context, TopK& top);
/** How many rows the filter allows at most: its bits, dead and unknown slots included. */
size_t filterBits(const SearchRequest& request);

}  // namespace kith
