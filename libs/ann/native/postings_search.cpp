// Top-k over the postings of texts, document at a time, by MaxScore: the terms that cannot lift a row over the worst result by themselves are only
// looked at for rows that others have; and whole blocks are passed over whose bounds, summed up, do not reach it.
#include <algorithm>
#include <cmath>
#include "postings.h"

namespace kith {
namespace {

/** Rows between two looks at whether the search was cancelled. */
constexpr uint32_t cancelStep = 64;
/** Bounds are kept above what rounding adds. */
double above(double bound) { return bound + std::fabs(bound) * 1e-5; }

/** One term on its way through a segment. */
class Cursor {
public:
    Cursor(const PostingsRequest& request, const Segment& segment, uint32_t at, const PostingTerm& term, uint32_t order, double ratio,
           uint32_t& decoded)
        : reader_(segment, at), segment_(&segment), request_(&request), decoded_(&decoded), clause(term.clause), order(order),
          count(segment.counts[at]), weight_(term.weight) {
        const uint32_t fields = request.options.fields;
        rows_.resize(postingBlock);
        counts_.resize(size_t{postingBlock} * fields);
        factor_ = (request.options.k1 + 1.0) * ratio;
        for (uint32_t i = 0; i < reader_.blocks(); ++i) bound = std::max(bound, boundOf(i));
        load(0);
    }

    uint32_t row = 0;
    /** Of what the term adds to any row of the segment; never negative. */
    double bound = 0;

    double blockBound() const { return blockBound_; }
    uint32_t blockLast() const { return reader_.block(block_).last; }
    void next() {
        if (++at_ < held_) row = rows_[at_];
        else load(block_ + 1);
    }
    /** To the first row that is `target` or beyond it. */
    void seek(uint32_t target) {
        if (row >= target) return;
        if (blockLast() < target) {
            if (!skipTo(target)) return;
            load(block_);
        }
        while (rows_[at_] < target) ++at_;
        row = rows_[at_];
    }
    /** A bound of what it adds to the row, without decoding; nothing has been asked for rows before it since. */
    double boundAt(uint32_t target) {
        if (row > target) return 0;
        double sum = 0;
        uint32_t last = noPosting;
        offer(target, sum, last);
        return sum;
    }
    /** Of the block that has rows from `target` on, without decoding it: adds its bound, and lowers `last` to its last row. */
    void offer(uint32_t target, double& sum, uint32_t& last) const {
        if (row == noPosting) return;
        uint32_t block = block_;
        while (block < reader_.blocks() && reader_.block(block).last < target) ++block;
        if (block == reader_.blocks()) return;
        sum += std::max(0.0, boundOf(block));
        last = std::min(last, reader_.block(block).last);
    }
    /** What it adds to its row. */
    double value() const {
        const PostingsOptions& options = request_->options;
        const size_t fields = options.fields;
        const float x = frequency(options, counts_.data() + at_ * fields, segment_->lengths.data() + row * fields, request_->averages);
        return static_cast<double>(weight_) * (options.k1 + 1.0) * x / (options.k1 + x);
    }

private:
    double boundOf(uint32_t block) const {
        const PostingBlock& of = reader_.block(block);
        return above(static_cast<double>(weight_) * factor_ * (weight_ >= 0 ? of.most : of.least));
    }
    bool skipTo(uint32_t target) {
        while (++block_ < reader_.blocks())
            if (reader_.block(block_).last >= target) return true;
        row = noPosting;
        return false;
    }
    void load(uint32_t block) {
        block_ = block;
        at_ = 0;
        if (block == reader_.blocks()) {
            row = noPosting;
            return;
        }
        held_ = reader_.decode(block, rows_.data(), counts_.data(), nullptr);
        ++*decoded_;
        blockBound_ = std::max(0.0, boundOf(block));
        row = rows_[0];
    }

    PostingReader reader_;
    const Segment* segment_;
    const PostingsRequest* request_;
    uint32_t* decoded_;

public:
    uint32_t clause, order, count;

private:
    float weight_;
    double factor_ = 1, blockBound_ = 0;
    uint32_t block_ = 0, at_ = 0, held_ = 0;
    std::vector<uint32_t> rows_, counts_;
};

class SegmentSearch {
public:
    SegmentSearch(const PostingsRequest& request, const Segment& segment, TopK& top, SearchOutcome& outcome)
        : request_(request), segment_(segment), top_(top), outcome_(outcome) {}

    /** False when the search was cancelled. */
    bool run() {
        if (!open()) return true;
        for (uint32_t steps = 1;; ++steps) {
            if (steps % cancelStep == 0) {
                if (request_.interlude) request_.interlude->offer();
                if (request_.cancel && *request_.cancel) return false;
            }
            // The worst result is as far as its score is low.
            const double least = -static_cast<double>(top_.worst());
            if (!driven_) while (essential_ < cursors_.size() && prefix_[essential_] < least) ++essential_;
            if (driven_ && above(prefix_.back()) < least) return true;
            const size_t first = firstEssential();
            if (first >= cursors_.size()) return true;
            uint32_t row = noPosting;
            for (size_t i = first; i < cursors_.size(); ++i) row = std::min(row, cursors_[i].row);
            if (row == noPosting) return true;
            if (row > passedUntil_ && !passBlocks(first, least)) continue;
            if (mayReach(row, first, least) && request_.allows(segment_, row)) score(row, first, least);
            for (size_t i = first; i < cursors_.size(); ++i)
                if (cursors_[i].row == row) cursors_[i].next();
        }
    }

private:
    /**
     * prefix_[i] is what the first i + 1 terms add at most: while that is less than what is needed, they lead to no result by
     * themselves. `essential_` counts them.
     */
    size_t firstEssential() const { return driven_ ? first_ : essential_; }
    double before(size_t i) const { return i == 0 ? 0 : prefix_[i - 1]; }

    bool open() {
        double ratio = 1;
        constexpr double unbounded = 1e9;
        for (uint32_t f = 0; f < request_.options.fields; ++f)
            if (!(request_.averages[f] > 0)) ratio = unbounded;
            else if (segment_.averages[f] > 0) ratio = std::max(ratio, static_cast<double>(request_.averages[f]) / segment_.averages[f]);
        std::vector<uint64_t> counts(request_.clauses.size(), 0);
        for (uint32_t order = 0; order < request_.terms.size(); ++order) {
            const PostingTerm& term = request_.terms[order];
            const uint32_t at = segment_.find(term.term);
            if (at == noPosting) continue;
            const bool excludes = request_.clauses[term.clause] == ClauseKind::mustNot;
            (excludes ? excluded_ : cursors_).emplace_back(request_, segment_, at, term, order, ratio, outcome_.costs.visitedRows);
            outcome_.costs.allowedRows += segment_.counts[at];
            counts[term.clause] += segment_.counts[at];
        }
        // Of the terms of which one must be there, those with the fewest rows lead.
        uint32_t leader = noPosting;
        for (uint32_t clause = 0; clause < counts.size(); ++clause) {
            if (request_.clauses[clause] != ClauseKind::must) continue;
            ++musts_;
            if (counts[clause] == 0) return false;
            if (leader == noPosting || counts[clause] < counts[leader]) leader = clause;
        }
        driven_ = leader != noPosting;
        std::sort(cursors_.begin(), cursors_.end(), [&](const Cursor& a, const Cursor& b) {
            const bool aLeads = driven_ && a.clause == leader, bLeads = driven_ && b.clause == leader;
            if (aLeads != bLeads) return bLeads;
            return a.bound != b.bound ? a.bound < b.bound : a.order < b.order;
        });
        double sum = 0;
        for (const Cursor& cursor : cursors_) {
            if (driven_ && cursor.clause != leader) ++first_;
            prefix_.push_back(sum += cursor.bound);
        }
        matched_.assign(request_.clauses.size(), 0);
        return !cursors_.empty();
    }

    /** False where the blocks that the next row may be in were passed over, with those after them that are no better. */
    bool passBlocks(size_t first, double least) {
        uint32_t target = 0;
        for (;;) {
            double bound = before(first);
            uint32_t last = noPosting;
            for (size_t i = first; i < cursors_.size(); ++i) cursors_[i].offer(target, bound, last);
            passedUntil_ = last;
            if (bound >= least || last == noPosting) break;
            target = last + 1;
        }
        if (target == 0) return true;
        for (size_t i = first; i < cursors_.size(); ++i) cursors_[i].seek(target);
        return false;
    }

    /** Whether the row could be a result, by the bounds of the blocks that have it. */
    bool mayReach(uint32_t row, size_t first, double least) const {
        double bound = before(first);
        for (size_t i = first; i < cursors_.size(); ++i)
            if (cursors_[i].row == row) bound += cursors_[i].blockBound();
        return bound >= least;
    }

    void score(uint32_t row, size_t first, double least) {
        for (Cursor& cursor : excluded_) {
            cursor.seek(row);
            if (cursor.row == row) return;
        }
        parts_.clear();
        double sum = 0;
        ++mark_;
        uint32_t musts = 0;
        const auto take = [&](const Cursor& cursor) {
            const double value = cursor.value();
            sum += value;
            parts_.push_back({cursor.order, value});
            if (request_.clauses[cursor.clause] == ClauseKind::must && matched_[cursor.clause] != mark_) {
                matched_[cursor.clause] = mark_;
                ++musts;
            }
        };
        for (size_t i = first; i < cursors_.size(); ++i)
            if (cursors_[i].row == row) take(cursors_[i]);
        for (size_t i = first; i-- > 0;) {
            Cursor& cursor = cursors_[i];
            if (above(sum + prefix_[i]) < least) return;
            if (above(sum + before(i) + cursor.boundAt(row)) < least) return;
            cursor.seek(row);
            if (cursor.row == row) take(cursor);
        }
        ++outcome_.computed;
        if (musts < musts_) return;
        // Always in the same order: equal rows have equal scores, in whatever segment or shard.
        std::sort(parts_.begin(), parts_.end(), [](const Part& a, const Part& b) { return a.order < b.order; });
        double total = 0;
        for (const Part& part : parts_) total += part.value;
        top_.offer({-static_cast<float>(total), segment_.slots[row], row});
    }

    struct Part {
        uint32_t order;
        double value;
    };
    const PostingsRequest& request_;
    const Segment& segment_;
    TopK& top_;
    SearchOutcome& outcome_;
    std::vector<Cursor> cursors_, excluded_;
    std::vector<double> prefix_;
    std::vector<Part> parts_;
    /** By clause, the row (as a running number) that had it last. */
    std::vector<uint32_t> matched_;
    uint32_t mark_ = 0, musts_ = 0;
    size_t first_ = 0, essential_ = 0;
    /** The blocks that hold rows up to this one were looked at. */
    uint32_t passedUntil_ = 0;
    bool driven_ = false;
};

}  // namespace

void searchPostings(const PostingsRequest& request, SearchOutcome& outcome) {
    outcome.plan = Plan::scan;
    std::vector<Hit> heap;
    heap.reserve(std::min<size_t>(request.k, 1024));
    TopK top(heap, request.k);
    bool finished = !(request.cancel && *request.cancel);
    // The largest first: what they find bounds the others.
    Segments segments = *request.segments;
    std::sort(segments.begin(), segments.end(), [](const auto& a, const auto& b) { return a->rows > b->rows; });
    const bool isText = request.options.fields > 0;
    ValueSums sums(isText ? 0 : valueRange);
    for (size_t i = 0; i < segments.size() && finished; ++i)
        finished = isText ? SegmentSearch(request, *segments[i], top, outcome).run() : searchValues(request, *segments[i], sums, top, outcome);
    if (!finished) {
        outcome.failure.code = Failure::cancelled;
        return;
    }
    std::sort(heap.begin(), heap.end());
    outcome.hits = std::move(heap);
}

}  // namespace kith
