// Rows that are removed while a search is under way: they were alive when it began, but it may have passed them by.
#pragma once
#include "context.h"

namespace kith {

/** Offers the rows that were removed since the search began. */
Attempt offerRemoved(SearchContext& context, TopK& top);

/** An exact scan of a copy of what is alive, with the rows put back that were removed while it was copied. */
Attempt scanCopy(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome, TopK& top);

}  // namespace kith
