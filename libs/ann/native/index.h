// One vector index: rows, graph, and the writer that brings rows into the graph.
#pragma once
#include <atomic>
#include <functional>
#include <mutex>
#include <vector>
#include "codec.h"
#include "failure.h"
#include "gate.h"
#include "graph.h"
#include "link_repair.h"
#include "rows.h"
#include "workers.h"

namespace kith {

struct IndexOptions {
    uint32_t dimension = 0;
    Metric metric = metricCosine;
    Datatype datatype = datatypeF32;
    uint32_t m = 16;
    uint32_t efConstruction = 128;
    uint32_t graphThreshold = 0;
};

class Insertion;

/** Rows below which i8 cannot be calibrated well enough to build a graph on. */
constexpr uint32_t calibrationRows = 256;

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
    bool get(uint32_t slot, float* vector) const;

    const IndexOptions& options() const { return options_; }
    const Codec& codec() const { return codec_; }
    const Kernels& kernels() const { return *kernels_; }
    const Rows& rows() const { return rows_; }
    Rows& rowsForLoading() { return rows_; }
    Codec& codecForLoading() { return codec_; }
    Graph& graph() { return graph_; }
    Gate& gate() { return gate_; }

    /** Rows in the graph; all of them are linked and may be visited. */
    uint32_t graphRows() const { return graphRows_.load(std::memory_order_acquire); }
    /** Whether rows keep their bytes from now on; before, i8 rows may be encoded again while no search is inside the gate. */
    bool calibrated() const { return calibrated_.load(std::memory_order_acquire); }
    /** Entry point of a search: the row in the low half, its level in the high half. Valid while graphRows() > 0. */
    uint64_t entry() const { return entry_.load(std::memory_order_acquire); }
    size_t graphBytes() const { return graphBytes_.load(std::memory_order_relaxed); }
    size_t sampleBytes() const { return sample_.capacity() * sizeof(float); }

    using Done = std::function<void(const Failure&)>;
    /** Throws where there is no thread for it. Calls `done` (on some thread, once; it must not throw) when the first `rows` rows are in the graph, or need not be. */
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
    /** After loading: the graph has `graphRows` rows; the writer goes on with the rest. */
    Failure adopt(uint32_t graphRows, uint32_t entryRow, uint32_t checkedRows, bool calibrated, std::vector<float> sample, Scratch& scratch);
    /** Rows of the graph when all of them were last looked at. Only while paused. */
    uint32_t checkedRows() const { return wholeRoundRows_; }
    const std::vector<float>& sample() const { return sample_; }
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

    void calibrate(const float* vectors, uint32_t count);
    bool wantsGraph(uint32_t rows) const;
    void startWriter();
    /** One turn of the writer; whether there is more to do. Throws where memory is missing: then the row that it was at is not added. */
    bool writeSome(Scratch& scratch);
    void addToGraph(uint32_t row, Insertion& insertion, Scratch& scratch);
    void makeFindable(uint32_t row, uint32_t rows, Scratch& scratch);
    bool wholeRoundIsDue() const;
    bool roundIsDue() const;
    void goOnWithRound(Scratch& scratch);
    void noteGraphBytes();
    void tellWaiters(const Failure& failure = {});

    IndexOptions options_;
    const Kernels* kernels_;
    Codec codec_;
    Rows rows_;
    Graph graph_;
    LinkRepair repair_;
    Gate gate_;
    /** i8: the f32 originals of the rows while the calibration may still change. */
    std::vector<float> sample_;
    std::atomic<bool> calibrated_{false};

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
    uint32_t wholeRoundRows_ = 0;

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

}  // namespace kith
