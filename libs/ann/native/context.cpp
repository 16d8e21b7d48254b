#include "context.h"

namespace kith {

SearchContext beginSearch(Index& index, const SearchRequest& request, Scratch& scratch, SearchOutcome& outcome) {
    const Codec& codec = index.codec();
    const Rows& rows = index.rows();
    char* query = scratch.queryRow(codec.rowBytes());
    const Affine affine = codec.encodeQuery(request.query, query);
    // In this order: removals before rows (see removalCount), and the entry is always among the graph's rows, those among all rows.
    const uint64_t removals = rows.removalCount();
    const uint64_t entry = index.entry();
    const uint32_t graphRows = index.graphRows();
    const uint32_t count = rows.count();
    return {index, request, scratch, outcome, rows, index.kernels().gather[codec.datatype()][codec.comparison()], rows.arena(), query,
            codec.chunks(), affine, removals, entry, graphRows, count, rows.mapped(), rows.deadCount() > 0};
}

}  // namespace kith
