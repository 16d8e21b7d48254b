#include "index.h"
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <unordered_set>
#include "insert.h"

namespace kith {
namespace {

/** Rows whose codec is fitted to them wait for it in f32. */
Code firstCode(Datatype datatype) {
    switch (datatype) {
        case datatypeF16: return codeF16;
        case datatypeBf16: return codeBf16;
        default: return codeF32;
    }
}

Failure::Code codeOf(VectorFault fault) {
    switch (fault) {
        case VectorFault::notFinite: return Failure::notFinite;
        case VectorFault::zero: return Failure::zeroVector;
        default: return Failure::outOfRange;
    }
}

}  // namespace

Index::Index(const IndexOptions& options, const Kernels& kernels)
    : options_(options), kernels_(&kernels), graph_(unum::usearch::index_config_t(options.m, options.m * 2)),
      repair_(graph_, linksMin(options.metric), options.metric != metricDot),
      given_(options.givenFolder.empty() ? nullptr
                                         : std::make_unique<Vectors>(kernels, Codec(options.dimension, options.metric, codeF32), 0,
                                                                     options.givenFolder == givenInMemory ? std::string() : options.givenFolder)),
      recent_(options.dimension) {
    if (isFitted(options_.datatype)) options_.graphThreshold = std::max(options_.graphThreshold, calibrationRows);
    startVectors(Codec(options_.dimension, options_.metric, firstCode(options_.datatype)), 0);
}

Index::~Index() { stop(); }

Vectors& Index::startVectors(Codec codec, uint32_t generation) {
    vectors_ = std::make_shared<Vectors>(*kernels_, std::move(codec), generation);
    return *vectors_;
}

Failure::Code Index::checkRow(const float* vector) const {
    // A store may hold rows of any length from a time when they were not refused: they are kept, and their distances saturate.
    const VectorFault fault = checkVector(vector, options_.dimension, options_.metric);
    return fault == VectorFault::none || fault == VectorFault::outOfRange ? Failure::none : codeOf(fault);
}

Failure Index::checkQuery(const float* vector) const {
    const VectorFault fault = checkVector(vector, options_.dimension, options_.metric);
    if (fault == VectorFault::none) return {};
    Failure failure{codeOf(fault), 0, {}};
    if (fault == VectorFault::outOfRange) {
        char text[128];
        std::snprintf(text, sizeof text, "the query is %g long; dot and l2 compare vectors up to %g: scale them",
                      std::sqrt(squaredLength(vector, options_.dimension)), lengthMax);
        failure.text = text;
    }
    return failure;
}

Failure Index::add(const uint32_t* slots, const float* vectors, uint32_t count) {
    if (count == 0) return {};
    const size_t dimension = options_.dimension;
    bool ascending = true;
    for (uint32_t i = 0; i < count; ++i) {
        const Failure::Code fault = checkRow(vectors + i * dimension);
        if (fault != Failure::none) return {fault, i, {}};
        if (rows_.aliveRowOf(slots[i]) != noRow) return {Failure::duplicateSlot, i, {}};
        ascending &= i == 0 || slots[i] > slots[i - 1];
    }
    if (!ascending) {
        std::unordered_set<uint32_t> seen;
        for (uint32_t i = 0; i < count; ++i)
            if (!seen.insert(slots[i]).second) return {Failure::duplicateSlot, i, {}};
    }
    const uint32_t first = rows_.count();
    const bool graph = wantsGraph(first + count);
    // What may fail comes before the rows are visible.
    if (graph) writers().ensureThread();
    rows_.prepare(slots, count);
    {
        std::lock_guard<std::mutex> lock(adding_);
        vectors_->reserve(first + count);
        if (given_) given_->reserve(first + count);
        // Until the codec is fitted, and where it turned out that none fits, all rows are as they were given.
        if (options_.datatype == datatypeI8 && vectors_->codec().code() != codeF32) recent_.append(first, vectors, count);
        vectors_->write(first, vectors, count);
        if (given_) given_->write(first, vectors, count);
        rows_.publish(slots, count);
    }
    if (graph) startWriter();
    return {};
}

void Index::remove(const uint32_t* slots, size_t count) { rows_.remove(slots, count); }

bool Index::get(uint32_t slot, float* vector) const {
    const uint32_t row = rows_.aliveRowOf(slot);
    if (row == noRow) return false;
    const std::shared_ptr<const Vectors> vectors = this->vectors();
    std::vector<float> decoded(vectors->codec().paddedDimension());
    std::memcpy(vector, given_ ? given_->decode(row, nullptr) : vectors->decode(row, decoded.data()), options_.dimension * sizeof(float));
    return true;
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

void Index::adopt(uint32_t graphRows, uint32_t entryRow, uint32_t checkedRows, Scratch& scratch) {
    clippedThen_ = vectors_->clipped().count();
    if (graphRows > 0) {
        const bool measured = options_.metric != metricDot || measureLengths(*this, graphRows, lengths_);
        if (!measured || !repair_.reserve(graphRows) || !copies_.reserve(graphRows)) throw Refusal(Failure::resources, outOfGraphMemory);
        entry_.store((static_cast<uint64_t>(graph_.level_of(entryRow)) << 32) | entryRow, std::memory_order_release);
        graphRows_.store(graphRows, std::memory_order_release);
        wholeRoundRows_ = std::min(checkedRows, graphRows);
        copies_.adopt(graph_, graphRows);
        repair_.adopt(graphRows, copies_);
        for (const uint32_t row : repair_.underLinked()) makeFindable(row, graphRows, scratch);
        noteGraphBytes();
    }
    if (wantsGraph(rows_.count())) startWriter();
}

}  // namespace kith
