// Top-k over values: the rows with the largest dot products.
//
// Rows are gone through in ranges of 2,048, and the terms of the query one after the other in each, whose products are added up in an array: learned sparse
// vectors have many common terms and flat weights, so that nearly every row has some of the query, and what is needed is little work for a posting
// rather than few postings. Row by row with block bounds, 100,000 vectors of 120 entries took 20 ms a query.
//
// Where enough results are known, a range is first bounded: by the largest value of each term in it (block-max pruning of ranges), then row by row. Common terms
// have a column of bytes for that, which vector instructions add up; of the others the values themselves are taken. What may be a result is then
// computed exactly: the few rows by looking their postings up, or the whole range where they are many. Exact sums are in f64 and in the order of the query, so that the
// same point has the same score in any segment or shard.
#include <algorithm>
#include <cmath>
#include "postings.h"

namespace kith {
namespace {

/** Lookups of a posting that take as long as to add up one. */
constexpr uint32_t lookupCost = 16;
/** Below, sums in f32 may have lost what small products add. */
constexpr double boundedMin = 1e-30;

/** One term on its way through a segment. */
class ValueCursor {
public:
    ValueCursor(const Segment& segment, uint32_t at, float weight)
        : weight(weight), column(segment.columnOf(at)), count(segment.counts[at]), reader_(segment, at) {}

    float weight;
    uint32_t column, count;

    /** To the first block that has rows of `start` or beyond. */
    void enter(uint32_t start) {
        start_ = start;
        while (block_ < reader_.blocks() && reader_.last(block_) < start) ++block_;
        from_ = block_ == reader_.blocks() ? noPosting : block_ == 0 ? 0 : reader_.last(block_ - 1) + 1;
    }
    /** No posting from where it was entered on has a row before this one. */
    uint32_t from() const { return from_; }
    /** The largest and the least value of the blocks up to `end`. */
    void valueBounds(uint32_t end, float& most, float& least) const {
        for (uint32_t i = block_; i < reader_.blocks(); ++i) {
            most = std::max(most, reader_.block(i).most);
            least = std::min(least, reader_.block(i).least);
            if (reader_.last(i) + 1 >= end) return;
        }
    }
    /** Calls `action(row, value)` for all postings from where it was entered up to `end`; returns the blocks they are in. */
    template <class Action> uint32_t each(uint32_t end, Action&& action) const {
        uint32_t i = block_;
        for (; i < reader_.blocks(); ++i) {
            const ValueBlock block = reader_.values(i);
            if (block.base >= end) break;
            const uint32_t last = reader_.last(i);
            block.each(block.lowerBound(start_, last), last < end ? block.count : block.lowerBound(end, last), action);
        }
        return i - block_;
    }
    /** Whether the row, not before the one that was entered, has the term; its value. */
    bool find(uint32_t row, float& value) const {
        if (row < from_) return false;
        uint32_t i = block_;
        while (i < reader_.blocks() && reader_.last(i) < row) ++i;
        if (i == reader_.blocks()) return false;
        const ValueBlock block = reader_.values(i);
        if (block.base > row) return false;
        const uint32_t place = block.lowerBound(row, reader_.last(i));
        value = block.value(place);
        return block.row(place) == row;
    }

private:
    PostingReader reader_;
    uint32_t block_ = 0, start_ = 0, from_ = 0;
};

class ValueSearch {
public:
    ValueSearch(const PostingsRequest& request, const Segment& segment, ValueSums& sums, TopK& top, SearchOutcome& outcome)
        : request_(request), segment_(segment), sums_(sums), top_(top), outcome_(outcome) {}

    bool run() {
        uint64_t postings = 0;
        for (const PostingTerm& term : request_.terms) {
            const uint32_t at = segment_.find(term.term);
            if (at == noPosting) continue;
            cursors_.emplace_back(segment_, at, term.weight);
            postings += segment_.counts[at];
            hasColumn_ = hasColumn_ || cursors_.back().column != noPosting;
        }
        if (cursors_.empty()) return true;
        outcome_.costs.allowedRows += static_cast<uint32_t>(postings);
        // Each addition of two rounded numbers is off by 2^-24 at most, and all of them are positive.
        slack_ = 1.0 - static_cast<double>(cursors_.size() + 8) * 0x1p-23;
        const double inRange = static_cast<double>(postings) * valueRange / segment_.rows;
        lookedUpMax_ = static_cast<uint32_t>((inRange + valueRange) / static_cast<double>(lookupCost * cursors_.size()));
        for (uint32_t start = 0; start < segment_.rows; start += valueRange) {
            if (request_.interlude) request_.interlude->offer();
            if (request_.cancel && *request_.cancel) return false;
            start_ = start;
            end_ = std::min(start + valueRange, segment_.rows);
            // The worst result is as far as its score is low.
            const double least = -static_cast<double>(top_.worst());
            if (enter() && (least < boundedMin || (mayReach(least) && !scoreByBounds(least)))) scoreAll();
        }
        return true;
    }

private:
    /** Whether rows of the range may have a term. */
    bool enter() {
        bool any = false;
        for (ValueCursor& cursor : cursors_) {
            cursor.enter(start_);
            any = any || cursor.from() < end_;
        }
        return any;
    }

    float stepOf(const ValueCursor& cursor) const {
        return segment_.steps[size_t{cursor.column} * segment_.ranges() + start_ / valueRange];
    }

    /** Whether a row could be a result by the largest values of the range. What terms add that are not looked at row by row is in `others_`. */
    bool mayReach(double least) {
        double sum = 0;
        others_ = 0;
        for (const ValueCursor& cursor : cursors_) {
            if (cursor.from() >= end_) continue;
            float most = 0, lowest = 0;
            if (cursor.column != noPosting && cursor.weight >= 0) most = 255 * stepOf(cursor);
            else cursor.valueBounds(end_, most, lowest);
            if (cursor.weight >= 0) sum += static_cast<double>(cursor.weight) * most;
            else others_ += static_cast<double>(cursor.weight) * lowest;
        }
        return sum + others_ >= least * slack_;
    }

    /** False where it is faster to score the whole range. */
    bool scoreByBounds(double least) {
        if (!hasColumn_) return false;
        const double wanted = (least - others_) * slack_;
        if (wanted < boundedMin) return false;
        float* bounds = sums_.bounds.data();
        std::fill(sums_.bounds.begin(), sums_.bounds.end(), 0.0f);
        for (const ValueCursor& cursor : cursors_) {
            if (cursor.from() >= end_ || cursor.weight <= 0) continue;
            if (cursor.column != noPosting) {
                const size_t width = size_t{segment_.ranges()} * valueRange;
                const float factor = std::max(cursor.weight * stepOf(cursor), std::numeric_limits<float>::min());
                request_.kernels->addCodes(bounds, segment_.codes.data() + cursor.column * width + start_, factor, valueRange);
                continue;
            }
            const float weight = cursor.weight;
            outcome_.costs.visitedRows += cursor.each(end_, [&](uint32_t row, float value) { bounds[row - start_] += weight * std::max(0.0f, value); });
        }
        const size_t found = request_.kernels->atLeast(bounds, valueRange, static_cast<float>(wanted), sums_.places.data());
        size_t allowed = 0;
        for (size_t i = 0; i < found; ++i)
            if (request_.allows(segment_, start_ + sums_.places[i])) sums_.places[allowed++] = sums_.places[i];
        if (allowed > lookedUpMax_) return false;
        for (size_t i = 0; i < allowed; ++i) {
            const uint32_t place = sums_.places[i];
            if (bounds[place] + others_ >= -static_cast<double>(top_.worst()) * slack_) score(start_ + place);
        }
        return true;
    }

    void score(uint32_t row) {
        double total = 0;
        bool any = false;
        for (const ValueCursor& cursor : cursors_) {
            float value = 0;
            if (!cursor.find(row, value)) continue;
            ++outcome_.costs.visitedRows;
            total += static_cast<double>(cursor.weight) * value;
            any = true;
        }
        ++outcome_.computed;
        if (any) top_.offer({-static_cast<float>(total), segment_.slots[row], row});
    }

    void scoreAll() {
        double* exact = sums_.exact.data();
        uint8_t* matched = sums_.matched.data();
        std::fill(sums_.exact.begin(), sums_.exact.end(), 0.0);
        std::fill(sums_.matched.begin(), sums_.matched.end(), uint8_t{0});
        for (const ValueCursor& cursor : cursors_) {
            if (cursor.from() >= end_) continue;
            const double weight = cursor.weight;
            outcome_.costs.visitedRows += cursor.each(end_, [&](uint32_t row, float value) {
                exact[row - start_] += weight * value;
                matched[row - start_] = 1;
            });
        }
        for (uint32_t at = 0; at < valueRange; at += sizeof(uint64_t)) {
            uint64_t any;
            std::memcpy(&any, matched + at, sizeof any);
            if (any == 0) continue;
            for (uint32_t i = at; i < at + sizeof any; ++i) {
                if (!matched[i]) continue;
                ++outcome_.computed;
                const float distance = -static_cast<float>(exact[i]);
                if (distance <= top_.worst() && request_.allows(segment_, start_ + i)) top_.offer({distance, segment_.slots[start_ + i], start_ + i});
            }
        }
    }

    const PostingsRequest& request_;
    const Segment& segment_;
    ValueSums& sums_;
    TopK& top_;
    SearchOutcome& outcome_;
    /** In the order of the query. */
    std::vector<ValueCursor> cursors_;
    bool hasColumn_ = false;
    double slack_ = 1, others_ = 0;
    /** Of more rows than this it is faster to score all. */
    uint32_t lookedUpMax_ = 0;
    uint32_t start_ = 0, end_ = 0;
};

}  // namespace

bool searchValues(const PostingsRequest& request, const Segment& segment, ValueSums& sums, TopK& top, SearchOutcome& outcome) {
    return ValueSearch(request, segment, sums, top, outcome).run();
}

}  // namespace kith
