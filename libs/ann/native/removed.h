// Rows that are removed while a search is under way: they were alive when it began, but it may have passed them by.
#pragma once
#include "context.h"

namespace kith {

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
