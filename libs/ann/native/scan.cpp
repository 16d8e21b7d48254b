#include "scan.h"

namespace kith {

bool scanRows(SearchContext& context, uint32_t from, TopK& top) {
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

bool scanSlots(SearchContext& context, TopK& top) {
    BlockScanner scanner(context, top);
    VisitedRows visited(context.scratch, context.rowLimit, 1);
    for (size_t i = 0; i < context.request.slotCount; ++i) {
        visited.reserve();
        const uint32_t row = context.rows.rowOf(context.request.slots[i], context.mapped, context.rowLimit);
        if (row == noRow || !context.rows.alive(row) || !visited.mark(row)) continue;
        if (!scanner.push(row)) return false;
    }
    return scanner.flush();
}

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

}  // namespace kith
