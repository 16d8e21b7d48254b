// Additions, removals and merges of an inverted index.
#include "postings.h"
#include <algorithm>
#include <cmath>

namespace kith {
namespace {

/** So many segments of about one size become one. */
constexpr size_t mergedMin = 6;
/** Rows of the smallest size; each further one has four times as many. */
constexpr uint32_t smallestRows = 512;
/** A segment with so many rows, of which this part is dead, is written again without them. */
constexpr uint32_t rewrittenRows = 1024;
constexpr uint32_t deadPart = 3;
/** Larger ones are left alone. */
constexpr size_t mergedBytesMax = size_t{1} << 31;

uint32_t sizeClass(const Segment& segment) {
    uint32_t size = 0;
    for (uint64_t rows = smallestRows; rows < segment.rows; rows *= 4) ++size;
    return size;
}

struct Entry {
    uint32_t term, row, at;
};

/** By term; entries of one term stay in order. */
void sortByTerm(std::vector<Entry>& entries, std::vector<Entry>& other) {
    uint32_t most = 0;
    for (const Entry& entry : entries) most = std::max(most, entry.term);
    other.resize(entries.size());
    for (uint32_t shift = 0; shift < 32 && (most >> shift) != 0; shift += 11) {
        uint32_t starts[2048] = {};
        for (const Entry& entry : entries) ++starts[(entry.term >> shift) & 2047];
        uint32_t sum = 0;
        for (uint32_t& start : starts) {
            const uint32_t count = start;
            start = sum;
            sum += count;
        }
        for (const Entry& entry : entries) other[starts[(entry.term >> shift) & 2047]++] = entry;
        entries.swap(other);
    }
}

}  // namespace

Postings::Postings(const PostingsOptions& options) : options_(options), segments_(std::make_shared<Segments>()) {}

Postings::~Postings() { stop(); }

void Postings::stop() {
    if (stopping_.exchange(true)) return;
    writers().cancel(merger_);
    tellWaiters({Failure::closed, 0, "the index is closed"});
}

void Postings::averages(float* out) const {
    const double alive = static_cast<double>(std::max<size_t>(places_.size(), 1));
    for (uint32_t f = 0; f < options_.fields; ++f) out[f] = static_cast<float>(static_cast<double>(lengths_[f]) / alive);
}

Failure Postings::add(const uint32_t* slots, uint32_t rows, const uint32_t* offsets, const uint32_t* terms, const uint32_t* counts,
                      const float* values, const uint32_t* lengths) {
    if (rows == 0) return {};
    const uint32_t fields = options_.fields;
    auto segment = std::make_shared<Segment>();
    segment->fields = fields;
    segment->rows = rows;
    segment->slots.assign(slots, slots + rows);
    segment->lengths.assign(lengths, lengths + size_t{rows} * fields);
    segment->bury();
    std::vector<Entry> entries, other;
    entries.reserve(offsets[rows]);
    for (uint32_t row = 0; row < rows; ++row)
        for (uint32_t at = offsets[row]; at < offsets[row + 1]; ++at) entries.push_back({terms[at], row, at});
    sortByTerm(entries, other);
    uint64_t sums[textFieldsMax] = {};
    for (uint32_t row = 0; row < rows; ++row)
        for (uint32_t f = 0; f < fields; ++f) sums[f] += segment->lengths[size_t{row} * fields + f];

    std::unique_lock<std::mutex> lock(mutex_);
    for (uint32_t row = 0; row < rows; ++row) {
        if (places_.emplace(slots[row], Place{segment.get(), row}).second) continue;
        for (uint32_t undone = 0; undone < row; ++undone) places_.erase(slots[undone]);
        return {Failure::duplicateSlot, row, {}};
    }
    for (uint32_t f = 0; f < fields; ++f) lengths_[f] += sums[f];
    averages(segment->averages);
    lock.unlock();
    const Failure failure = guarded([&]() -> Failure {
        SegmentBuilder builder(*segment, options_);
        for (size_t at = 0; at < entries.size();) {
            const uint32_t term = entries[at].term;
            builder.begin(term);
            for (; at < entries.size() && entries[at].term == term; ++at) {
                const uint32_t entry = entries[at].at;
                builder.add(entries[at].row, counts ? counts + size_t{entry} * fields : nullptr, values ? values[entry] : 0);
            }
            builder.end();
        }
        builder.finish();
        auto next = std::make_shared<Segments>();
        lock.lock();
        *next = *segments_;
        next->push_back(segment);
        segments_ = next;
        return {};
    });
    if (failure) {
        if (!lock.owns_lock()) lock.lock();
        for (uint32_t row = 0; row < rows; ++row) places_.erase(slots[row]);
        for (uint32_t f = 0; f < fields; ++f) lengths_[f] -= sums[f];
        return failure;
    }
    ++change_;
    const bool isDue = !due().empty();
    lock.unlock();
    if (isDue && !stopping_.load()) writers().submit(merger_);
    return {};
}

void Postings::remove(const uint32_t* slots, size_t count) {
    std::unique_lock<std::mutex> lock(mutex_);
    ++change_;
    for (size_t i = 0; i < count; ++i) {
        const auto found = places_.find(slots[i]);
        if (found == places_.end()) continue;
        Segment& segment = *found->second.segment;
        const uint32_t row = found->second.row;
        // A search that was handed in at an earlier change still sees it.
        segment.died[row].store(change_, std::memory_order_release);
        segment.dead.fetch_add(1, std::memory_order_relaxed);
        for (uint32_t f = 0; f < options_.fields; ++f) lengths_[f] -= segment.lengths[size_t{row} * options_.fields + f];
        places_.erase(found);
    }
    const bool isDue = !due().empty();
    lock.unlock();
    if (isDue && !stopping_.load()) writers().submit(merger_);
}

void Postings::termCounts(const uint32_t* terms, size_t count, double* out) const {
    const std::shared_ptr<const Segments> segments = this->segments();
    std::vector<uint32_t> rows(postingBlock), counts(size_t{postingBlock} * std::max(1u, options_.fields));
    std::vector<float> values(postingBlock);
    for (size_t i = 0; i < count; ++i) {
        out[i] = 0;
        for (const std::shared_ptr<Segment>& segment : *segments) {
            const uint32_t at = segment->find(terms[i]);
            if (at == noPosting) continue;
            if (segment->dead.load(std::memory_order_relaxed) == 0) {
                out[i] += segment->counts[at];
                continue;
            }
            const PostingReader reader(*segment, at);
            for (uint32_t block = 0; block < reader.blocks(); ++block) {
                const uint32_t held = reader.decode(block, rows.data(), counts.data(), values.data());
                for (uint32_t p = 0; p < held; ++p) out[i] += segment->alive(rows[p]);
            }
        }
    }
}

void Postings::look(PostingsRequest& request) const {
    request.segments = segments();
    request.change = change_;
    request.options = options_;
}

Postings::Stats Postings::stats() const {
    std::lock_guard<std::mutex> lock(mutex_);
    Stats stats;
    stats.alive = static_cast<uint32_t>(places_.size());
    stats.segments = static_cast<uint32_t>(segments_->size());
    for (const std::shared_ptr<Segment>& segment : *segments_) {
        stats.rows += segment->rows;
        stats.bytes += segment->bytes();
    }
    // Of the table from slots to rows: about 40 bytes an entry with libstdc++.
    stats.bytes += places_.size() * 40;
    std::copy(lengths_, lengths_ + textFieldsMax, stats.lengths);
    return stats;
}

/** Under the lock: the segments that are to become one next. */
Segments Postings::due() const {
    for (uint32_t size = 0; size < 20; ++size) {
        Segments same;
        size_t bytes = 0;
        for (const std::shared_ptr<Segment>& segment : *segments_) {
            if (sizeClass(*segment) != size || segment->data.size() > mergedBytesMax / 2) continue;
            bytes += segment->data.size();
            if (bytes > mergedBytesMax) break;
            same.push_back(segment);
        }
        if (same.size() >= mergedMin) return same;
    }
    for (const std::shared_ptr<Segment>& segment : *segments_)
        if (segment->rows >= rewrittenRows && segment->dead.load(std::memory_order_relaxed) > segment->rows / deadPart) return {segment};
    return {};
}

bool Postings::mergeSome() {
    Segments parts;
    float averages[textFieldsMax] = {};
    uint32_t change;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        parts = due();
        this->averages(averages);
        change = change_;
    }
    if (parts.empty()) return false;
    std::vector<std::vector<uint32_t>> moved;
    std::shared_ptr<Segment> merged = mergeSegments(parts, options_, averages, change, moved);
    publish(parts, std::move(merged), moved);
    return true;
}

void Postings::publish(const Segments& parts, std::shared_ptr<Segment> merged, const std::vector<std::vector<uint32_t>>& moved) {
    auto next = std::make_shared<Segments>();
    {
        std::lock_guard<std::mutex> lock(mutex_);
        for (const std::shared_ptr<Segment>& segment : *segments_)
            if (std::find(parts.begin(), parts.end(), segment) == parts.end()) next->push_back(segment);
        for (size_t p = 0; p < parts.size(); ++p) {
            const Segment& part = *parts[p];
            for (uint32_t row = 0; row < part.rows; ++row) {
                const uint32_t to = moved[p][row];
                if (to == noPosting) continue;
                const uint32_t died = part.died[row].load(std::memory_order_acquire);
                if (died != 0) {
                    // Removed while the merge ran.
                    merged->died[to].store(died, std::memory_order_release);
                    merged->dead.fetch_add(1, std::memory_order_relaxed);
                } else {
                    places_[part.slots[row]] = {merged.get(), to};
                }
            }
        }
        if (merged->rows > 0) next->push_back(std::move(merged));
        segments_ = next;
    }
    tellWaiters({});
}

Workers::Again Postings::Merger::run(Scratch&) noexcept {
    constexpr std::chrono::milliseconds retry{1'000};
    bool more = false;
    const Failure failure = guarded([&]() -> Failure {
        more = postings_.mergeSome();
        return {};
    });
    if (failure) return {Workers::Again::later, retry};
    return {more ? Workers::Again::now : Workers::Again::never, {}};
}

void Postings::whenSettled(uint32_t segments, std::function<void(const Failure&)> done) {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        waiters_.push_back({segments, std::move(done)});
    }
    if (stopping_.load()) tellWaiters({Failure::closed, 0, "the index is closed"});
    else tellWaiters({});
}

void Postings::tellWaiters(const Failure& failure) {
    std::vector<Waiter> ready;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        // Where nothing is to be merged, there will not be fewer.
        const bool settled = due().empty();
        for (size_t i = 0; i < waiters_.size();) {
            if (!failure && !settled && segments_->size() > waiters_[i].segments) {
                ++i;
                continue;
            }
            ready.push_back(std::move(waiters_[i]));
            waiters_.erase(waiters_.begin() + static_cast<std::ptrdiff_t>(i));
        }
    }
    for (Waiter& waiter : ready) waiter.done(failure);
}

namespace {

template <class Element> bool writeArray(FileWriter& file, const std::vector<Element>& array) {
    const uint64_t count = array.size();
    return file.write(&count, sizeof count) &&
           file.writeAll(reinterpret_cast<const char*>(array.data()), array.size() * sizeof(Element));
}

template <class Element> bool readArray(FileReader& file, uint64_t most, std::vector<Element>& array) {
    uint64_t count = 0;
    if (!file.read(&count, sizeof count) || count > most / sizeof(Element)) return false;
    array.resize(count);
    return count == 0 || file.read(array.data(), count * sizeof(Element));
}

}  // namespace

Failure Postings::save(const std::string& path, const Segments& segments, uint32_t change, const FileKey& key, const volatile uint8_t* cancel,
                       FileSum& sum) const {
    FileWriter file(path, cancel, key.of(postingsFileNumber));
    const uint32_t count = static_cast<uint32_t>(segments.size());
    file.write(&count, sizeof count);
    for (const std::shared_ptr<Segment>& segment : segments) {
        file.write(&segment->rows, sizeof segment->rows);
        file.write(segment->averages, sizeof segment->averages);
        std::vector<uint8_t> dead((segment->rows + 7) / 8);
        for (uint32_t row = 0; row < segment->rows; ++row) {
            const uint32_t died = segment->died[row].load(std::memory_order_acquire);
            if (died != 0 && died <= change) dead[row >> 3] |= static_cast<uint8_t>(1 << (row & 7));
        }
        writeArray(file, dead);
        writeArray(file, segment->slots);
        writeArray(file, segment->lengths);
        writeArray(file, segment->terms);
        writeArray(file, segment->counts);
        writeArray(file, segment->firstBlock);
        writeArray(file, segment->blocks);
        writeArray(file, segment->data);
    }
    return file.finish(sum);
}

Failure Postings::load(const std::string& path, const FileSum& sum, const FileKey& key, const volatile uint8_t* cancel) {
    FileReader file(path, sum, cancel, key.of(postingsFileNumber));
    if (file.failure()) return file.failure();
    // Nothing is believed before the checksum is right.
    if (const Failure& failure = file.verifyAhead()) return failure;
    const auto wrong = [&]() -> Failure { return file.failure() ? file.failure() : corrupt(path, "is no index of postings"); };
    auto segments = std::make_shared<Segments>();
    uint32_t count = 0;
    if (!file.read(&count, sizeof count)) return wrong();
    for (uint32_t s = 0; s < count; ++s) {
        auto segment = std::make_shared<Segment>();
        std::vector<uint8_t> dead;
        segment->fields = options_.fields;
        if (!file.read(&segment->rows, sizeof segment->rows) || !file.read(segment->averages, sizeof segment->averages) ||
            !readArray(file, sum.bytes, dead) || !readArray(file, sum.bytes, segment->slots) || !readArray(file, sum.bytes, segment->lengths) ||
            !readArray(file, sum.bytes, segment->terms) || !readArray(file, sum.bytes, segment->counts) ||
            !readArray(file, sum.bytes, segment->firstBlock) || !readArray(file, sum.bytes, segment->blocks) ||
            !readArray(file, sum.bytes, segment->data))
            return wrong();
        if (segment->slots.size() != segment->rows || segment->lengths.size() != size_t{segment->rows} * options_.fields ||
            dead.size() != (segment->rows + 7) / 8 || segment->firstBlock.size() != segment->terms.size() + 1)
            return wrong();
        if (options_.fields == 0) segment->fillColumns();
        segment->bury();
        for (uint32_t row = 0; row < segment->rows; ++row) {
            if ((dead[row >> 3] >> (row & 7)) & 1) {
                segment->died[row].store(1, std::memory_order_relaxed);
                segment->dead.fetch_add(1, std::memory_order_relaxed);
                continue;
            }
            places_[segment->slots[row]] = {segment.get(), row};
            for (uint32_t f = 0; f < options_.fields; ++f) lengths_[f] += segment->lengths[size_t{row} * options_.fields + f];
        }
        segments->push_back(std::move(segment));
    }
    segments_ = segments;
    change_ = 1;
    return {};
}

}  // namespace kith
