#include "scan.h"

namespace kith {
namespace {

/** Where the machine that this is compiled for may lack an instruction for it, the compiler's own is a call to a table. */
size_t bitCount(uint64_t word) {
    word -= (word >> 1) & 0x5555555555555555u;
    word = (word & 0x3333333333333333u) + ((word >> 2) & 0x3333333333333333u);
    return (((word + (word >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u) >> 56;
}

/** Calls `action` with each bit of a word, until it returns false. */
template <class Action> bool eachBit(uint64_t word, Action&& action) {
    for (; word; word &= word - 1)
        if (!action(static_cast<uint32_t>(__builtin_ctzll(word)))) return false;
    return true;
}

/** Over the words of what is alive and, where slots equal rows, of the filter. */
bool scanWords(SearchContext& context, uint32_t from, BlockScanner& scanner) {
    const uint32_t end = context.rowLimit;
    for (size_t word = from / 64; word * 64 < end; ++word) {
        uint64_t bits = context.request.filtered ? context.filterWord(word) : ~uint64_t{0};
        if (context.anyDead) bits &= context.rows.aliveWord(word);
        if (word == from / 64) bits &= ~uint64_t{0} << (from % 64);
        if (end - word * 64 < 64) bits &= (uint64_t{1} << (end % 64)) - 1;
        const auto first = static_cast<uint32_t>(word * 64);
        if (!eachBit(bits, [&](uint32_t bit) { return scanner.push(first + bit); })) return false;
    }
    return scanner.flush();
}

/** Over the slots of the filter, which may be far fewer than the rows. */
bool scanFilter(SearchContext& context, BlockScanner& scanner) {
    for (size_t word = 0; word * 8 < context.request.filterBytes; ++word) {
        const auto first = static_cast<uint32_t>(word * 64);
        const bool goesOn = eachBit(context.filterWord(word), [&](uint32_t bit) {
            const uint32_t row = context.rows.rowOf(first + bit, context.mapped, context.rowLimit);
            return row == noRow || !context.rows.alive(row) || scanner.push(row);
        });
        if (!goesOn) return false;
    }
    return scanner.flush();
}

}  // namespace

bool scanRows(SearchContext& context, uint32_t from, TopK& top) {
    BlockScanner scanner(context, top);
    if (!context.mapped || !context.request.filtered) return scanWords(context, from, scanner);
    if (from == 0) return scanFilter(context, scanner);
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
