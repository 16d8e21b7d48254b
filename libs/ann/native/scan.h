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
    /** A block at once, when no other rows wait. */
    bool measure(const uint32_t* rows, size_t count) {
        std::copy_n(rows, count, context_.scratch.ids.data());
        count_ = count;
        return flush();
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

/** Calls `action` with each bit of a word, until it returns false. */
template <class Action> bool eachBit(uint64_t word, Action&& action) {
    for (; word; word &= word - 1)
        if (!action(static_cast<uint32_t>(__builtin_ctzll(word)))) return false;
    return true;
}

/** Over the words of what is alive and, where slots equal rows, of the filter. */
template <class Scanner> bool scanWords(const SearchContext& context, uint32_t from, Scanner& scanner) {
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
template <class Scanner> bool scanFilter(const SearchContext& context, Scanner& scanner) {
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

/** Gives the scanner all rows that are allowed. False when it was cancelled. */
template <class Scanner> bool scanAllowed(const SearchContext& context, Scanner& scanner) {
    return context.mapped && context.request.filtered ? scanFilter(context, scanner) : scanWords(context, 0, scanner);
}

/** Scans the allowed rows from `from` up to the search's limit. False when the search was cancelled. */
bool scanRows(SearchContext& context, uint32_t from, TopK& top);
/** Scans the rows of the slots that the request lists, each once. False when the search was cancelled. */
bool scanSlots(SearchContext& context, TopK& top);
/** How many rows may be returned. Where rows carry slots of their own dead and unknown ones are counted too. */
size_t allowedRows(const SearchContext& context);

}  // namespace kith
