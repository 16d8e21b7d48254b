#include "scan.h"

namespace kith {
namespace {

/** Where the machine that this is compiled for may lack an instruction for it, the compiler's own is a call to a table. */
size_t bitCount(uint64_t word) {
    word -= (word >> 1) & 0x5555555555555555u;
    word = (word & 0x3333333333333333u) + ((word >> 2) & 0x3333333333333333u);
    return (((word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u) >> 56;
}

}  // namespace

bool scanRows(SearchContext& context, uint32_t from, TopK& top) {
    BlockScanner scanner(context, top);
    if (from == 0) return scanAllowed(context, scanner);
    if (!context.mapped || !context.request.filtered) return scanWords(context, from, scanner);
    for (uint32_t row = from; row < context.rowLimit; ++row)
        if (context.allowed(row) && !scanner.push(row)) return false;
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

size_t allowedRows(const SearchContext& context) {
    const size_t alive = context.rows.aliveCount();
    if (!context.request.filtered) return alive;
    // Where slots equal rows, of those that are alive and that the search sees.
    const size_t words = context.mapped ? (context.request.filterBytes + 7) / 8 : (static_cast<size_t>(context.rowLimit) + 63) / 64;
    size_t bits = 0;
    for (size_t word = 0; word < words; ++word) {
        uint64_t allowed = context.filterWord(word);
        if (!context.mapped && context.anyDead) allowed &= context.rows.aliveWord(word);
        bits += bitCount(allowed);
    }
    return std::min(bits, alive);
}

}  // namespace kith
