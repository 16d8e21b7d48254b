// An inverted index: for each term the rows that have it, in compressed blocks, searched with block-max pruning: of texts row by row
// (postings_search.cpp), of values by ranges of rows (values_search.cpp).
//
// It is made of segments that never change but for what is dead in them. An addition makes a small one, and a worker merges small
// ones into larger ones, without the dead rows. A search takes the list of segments and the number of the last change when it is handed
// in, and sees exactly that state, whatever changes meanwhile.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>
#include "failure.h"
#include "files.h"
#include "kernels.h"
#include "search.h"
#include "value_blocks.h"
#include "workers.h"

namespace kith {

/** Postings of a block. */
constexpr uint32_t postingBlock = 128;
constexpr uint32_t textFieldsMax = 8;
constexpr uint32_t noPosting = 0xffffffffu;
/** Rows that a search over values adds up at once: sums in f64 are 16 KB, so that they stay in the first cache. */
constexpr uint32_t valueRange = 2048;

struct PostingsOptions {
    /** Fields of a text, whose terms are weighed by BM25F; 0: terms come with values, whose products with those of the query are summed. */
    uint32_t fields = 0;
    float k1 = 1.2f;
    float b[textFieldsMax] = {};
    float weight[textFieldsMax] = {};
};

/** How often a term stands in each field of a row, relative to k1: x / (k1 + x) is what it adds to a score, but for the term's weight. */
inline float frequency(const PostingsOptions& options, const uint32_t* counts, const uint32_t* lengths, const float* averages) {
    float sum = 0;
    for (uint32_t f = 0; f < options.fields; ++f) {
        if (!counts[f]) continue;
        const float norm = averages[f] > 0 ? 1 - options.b[f] + options.b[f] * static_cast<float>(lengths[f]) / averages[f] : 1;
        sum += options.weight[f] * static_cast<float>(counts[f]) / (norm > 0 ? norm : 1);
    }
    return sum;
}

struct PostingBlock {
    uint32_t last;
    uint32_t offset;
    /** Bounds of what its postings add: x / (k1 + x) by the averages of the segment, or values. */
    float most;
    float least;
};

struct Segment {
    uint32_t fields = 0;
    uint32_t rows = 0;
    /** Of the index when it was made: the bounds of its blocks are by these. */
    float averages[textFieldsMax] = {};
    std::vector<uint32_t> slots;
    /** Tokens of each row in each field. */
    std::vector<uint32_t> lengths;
    /** Ascending; with the rows that have each, and its first block. */
    std::vector<uint32_t> terms, counts, firstBlock;
    std::vector<PostingBlock> blocks;
    std::vector<uint8_t> data;
    /**
     * Of values: the terms (their places) that a good part of the rows have, and for each of them a column, one byte for each row up to the end of the last
     * range: the value in steps of its range, rounded up, or 0 where there is none above 0. So a step times a byte bounds the value. Of column c, bytes begin at
     * c · ranges() · valueRange, and steps at c · ranges().
     */
    std::vector<uint32_t> columnTerms;
    std::vector<uint8_t> codes;
    std::vector<float> steps;
    /** By row: the change that removed it; 0 while it is alive. */
    std::unique_ptr<std::atomic<uint32_t>[]> died;
    std::atomic<uint32_t> dead{0};

    uint32_t ranges() const { return (rows + valueRange - 1) / valueRange; }
    /** The column of the term at a place, or noPosting. */
    uint32_t columnOf(uint32_t at) const;
    /** Of values, once all postings are there. */
    void fillColumns();
    /** Once the rows are known. */
    void bury();
    size_t bytes() const;
    /** Place of the term, or noPosting. */
    uint32_t find(uint32_t term) const;
    bool alive(uint32_t row) const { return died[row].load(std::memory_order_acquire) == 0; }
};

/** Decodes the blocks of a term, one after the other. */
class PostingReader {
public:
    PostingReader(const Segment& segment, uint32_t term);
    uint32_t blocks() const { return blockEnd_ - blockFirst_; }
    const PostingBlock& block(uint32_t i) const { return segment_->blocks[blockFirst_ + i]; }
    uint32_t last(uint32_t i) const { return block(i).last; }
    /** Of an index of values. */
    ValueBlock values(uint32_t i) const;
    /** Fills `rows`, and `counts` (one after the other for a row) or `values`. Returns how many there are. */
    uint32_t decode(uint32_t i, uint32_t* rows, uint32_t* counts, float* values) const;

private:
    const Segment* segment_;
    uint32_t blockFirst_, blockEnd_, total_;
};

/** Writes a segment term by term. */
class SegmentBuilder {
public:
    SegmentBuilder(Segment& segment, const PostingsOptions& options) : segment_(segment), options_(options) {}
    void begin(uint32_t term);
    /** Rows ascend. `counts` of a text: one for each field. */
    void add(uint32_t row, const uint32_t* counts, float value);
    void end();
    void finish();

private:
    void varint(uint32_t value);
    /** Writes the values and distances of a block that is whole. */
    void flushValues();
    Segment& segment_;
    const PostingsOptions& options_;
    uint32_t inBlock_ = 0, next_ = 0, base_ = 0, count_ = 0;
    /** Of a block of values: distances from its base. */
    uint32_t distances_[postingBlock];
    float values_[postingBlock];
};

using Segments = std::vector<std::shared_ptr<Segment>>;

struct PostingTerm {
    uint32_t term;
    float weight;
    uint32_t clause;
};
enum class ClauseKind : uint32_t { should = 0, must = 1, mustNot = 2 };

struct PostingsRequest {
    uint32_t k = 0;
    std::vector<PostingTerm> terms;
    std::vector<ClauseKind> clauses;
    /** Of the lengths of the collection's texts, by field. */
    float averages[textFieldsMax] = {};
    bool filtered = false;
    std::vector<uint8_t> filter;
    const volatile uint8_t* cancel = nullptr;
    Interlude* interlude = nullptr;
    /** The state that is searched. */
    std::shared_ptr<const Segments> segments;
    uint32_t change = 0;
    PostingsOptions options;
    const Kernels* kernels = nullptr;

    /** Whether a row may be a result: it was alive at the change, and the filter lets it through. */
    bool allows(const Segment& of, uint32_t row) const {
        const uint32_t died = of.died[row].load(std::memory_order_acquire);
        if (died != 0 && died <= change) return false;
        if (!filtered) return true;
        const uint32_t slot = of.slots[row];
        return (slot >> 3) < filter.size() && ((filter[slot >> 3] >> (slot & 7)) & 1);
    }
};

/** `computed`: rows that were scored; `costs.visitedRows`: blocks that were read; `costs.allowedRows`: postings of all terms. Distances are negated scores. */
void searchPostings(const PostingsRequest& request, SearchOutcome& outcome);

/** The sums of a search over values, which its segments share. */
struct ValueSums {
    explicit ValueSums(size_t rows) : exact(rows), matched(rows), bounds(rows), places(rows) {}
    std::vector<double> exact;
    std::vector<uint8_t> matched;
    std::vector<float> bounds;
    std::vector<uint32_t> places;
};

/** Adds the best of one segment of values. All clauses are ones that only count. False when the search was cancelled. */
bool searchValues(const PostingsRequest& request, const Segment& segment, ValueSums& sums, TopK& top, SearchOutcome& outcome);

class Postings {
public:
    explicit Postings(const PostingsOptions& options);
    ~Postings();

    const PostingsOptions& options() const { return options_; }

    // The caller's thread only.
    /**
     * Terms of row i: from offsets[i] to offsets[i + 1], each once for a row. `counts` has options.fields of each, `values` one; the other is null. `lengths`:
     * options.fields of each row. All or nothing.
     */
    Failure add(const uint32_t* slots, uint32_t rows, const uint32_t* offsets, const uint32_t* terms, const uint32_t* counts,
                const float* values, const uint32_t* lengths);
    void remove(const uint32_t* slots, size_t count);
    /** Alive rows that have each term. */
    void termCounts(const uint32_t* terms, size_t count, double* out) const;
    /** Takes the state into a request. */
    void look(PostingsRequest& request) const;

    struct Stats {
        uint32_t rows = 0, alive = 0, segments = 0;
        size_t bytes = 0;
        /** Tokens of alive rows, by field. */
        uint64_t lengths[textFieldsMax] = {};
    };
    Stats stats() const;
    /** Calls `done` on some thread, once, when there are at most so many segments, or the index has ended. */
    void whenSettled(uint32_t segments, std::function<void(const Failure&)> done);
    void stop();

    /** The state of the call's moment; the file holds it without the rows that are dead in it. */
    Failure save(const std::string& path, const Segments& segments, uint32_t change, const FileKey& key, const volatile uint8_t* cancel,
                 FileSum& sum) const;
    Failure load(const std::string& path, const FileSum& sum, const FileKey& key, const volatile uint8_t* cancel);
    uint32_t change() const { return change_; }
    std::shared_ptr<const Segments> segments() const {
        std::lock_guard<std::mutex> lock(mutex_);
        return segments_;
    }

private:
    class Merger : public Workers::Job {
    public:
        explicit Merger(Postings& postings) : postings_(postings) {}
        Workers::Again run(Scratch& scratch) noexcept override;

    private:
        Postings& postings_;
    };
    struct Place {
        Segment* segment;
        uint32_t row;
    };

    void averages(float* out) const;
    bool mergeSome();
    Segments due() const;
    void publish(const Segments& parts, std::shared_ptr<Segment> merged, const std::vector<std::vector<uint32_t>>& moved);
    void tellWaiters(const Failure& failure);

    const PostingsOptions options_;
    /** Of the last addition or removal. */
    uint32_t change_ = 0;
    mutable std::mutex mutex_;
    std::shared_ptr<const Segments> segments_;
    std::unordered_map<uint32_t, Place> places_;
    uint64_t lengths_[textFieldsMax] = {};
    struct Waiter {
        uint32_t segments;
        std::function<void(const Failure&)> done;
    };
    std::vector<Waiter> waiters_;
    std::atomic<bool> stopping_{false};
    Merger merger_{*this};
};

/** One segment of these, without the rows that were dead at that change; `moved`: by part and row, its new row or noPosting. */
std::shared_ptr<Segment> mergeSegments(const Segments& parts, const PostingsOptions& options, const float* averages, uint32_t change,
                                       std::vector<std::vector<uint32_t>>& moved);

}  // namespace kith
