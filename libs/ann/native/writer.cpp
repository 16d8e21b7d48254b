// The writer's half of an index: what brings rows into the graph and keeps them findable there.
#include <algorithm>
#include <cstring>
#include <utility>
#include "calibration.h"
#include "index.h"
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
/** New rows after which a writer that comes to rest gives memory back, or so many bytes of them as they were given. */
constexpr uint32_t tidyRows = 1 << 16;
constexpr size_t tidyBytes = size_t{64} << 20;
/** And all rows once this part of them is new: growing clusters can hide rows that have many links. */
constexpr uint32_t wholeRoundPart = 5;
/** Rows that a round goes over before it looks whether there is other work. */
constexpr uint32_t roundStep = 4096;
/** A writer gives way to those of other indexes after so long. */
constexpr std::chrono::milliseconds turn{20};
/** After a failure it tries again by itself: at first so soon, then twice as late each time. */
constexpr std::chrono::milliseconds retryFirst{1'000};
constexpr uint32_t retryDoublings = 5;
/** Rows that are written again while additions wait: some microseconds, so that a thread of low priority is hardly ever held up in it. */
constexpr uint32_t lastStepRows = 16;

uint32_t findableLinks(Metric metric) { return metric == metricDot ? 1 : 4; }

}  // namespace

const char outOfGraphMemory[] = "no memory for the graph; free memory, or use a smaller m or more shards";

// With dot a row need not be near itself, and walks end at the rows of the largest norm: one link in is all that it gets.
uint32_t linksMin(Metric metric) { return metric == metricDot ? 1 : 2; }

void Index::startWriter() {
    buildingAllowed_.store(true);
    if (!stopping_.load()) writers().submit(writer_);
}

/** Calls those whose rows are in the graph, or all of them with a failure. */
void Index::tellWaiters(const Failure& failure) {
    std::vector<Waiter> ready;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        ready.reserve(waiters_.size());
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

void Index::noteGraphBytes() {
    const size_t rows = graph_.size();
    graphBytes_.store(graph_.tape_allocator().usedBytes() + rows * sizeof(void*) + repair_.bytes(static_cast<uint32_t>(rows)),
                      std::memory_order_relaxed);
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
    const auto mayGoOn = [&] { return pauses_.load() == 0 && !stopping_.load(); };
    if (!mayGoOn()) return false;
    const auto until = Workers::Clock::now() + turn;
    calibrateIfDue();
    if (graph_.capacity() == 0 && !startGraph(graph_)) throw Refusal(Failure::resources, outOfGraphMemory);
    Insertion insertion(*this, repair_, options_.metric == metricDot ? &lengths_ : nullptr, scratch);
    uint32_t next = graphRows_.load(std::memory_order_relaxed);
    while (next < rows_.count() && mayGoOn()) {
        addToGraph(next, insertion, scratch);
        ++next;
        if (next >= nextWaiter_.load(std::memory_order_relaxed) && next < rows_.count()) tellWaiters();
        if (next % 16 == 0 && Workers::Clock::now() > until) return true;
    }
    if (mayGoOn()) {
        // Rows that came in this turn may be others than those that the codec was fitted to, and nobody may come after them.
        calibrateIfDue();
        tellWaiters();
    }
    // The load that brought these rows is over: its buffers are free now, or will be when the round has ended.
    const auto untidied = static_cast<size_t>(next - tidiedRows_);
    if (next == rows_.count() && (untidied >= tidyRows || untidied * options_.dimension * sizeof(float) >= tidyBytes)) {
        returnFreedMemory();
        tidiedRows_ = next;
        tidyAfterRound_ = true;
    }
    const auto atRest = [&] { return next == rows_.count() && mayGoOn(); };
    while (roundIsDue() && atRest()) {
        goOnWithRound(scratch);
        if (Workers::Clock::now() > until) return true;
    }
    if (tidyAfterRound_) {
        returnFreedMemory();
        // Each of them was written and, with product codes, read for its links.
        if (given_) given_->letGo(next);
    }
    tidyAfterRound_ = false;
    return mayGoOn() && (next < rows_.count() || roundIsDue());
}

const float* Index::asGiven(const Vectors& vectors, uint32_t row, float* decoded) const {
    return given_ ? given_->decode(row, nullptr) : vectors.decode(row, decoded);
}

bool Index::calibrationIsDue() {
    const std::shared_ptr<const Vectors> vectors = this->vectors();
    const uint32_t rows = rows_.count();
    if (vectors->generation() == 0) return true;
    if (const uint32_t clipped = vectors->clipped().count() - clippedThen_; calibrationIsStale(clipped, rows)) {
        newRows_ = clipped;
        fitAgainAt_ = rows + newRows_;
        return true;
    }
    if (const Product* product = vectors->codec().product()) {
        if (rows >= fitAgainAt_) {
            newRows_ *= 2;
            fitAgainAt_ = newRows_ < rows / 2 ? rows + newRows_ : noRow;
            return true;
        }
        if (productIsEarly(*product, rows)) return true;
    }
    Vectors sample(*kernels_, Codec(options_.dimension, options_.metric, codeF32), 0);
    uint32_t measured, taken;
    {
        std::lock_guard<std::mutex> lock(adding_);
        measured = recent_.count();
        if (measured < RecentRows::least) return false;
        sample.reserve(RecentRows::sampled);
        taken = recent_.sample(sample);
    }
    if (!resolves(vectors->codec(), sample, taken)) return true;
    std::lock_guard<std::mutex> lock(adding_);
    recent_.drop(measured);
    return false;
}

Index::Sampled Index::takeSample(Vectors& sample) {
    const std::shared_ptr<const Vectors> vectors = this->vectors();
    uint32_t rows, recent, end;
    {
        std::lock_guard<std::mutex> lock(adding_);
        end = rows_.count();
        rows = recent_.count() > 0 ? recent_.first() : rows_.count();
        sample.reserve(RecentRows::sampled + sampleRows(options_.dimension));
        recent = recent_.sample(sample);
    }
    uint32_t count = recent;
    std::vector<float> decoded(vectors->codec().paddedDimension());
    const uint32_t wanted = std::min(rows, sampleRows(options_.dimension));
    // Of the alive ones, where these are enough.
    const bool any = rows_.aliveCount() < std::max(calibrationRows, rows / 2);
    for (uint32_t i = 0; i < wanted; ++i) {
        const auto row = static_cast<uint32_t>(static_cast<uint64_t>(i) * rows / wanted);
        if (any || rows_.alive(row)) sample.writeNormalized(count++, asGiven(*vectors, row, decoded.data()));
    }
    // Rows in f32 are all as they were given. Too few recent ones say little.
    const bool all = given_ || vectors->codec().code() == codeF32 || recent < RecentRows::least;
    return {count, all ? count : recent, end};
}

void Index::calibrateIfDue() {
    const Datatype datatype = options_.datatype;
    if (!isFitted(datatype) || !calibrationIsDue()) return;
    Vectors sample(*kernels_, Codec(options_.dimension, options_.metric, codeF32), 0);
    const Sampled sampled = takeSample(sample);
    if (datatype == datatypeBinary) writeAgain(binaryCodec(sample, sampled.count), sampled.end);
    else if (datatype == datatypeI4) writeAgain(nibbleCodec(sample, sampled.count), sampled.end);
    else if (isProduct(datatype)) writeAgain(productCodec(sample, sampled.count, productCode(datatype)), sampled.end);
    else writeAgain(calibrate(sample, sampled.count, sampled.queries), sampled.end);
}

/**
 * Writes all rows with another codec, beside searches and additions: the newest from what was given. Those from `unknown` on were
 * not in the sample, so they are still to be measured.
 */
void Index::writeAgain(Codec codec, uint32_t unknown) {
    const std::shared_ptr<const Vectors> old = vectors();
    const auto fresh = std::make_shared<Vectors>(*kernels_, std::move(codec), old->generation() + 1);
    std::vector<float> decoded(old->codec().paddedDimension());
    RecentRows unmeasured(options_.dimension);
    std::unique_lock<std::mutex> lock(adding_, std::defer_lock);
    for (uint32_t row = 0; !stopping_.load();) {
        lock.lock();
        const uint32_t end = rows_.count();
        const RecentRows given = std::exchange(recent_, RecentRows(options_.dimension));
        const bool last = end - row <= lastStepRows;
        if (!last) lock.unlock();
        fresh->reserve(end);
        for (; row < end; ++row) {
            const float* vector = given.find(row);
            if (!vector) vector = asGiven(*old, row, decoded.data());
            fresh->write(row, vector, 1);
            if (row >= unknown && options_.datatype == datatypeI8 && fresh->codec().code() != codeF32) unmeasured.append(row, vector, 1);
        }
        if (!last) continue;
        recent_ = std::move(unmeasured);
        clippedThen_ = fresh->clipped().count();
        if (!isProduct(options_.datatype)) {
            // What links were chosen by codes that were clipped is looked at again.
            wholeRoundRows_ = 0;
            roundRows_ = 0;
        }
        {
            std::lock_guard<std::mutex> exchange(vectorsMutex_);
            vectors_ = fresh;
        }
        lock.unlock();
        if (options_.metric == metricDot && !measureLengths(*this, graphRows(), lengths_)) throw Refusal(Failure::resources, outOfGraphMemory);
        return;
    }
}

void Index::addToGraph(uint32_t row, Insertion& insertion, Scratch& scratch) {
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

/** Walks to the row's own vector among the first `rows` rows. If this misses it, or it is suspect, links it from where the walk ends. */
void Index::makeFindable(uint32_t row, uint32_t rows, Scratch& scratch) {
    if (copies_.has(row)) return;
    const bool found = walkToRow(*this, row, rows, findableEf, scratch);
    if (!repair_.isSuspect(row)) {
        if (found) return;
        repair_.mark(row);
    }
    uint32_t missing = findableLinks(options_.metric);
    const RowDistances distances(*this);
    const auto measure = [&](uint32_t from, const uint32_t* rows, size_t count, float* out) { distances.from(from, rows, count, out); };
    // Copies come last: they are what a walk ends in where there are many, and not on the way of others. And full lists come after those
    // with room: where all rows are as far from each other the first ones are in every pool, and would lose all links but the newest.
    for (const bool areCopies : {false, true}) {
        for (const bool areFull : {false, true}) {
            for (const Scratch::Candidate& near : scratch.pool) {
                if (copies_.has(near.row) != areCopies) continue;
                if (areFull ? repair_.linkInstead(near.row, row, measure) : repair_.link(near.row, row)) --missing;
                if (missing == 0) return;
            }
        }
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
    if (roundIsWhole_) wholeRoundRows_ = roundFrom_;
    else roundRows_ = roundFrom_;
}

}  // namespace kith
