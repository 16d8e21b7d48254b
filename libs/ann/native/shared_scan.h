// One scan for several searches that wait for the same rows.
#pragma once
#include <cstdint>
#include "context.h"

namespace kith {

/**
 * Scans all rows that the search may return, and each block of them for its company, too, while the block is in the cache: what a scan costs are the bytes of its
 * rows (docs/decisions/0045-shared-scans.md). Each search has its own view of what is alive, its own distances and its own hits, so answers are those of a scan of its
 * own. Companions whose view does not have the same rows, because some were added or removed in between, are left as they are. False when the search was cancelled.
 */
bool scanInCompany(Index& index, SearchContext& context, TopK& top);
/** Searches that were answered by the scan of another one, since the process began. */
uint64_t companionsServed();

}  // namespace kith
