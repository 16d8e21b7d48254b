// How an index of values (sparse vectors) keeps the rows of a term.
//
// A block holds the values of up to 128 postings as f32, and behind them how far each row lies from the first that it could be: in one, two or four
// bytes, whichever the farthest needs. So any posting is read without those before it, and loops over a block have no branches. Variable-length
// bytes took as much room for frequent terms, and five times as long.
#pragma once
#include <cstdint>
#include <cstring>

namespace kith {

struct ValueBlock {
    /** The first row that it could hold: the one behind the block before. */
    uint32_t base = 0;
    uint32_t count = 0;
    /** Bytes of a distance. */
    uint32_t width = 1;
    const uint8_t* values = nullptr;
    const uint8_t* distances = nullptr;

    static uint32_t widthOf(uint32_t span) { return span < 0x100 ? 1 : span < 0x10000 ? 2 : 4; }

    float value(uint32_t i) const {
        float value;
        std::memcpy(&value, values + size_t{i} * sizeof value, sizeof value);
        return value;
    }
    template <class Distance> uint32_t rowOf(uint32_t i) const {
        Distance distance;
        std::memcpy(&distance, distances + size_t{i} * sizeof distance, sizeof distance);
        return base + distance;
    }
    uint32_t row(uint32_t i) const { return width == 1 ? rowOf<uint8_t>(i) : width == 2 ? rowOf<uint16_t>(i) : rowOf<uint32_t>(i); }
    /** The first place whose row is `row` or beyond it; `count` where there is none. `last`: the row of the last one. Rows lie about evenly, so that a guess is near. */
    uint32_t lowerBound(uint32_t row, uint32_t last) const {
        if (row <= base) return 0;
        if (row > last) return count;
        uint32_t place = static_cast<uint32_t>(uint64_t{row - base} * (count - 1) / (last - base));
        while (this->row(place) < row) ++place;
        while (place > 0 && this->row(place - 1) >= row) --place;
        return place;
    }
    /** Calls `action(row, value)` for the postings between two places. */
    template <class Action> void each(uint32_t from, uint32_t to, Action&& action) const {
        if (width == 1) eachOf<uint8_t>(from, to, action);
        else if (width == 2) eachOf<uint16_t>(from, to, action);
        else eachOf<uint32_t>(from, to, action);
    }

private:
    template <class Distance, class Action> void eachOf(uint32_t from, uint32_t to, Action& action) const {
        for (uint32_t i = from; i < to; ++i) action(rowOf<Distance>(i), value(i));
    }
};

}  // namespace kith
