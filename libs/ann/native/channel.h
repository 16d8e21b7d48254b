// What joins one JavaScript environment to the native threads: tasks go in by batches, completions come back by bursts.
#pragma once
#include <node_api.h>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>
#include "clock.h"
#include "matrices.h"
#include "pool.h"
#include "postings.h"

namespace kith {

/** The end of a search or of another operation, on its way to JavaScript. Made before the work begins: handing it over needs no memory. */
struct Completion {
    std::unique_ptr<Completion> next;
    uint32_t ticket = 0;
    SearchOutcome outcome;
    uint32_t queueUs = 0;
    uint32_t searchUs = 0;
    /** What operations other than searches answer. */
    std::string text;
    /** Of a load: the index. */
    std::shared_ptr<Index> index;
    std::shared_ptr<Postings> postings;
    std::shared_ptr<Matrices> matrices;
    std::vector<float> numbers;

    /** Takes over a failure, its text only where there is memory for it: the code says the most. */
    void fail(const Failure& failure) noexcept {
        outcome.failure = {failure.code, failure.at, {}};
        guarded([&]() -> Failure {
            outcome.failure.text = failure.text;
            return {};
        });
    }
};

class Channel {
public:
    /** Buffers that JavaScript owns and native code fills: see native.ts for their layout. */
    struct Stage {
        uint32_t* headers = nullptr;
        uint32_t* slots = nullptr;
        float* distances = nullptr;
        uint8_t* cancelFlags = nullptr;
    };

    static Channel* open(napi_env env, napi_value onComplete, const Stage& stage);

    // JavaScript thread.
    uint32_t addIndex(std::shared_ptr<Index> index);
    std::shared_ptr<Index> index(uint32_t id) const;
    std::shared_ptr<Index> dropIndex(uint32_t id);
    uint32_t addPostings(std::shared_ptr<Postings> postings);
    std::shared_ptr<Postings> postings(uint32_t id) const;
    void dropPostings(uint32_t id);
    std::shared_ptr<Postings> takePostings(uint32_t ticket);
    uint32_t addMatrices(std::shared_ptr<Matrices> matrices);
    std::shared_ptr<Matrices> matrices(uint32_t id) const;
    void dropMatrices(uint32_t id);
    std::shared_ptr<Matrices> takeMatrices(uint32_t ticket);
    std::vector<float> takeNumbers(uint32_t ticket);
    /** Counts operations in flight; the event loop is kept alive while there are any. `quick`: how many post with `quick`. */
    void begin(napi_env env, size_t count, size_t quick = 0);
    /** Takes `begin` back for operations that could not be started, and will not post. */
    void abandon(napi_env env, size_t count, size_t quick = 0);
    const volatile uint8_t* cancelFlag(uint32_t ticket) const { return stage_.cancelFlags + ticket; }
    std::string takeText(uint32_t ticket);
    std::shared_ptr<Index> takeIndex(uint32_t ticket);

    // Any thread. `urgent` wakes the event loop at once; otherwise a wake may wait for more of the burst, as long as there
    // is a `quick` operation that has not posted yet.
    void post(std::unique_ptr<Completion> completion, bool urgent, bool quick = false);

private:
    Channel() = default;
    static void drain(napi_env env, napi_value callback, void* context, void* data);
    static void cleanUp(void* self);
    static void finalize(napi_env env, void* data, void* hint);
    void deliver(napi_env env, napi_value callback);
    std::unique_ptr<Completion> takeCompleted();

    Stage stage_;
    napi_threadsafe_function function_ = nullptr;
    size_t inFlight_ = 0;
    std::vector<std::shared_ptr<Index>> indexes_;
    std::vector<uint32_t> freeIds_;
    std::unordered_map<uint32_t, std::string> texts_;
    std::unordered_map<uint32_t, std::shared_ptr<Index>> loaded_;
    uint32_t nextPostings_ = 0;
    std::unordered_map<uint32_t, std::shared_ptr<Postings>> postings_, loadedPostings_;
    uint32_t nextMatrices_ = 0;
    std::unordered_map<uint32_t, std::shared_ptr<Matrices>> matrices_, loadedMatrices_;
    std::unordered_map<uint32_t, std::vector<float>> numbers_;

    std::mutex mutex_;
    std::condition_variable emptied_;
    /** Oldest first. */
    std::unique_ptr<Completion> completed_;
    Completion* newest_ = nullptr;
    size_t completedCount_ = 0;
    uint64_t oldestNs_ = 0;
    size_t outstanding_ = 0;
    size_t quickOutstanding_ = 0;
    bool awake_ = false;
    bool closing_ = false;
};

}  // namespace kith
