// Exact scans.
#pragma once
#include <algorithm>
#include "context.h"
#include "partial_distances.h"

namespace kith {

/** Collects rows and measures them block by block. */
class BlockScanner {
public:
    BlockScanner(SearchContext& context, TopK& top) : context_(context), top_(top), parts_(context) {
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
        float worst = top_.worst();
        count_ = parts_.keep(ids, count_, worst);
        // Whole steps of the kernels: they add up a row that is left over in another order, and rows that are the same would differ.
        size_t padded = count_;
        for (; padded % 4 != 0; ++padded) ids[padded] = ids[count_ - 1];
        context_.measure(ids, padded, distances);
        context_.outcome.computed -= static_cast<uint32_t>(padded - count_);
        for (size_t i = 0; i < count_; ++i) {
            if (distances[i] > worst) continue;
            top_.offer({distances[i], context_.slotOf(ids[i]), ids[i]});
            worst = top_.worst();
        }
        count_ = 0;
        return !context_.cancelled();
    }

private:
    static_assert(scanBlock % 4 == 0, "a block has room for whole steps");

    SearchContext& context_;
    TopK& top_;
    PartialDistances parts_;
    size_t count_ = 0;
};

/** Scans the allowed rows from `from` up to the search's limit. False when the search was cancelled. */
bool scanRows(SearchContext& context, uint32_t from, TopK& top);
/** Scans the rows of the slots that the request lists, each once. False when the search was cancelled. */
bool scanSlots(SearchContext& context, TopK& top);
/** How many rows may be returned. Where rows carry slots of their own dead and unknown ones are counted too. */
size_t allowedRows(const SearchContext& context);

}  // namespace kith
