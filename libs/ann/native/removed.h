// Rows that are removed while a search is under way: they were alive when it began, but it may have passed them by.
#pragma once
#include <algorithm>
#include <vector>
#include "context.h"

namespace kith {

/** Of the rows of each slot the newest, in the order of their slots: n log n comparisons, `less` makes those of slots. */
template <class SlotOf, class Less> void keepNewest(std::vector<uint32_t>& rows, const SlotOf& slotOf, const Less& less) {
    std::sort(rows.begin(), rows.end(), [&](uint32_t a, uint32_t b) {
        const uint32_t slotA = slotOf(a), slotB = slotOf(b);
        return slotA != slotB ? less(slotA, slotB) : a > b;
    });
    const auto isSameSlot = [&](uint32_t a, uint32_t b) { return slotOf(a) == slotOf(b); };
    rows.erase(std::unique(rows.begin(), rows.end(), isSameSlot), rows.end());
}

/** Drops the rows whose slots are among these, which it sorts. Comparisons as above. */
template <class SlotOf, class Less>
void dropFound(std::vector<uint32_t>& rows, std::vector<uint32_t>& found, const SlotOf& slotOf, const Less& less) {
    std::sort(found.begin(), found.end(), less);
    const auto isFound = [&](uint32_t row) { return std::binary_search(found.begin(), found.end(), slotOf(row), less); };
    rows.erase(std::remove_if(rows.begin(), rows.end(), isFound), rows.end());
}

/** Offers the rows that were removed since the search began. */
Attempt offerRemoved(SearchContext& context, TopK& top);

/**
 * A whole search by a scan of a copy of what is alive, with the rows put back that were removed while it was copied. It is
 * never overtaken.
 */
Attempt scanCopy(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome);

/** Whether the filter or the list of slots lets a slot through; for the few rows that are met outside of a plan. */
class Wanted {
public:
    explicit Wanted(const SearchContext& context);
    bool operator()(uint32_t slot) const;

private:
    const SearchContext& context_;
    std::vector<uint32_t> listed_;
};

}  // namespace kith
