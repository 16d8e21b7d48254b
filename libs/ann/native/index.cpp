#include "index.h"
#include <algorithm>
#include <cstring>
#include <unordered_set>
#include "insert.h"
#include "walk.h"

namespace kith {
namespace {

/** The beam that must find a row. Narrower than that of searches, so that a row is helped before they miss it. */
constexpr uint32_t findableEf = 32;
/** A look at suspect rows goes so much faster than the graph grows: each is seen whenever the graph has grown by half. */
constexpr uint32_t looksPerAdd = 3;
/** At rest all suspect rows are looked at once the graph has grown by this part. */
constexpr uint32_t roundPart = 64;
/** New rows after which a writer that comes to rest gives freed memory back. */
constexpr uint32_t tidyRows = 1 << 16;
/** And all rows once this part of them is new: growing clusters can hide rows that have many links. */
constexpr uint32_t wholeRoundPart = 5;
/** Rows that a round goes over before it looks whether there is other work. */
constexpr uint32_t roundStep = 4096;

/** A writer gives way to those of other indexes after so long. */
constexpr std::chrono::milliseconds turn{20};
/** After a failure it tries again by itself: at first so soon, then twice as late each time. */
constexpr std::chrono::milliseconds retryFirst{1'000};
constexpr uint32_t retryDoublings = 5;

const char outOfGraphMemory[] = "no memory for the graph; free memory, or use a smaller m or more shards";

// With dot a row need not be near itself, and walks end at the rows of the largest norm: one link in is all that it gets.
uint32_t linksMin(Metric metric) { return metric == metricDot ? 1 : 2; }
uint32_t findableLinks(Metric metric) { return metric == metricDot ? 1 : 4; }

}  // namespace

Index::Index(const IndexOptions& options, const Kernels& kernels)
    : options_(options), kernels_(&kernels), codec_(options.dimension, options.metric, options.datatype),
      rows_(codec_.rowBytes()), graph_(unum::usearch::index_config_t(options.m, options.m * 2)),
      repair_(graph_, linksMin(options.metric)) {
    if (options_.datatype == datatypeI8) {
        options_.graphThreshold = std::max(options_.graphThreshold, calibrationRows);
    } else {
        calibrated_ = true;
    }
}

Index::~Index() { stop(); }

bool Index::wantsGraph(uint32_t rows) const { return rows > 0 && rows >= options_.graphThreshold; }

Failure Index::add(const uint32_t* slots, const float* vectors, uint32_t count) {
    if (count == 0) return {};
    const size_t dimension = options_.dimension;
    bool ascending = true;
    for (uint32_t i = 0; i < count; ++i) {
        const VectorFault fault = codec_.check(vectors + i * dimension);
        if (fault != VectorFault::none) return {fault == VectorFault::zero ? Failure::zeroVector : Failure::notFinite, i, {}};
        if (rows_.aliveRowOf(slots[i]) != noRow) return {Failure::duplicateSlot, i, {}};
        ascending &= i == 0 || slots[i] > slots[i - 1];
    }
    if (!ascending) {
        std::unordered_set<uint32_t> seen;
        for (uint32_t i = 0; i < count; ++i)
            if (!seen.insert(slots[i]).second) return {Failure::duplicateSlot, i, {}};
    }
    std::string failure = rows_.prepare(slots, count);
    if (!failure.empty()) return {Failure::resources, 0, std::move(failure)};
    if (wantsGraph(rows_.count() + count)) writers().ensureThread();
    if (!calibrated_.load(std::memory_order_relaxed)) calibrate(vectors, count);
    const uint32_t first = rows_.count();
    for (uint32_t i = 0; i < count; ++i) codec_.encodeRow(vectors + i * dimension, rows_.rowForWriting(first + i));
    rows_.publish(slots, count);
    if (wantsGraph(first + count)) {
        if (!calibrated_.load(std::memory_order_relaxed)) {
            calibrated_.store(true, std::memory_order_release);
            sample_ = {};
        }
        startWriter();
    }
    return {};
}

/**
 * Until the graph begins, every batch may show that the scale is too small. Then the scale is fitted anew to all
 * vectors so far, and the rows are encoded again from their originals.
 */
void Index::calibrate(const float* vectors, uint32_t count) {
    const size_t dimension = options_.dimension;
    const uint32_t rows = rows_.count();
    const bool last = wantsGraph(rows + count);
    bool fits = !last && codec_.range() > 0;
    for (uint32_t i = 0; i < count && fits; ++i) fits = codec_.reach(vectors + i * dimension) <= codec_.range();
    // The rows so far are fewer than the threshold, but the batch that crosses it may be of any size: take every n-th.
    const uint32_t step = last ? std::max<uint32_t>(1, count / 16384) : 1;
    for (uint32_t i = 0; i < count; i += step) sample_.insert(sample_.end(), vectors + i * dimension, vectors + (i + 1) * dimension);
    if (fits) return;
    gate_.alone([&] {
        codec_.calibrate(sample_.data(), sample_.size() / dimension);
        for (uint32_t row = 0; row < rows; ++row) codec_.encodeRow(sample_.data() + row * dimension, rows_.rowForWriting(row));
    });
}

void Index::remove(const uint32_t* slots, size_t count) {
    rows_.remove(slots, count);
}

bool Index::get(uint32_t slot, float* vector) const {
    const uint32_t row = rows_.aliveRowOf(slot);
    if (row == noRow) return false;
    codec_.decodeRow(rows_.row(row), vector);
    return true;
}

void Index::startWriter() {
    buildingAllowed_.store(true);
    if (!stopping_.load()) writers().submit(writer_);
}

void Index::whenInGraph(uint32_t rows, Done done) {
    Failure failure;
    writers().ensureThread();
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (stopping_.load()) {
            failure = {Failure::closed, 0, "the index was closed"};
        } else if (buildingAllowed_.load() && graphRows() < rows) {
            waiters_.push_back({rows, std::move(done)});
            nextWaiter_.store(std::min(nextWaiter_.load(), rows));
            // A writer that failed tries again at once. One that goes on when all is done looks for waiters first.
            writers().submit(writer_);
            return;
        }
    }
    done(failure);
}

/** Calls those whose rows are in the graph, or all of them with a failure. */
void Index::tellWaiters(const Failure& failure) {
    std::vector<Waiter> ready;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        const uint32_t done = failure ? 0xffffffffu : graphRows();
        auto middle = std::stable_partition(waiters_.begin(), waiters_.end(), [done](const Waiter& w) { return w.rows > done; });
        std::move(middle, waiters_.end(), std::back_inserter(ready));
        waiters_.erase(middle, waiters_.end());
        uint32_t next = 0xffffffffu;
        for (const Waiter& waiter : waiters_) next = std::min(next, waiter.rows);
        nextWaiter_.store(next);
    }
    for (Waiter& waiter : ready) waiter.done(failure);
}

void Index::stop() {
    {
        std::lock_guard<std::mutex> lock(mutex_);
        stopping_.store(true);
    }
    writers().cancel(writer_);
    tellWaiters({Failure::closed, 0, "the index was closed"});
}

void Index::pause() { pauses_.fetch_add(1); }

void Index::resume() {
    if (pauses_.fetch_sub(1) == 1 && buildingAllowed_.load() && !stopping_.load()) writers().submit(writer_);
}

Failure Index::adopt(uint32_t graphRows, uint32_t entryRow, uint32_t checkedRows, bool calibrated, std::vector<float> sample, Scratch& scratch) {
    sample_ = std::move(sample);
    calibrated_.store(calibrated, std::memory_order_release);
    if (graphRows > 0) {
        if (!repair_.reserve(graphRows)) return {Failure::resources, 0, outOfGraphMemory};
        entry_.store((static_cast<uint64_t>(graph_.level_of(entryRow)) << 32) | entryRow, std::memory_order_release);
        graphRows_.store(graphRows, std::memory_order_release);
        wholeRoundRows_ = std::min(checkedRows, graphRows);
        repair_.adopt(graphRows);
        for (const uint32_t row : repair_.underLinked()) makeFindable(row, graphRows, scratch);
        noteGraphBytes();
    }
    if (calibrated && wantsGraph(rows_.count())) startWriter();
    return {};
}

void Index::noteGraphBytes() {
    const size_t bytes = graph_.tape_allocator().usedBytes() + graph_.capacity() * sizeof(void*) + repair_.bytes(graph_.size());
    graphBytes_.store(bytes, std::memory_order_relaxed);
}

/** Walks to the row's own vector among the first `rows` rows. If this misses it, or it is suspect, links it from where the walk ends. */
void Index::makeFindable(uint32_t row, uint32_t rows, Scratch& scratch) {
    const bool found = walkToRow(*this, row, rows, findableEf, scratch);
    if (!repair_.isSuspect(row)) {
        if (found) return;
        repair_.mark(row);
    }
    uint32_t missing = findableLinks(options_.metric);
    for (const Scratch::Candidate& near : scratch.pool) {
        if (repair_.link(near.row, row)) --missing;
        if (missing == 0) return;
    }
}

bool Index::wholeRoundIsDue() const {
    // With dot a row that is not found by its own vector is nothing amiss.
    const uint32_t rows = graphRows();
    return options_.metric != metricDot && rows - wholeRoundRows_ > rows / wholeRoundPart;
}

bool Index::roundIsDue() const {
    const uint32_t rows = graphRows();
    return rows - roundRows_ > rows / roundPart;
}

void Index::goOnWithRound(Scratch& scratch) {
    const uint32_t rows = graphRows();
    if (roundAt_ == 0) {
        roundFrom_ = rows;
        roundIsWhole_ = wholeRoundIsDue();
    }
    const uint32_t end = std::min(rows, roundAt_ + roundStep);
    if (!roundIsWhole_) roundAt_ = repair_.nextSuspect(roundAt_, end);
    if (roundAt_ < end) makeFindable(roundAt_++, rows, scratch);
    if (roundAt_ < rows) return;
    roundAt_ = 0;
    // What the graph gained while the round was interrupted may hide rows that it had passed. A round over the suspect rows
    // follows one over all: links that were given may have taken the place of others.
    (roundIsWhole_ ? wholeRoundRows_ : roundRows_) = roundFrom_;
}

Workers::Again Index::Writer::run(Scratch& scratch) noexcept {
    bool more = false;
    const Failure failure = guarded([&]() -> Failure {
        more = index_.writeSome(scratch);
        // Who came to wait while the last row was added may have seen the rows before it, and been missed.
        index_.tellWaiters();
        return {};
    });
    if (!failure) {
        failures_ = 0;
        return {more ? Workers::Again::now : Workers::Again::never, {}};
    }
    guarded([&]() -> Failure {
        index_.tellWaiters(failure);
        return {};
    });
    return {Workers::Again::later, retryFirst * (1u << std::min(failures_++, retryDoublings))};
}

bool Index::writeSome(Scratch& scratch) {
    // Holding the lock for many rows keeps it cheap; a pause is seen before every row.
    std::lock_guard<std::mutex> lock(building_);
    const auto until = Workers::Clock::now() + turn;
    Insertion insertion(*this, repair_, scratch);
    const auto mayGoOn = [&] { return pauses_.load() == 0 && !stopping_.load(); };
    uint32_t next = graphRows_.load(std::memory_order_relaxed);
    while (next < rows_.count() && mayGoOn()) {
        addToGraph(next, insertion, scratch);
        ++next;
        if (next >= nextWaiter_.load(std::memory_order_relaxed)) tellWaiters();
        if (next % 16 == 0 && Workers::Clock::now() > until) return true;
    }
    // The load that brought these rows is over: its buffers are free now, or will be when the round has ended.
    if (next == rows_.count() && next - tidiedRows_ >= tidyRows) {
        returnFreedMemory();
        tidiedRows_ = next;
        tidyAfterRound_ = true;
    }
    const auto atRest = [&] { return next == rows_.count() && mayGoOn(); };
    while (roundIsDue() && atRest()) {
        goOnWithRound(scratch);
        if (Workers::Clock::now() > until) return true;
    }
    if (tidyAfterRound_) returnFreedMemory();
    tidyAfterRound_ = false;
    return mayGoOn() && (next < rows_.count() || roundIsDue());
}

void Index::addToGraph(uint32_t row, Insertion& insertion, Scratch& scratch) {
    if (row >= graph_.capacity()) {
        // The node table moves when it grows, so searches stand aside while 8 bytes per row are copied. Big steps make
        // that rare: once per eighth more rows.
        const size_t capacity = static_cast<size_t>(row) + std::max<size_t>(row / 8, 16384);
        bool grown = false;
        gate_.alone([&] { grown = graph_.try_reserve(unum::usearch::index_limits_t(capacity, 1)); });
        if (!grown) throw Refusal(Failure::resources, outOfGraphMemory);
    }
    // Not again where only what comes after it has failed before.
    if (graph_.size() == row && (!repair_.reserve(row + 1) || !insertion.add())) throw Refusal(Failure::resources, outOfGraphMemory);
    if (row > 0) {
        // Before the row counts as part of the graph: until then searches scan it.
        for (const uint32_t lacking : repair_.underLinked()) makeFindable(lacking, row + 1, scratch);
        const uint32_t end = std::min(row, lookedAt_ + looksPerAdd);
        lookedAt_ = repair_.nextSuspect(lookedAt_, end);
        if (lookedAt_ < end) makeFindable(lookedAt_++, row + 1, scratch);
        if (lookedAt_ >= row) lookedAt_ = 0;
    }
    const uint64_t level = graph_.level_of(row);
    graphRows_.store(row + 1, std::memory_order_release);
    // A search reads the entry first and the row count second, so the entry it starts from is always counted.
    if (row == 0 || level > (entry_.load(std::memory_order_relaxed) >> 32)) entry_.store((level << 32) | row, std::memory_order_release);
    noteGraphBytes();
}

}  // namespace kith
