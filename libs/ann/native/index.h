// One vector index: rows, their vectors, the graph, and the writer that brings rows into the graph.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>
#include "calibration.h"
#include "codec.h"
#include "copies.h"
#include "failure.h"
#include "graph.h"
#include "lengths.h"
#include "link_repair.h"
#include "rows.h"
#include "vectors.h"
#include "workers.h"

namespace kith {

/** In the place of a folder. */
constexpr char givenInMemory[] = "memory:";

struct IndexOptions {
    uint32_t dimension = 0;
    Metric metric = metricCosine;
    Datatype datatype = datatypeF32;
    uint32_t m = 16;
    uint32_t efConstruction = 128;
    uint32_t graphThreshold = 0;
    /** Where the vectors are kept as they were given, in a file; `givenInMemory`: in memory; empty: nowhere, and codes are all that there is. */
    std::string givenFolder;
};

class Insertion;

class Index {
public:
    Index(const IndexOptions& options, const Kernels& kernels);
    ~Index();
    Index(const Index&) = delete;
    Index& operator=(const Index&) = delete;

    // The caller's thread only.
    /** All of the batch or nothing. Throws where memory or threads are missing. */
    Failure add(const uint32_t* slots, const float* vectors, uint32_t count);
    void remove(const uint32_t* slots, size_t count);
    /** `vector` has `dimension` numbers. */
    bool get(uint32_t slot, float* vector) const;

    const IndexOptions& options() const { return options_; }
    const Kernels& kernels() const { return *kernels_; }
    const Rows& rows() const { return rows_; }
    Graph& graph() { return graph_; }
    /** For the writer's thread. */
    Copies& copies() { return copies_; }
    /** The vectors of all rows that `rows()` counted before the call. */
    std::shared_ptr<const Vectors> vectors() const {
        std::lock_guard<std::mutex> lock(vectorsMutex_);
        return vectors_;
    }
    /** By what rows are linked: product codes say nothing of how far rows are from each other, but the rows are always kept as they were given beside them. */
    std::shared_ptr<const Vectors> linkVectors() const {
        return isProduct(options_.datatype) ? std::shared_ptr<const Vectors>(std::shared_ptr<const Vectors>(), given_.get()) : vectors();
    }
    /** All rows in f32, as they would best be stored; null where only their codes are kept. As long-lived as the index. */
    const Vectors* given() const { return given_.get(); }
    Vectors* givenForLoading() { return given_.get(); }
    /** Why a vector cannot be a row, or a query: a row that its datatype cannot hold is kept as it was given, beside its code. */
    Failure::Code checkRow(const float* vector) const;
    Failure checkQuery(const float* vector) const;

    /** Rows in the graph; all of them are linked and may be visited. */
    uint32_t graphRows() const { return graphRows_.load(std::memory_order_acquire); }
    /** Entry point of a search: the row in the low half, its level in the high half. Valid while graphRows() > 0. */
    uint64_t entry() const { return entry_.load(std::memory_order_acquire); }
    size_t graphBytes() const { return graphBytes_.load(std::memory_order_relaxed); }

    using Done = std::function<void(const Failure&)>;
    /**
     * Throws where there is no thread for it. Calls `done` (on some thread, once; it must not throw) when the first `rows`
     * rows are in the graph, or need not be.
     */
    void whenInGraph(uint32_t rows, Done done);
    /** Ends the writer after the row that it is at. Waiters are told that the index is closed. */
    void stop();

    /** Keeps the writer from adding rows, from the call on, until as many `resume`s. */
    void pause();
    void resume();
    /** Runs `action` while the writer stands still. Only between pause and resume. */
    template <class Action> void whilePaused(Action&& action) {
        std::lock_guard<std::mutex> lock(building_);
        action();
    }

    // Loading (persist.h), before anybody else knows the index.
    Rows& rowsForLoading() { return rows_; }
    /** From now on rows are written by this codec. */
    Vectors& startVectors(Codec codec, uint32_t generation);
    /** The graph has `graphRows` rows; the writer goes on with the rest. Throws where memory is missing. */
    void adopt(uint32_t graphRows, uint32_t entryRow, uint32_t checkedRows, Scratch& scratch);

    /** Rows of the graph when all of them were last looked at. */
    uint32_t checkedRows() const { return wholeRoundRows_.load(std::memory_order_relaxed); }
    /** For tests: rows of the graph whose count of links is not what a recount gives. Only while paused. */
    uint32_t miscountedRows() const { return repair_.miscounted(graphRows()); }

private:
    /** The job of the writer: adds rows for a while, or goes on with a round, and lets other indexes come in between. */
    class Writer : public Workers::Job {
    public:
        explicit Writer(Index& index) : index_(index) {}
        Workers::Again run(Scratch& scratch) noexcept override;

    private:
        Index& index_;
        /** Failed turns in a row. */
        uint32_t failures_ = 0;
    };

    bool wantsGraph(uint32_t rows) const { return rows > 0 && rows >= options_.graphThreshold; }

    // The writer's thread only, but for `startWriter` and `tellWaiters` (writer.cpp).
    void startWriter();
    /** One turn of the writer; whether there is more to do. Throws where memory is missing: then the row that it was at is not added. */
    bool writeSome(Scratch& scratch);
    void calibrateIfDue();
    /** The row as it was given where that is kept, else as `vectors` has it; `decoded` is room for it. */
    const float* asGiven(const Vectors& vectors, uint32_t row, float* decoded) const;
    bool calibrationIsDue();
    struct Sampled {
        /** Rows of the sample, and how many of them, at its start, are as they were given. */
        uint32_t count, queries;
        /** The first row that is not represented. */
        uint32_t end;
    };
    /** Fills a sample of all rows in f32. */
    Sampled takeSample(Vectors& sample);
    void writeAgain(Codec codec, uint32_t unknown);
    void addToGraph(uint32_t row, Insertion& insertion, Scratch& scratch);
    void makeFindable(uint32_t row, uint32_t rows, Scratch& scratch);
    bool wholeRoundIsDue() const;
    bool roundIsDue() const;
    void goOnWithRound(Scratch& scratch);
    void noteGraphBytes();
    void tellWaiters(const Failure& failure = {});

    IndexOptions options_;
    const Kernels* kernels_;
    Rows rows_;
    Graph graph_;
    LinkRepair repair_;
    Copies copies_;
    /** Of dot. */
    Lengths lengths_;

    /** Held while rows are written and published, and while their vectors are exchanged for those of another generation. */
    std::mutex adding_;
    mutable std::mutex vectorsMutex_;
    std::shared_ptr<Vectors> vectors_;
    const std::unique_ptr<Vectors> given_;
    /** Rows that were clipped when the codec was fitted. */
    uint32_t clippedThen_ = 0;
    /**
     * Product codes that are fitted again because rows of another kind have come saw few of these. So they are once more whenever there may
     * be twice as many, until these are half of all: from so many rows on, and with so many of the other kind before.
     */
    uint32_t fitAgainAt_ = noRow, newRows_ = 0;
    /** Of an i8 index, since then. Guarded by `adding_`. */
    RecentRows recent_;

    std::atomic<uint32_t> graphRows_{0};
    std::atomic<uint64_t> entry_{0};
    std::atomic<size_t> graphBytes_{0};

    // The writer's places among the suspect rows: of the look beside every add, and of the round that it makes when at rest.
    uint32_t lookedAt_ = 0;
    uint32_t roundAt_ = 0;
    bool roundIsWhole_ = false;
    /** Rows of the graph when the present round began. */
    uint32_t roundFrom_ = 0;
    /** Rows of the graph when the last round over suspect rows began, and when the last one over all did (below). */
    uint32_t roundRows_ = 0;
    /** Rows of the graph when freed memory was given back last. */
    uint32_t tidiedRows_ = 0;
    bool tidyAfterRound_ = false;
    std::atomic<uint32_t> wholeRoundRows_{0};

    struct Waiter {
        uint32_t rows;
        Done done;
    };
    std::mutex mutex_;
    std::vector<Waiter> waiters_;
    std::atomic<uint32_t> nextWaiter_{0xffffffffu};
    std::atomic<bool> buildingAllowed_{false};
    std::atomic<bool> stopping_{false};
    std::atomic<int> pauses_{0};
    std::mutex building_;
    Writer writer_{*this};
};

/** Fewest links that must lead to a row, by metric. */
uint32_t linksMin(Metric metric);

extern const char outOfGraphMemory[];

}  // namespace kith
