// The process-wide pool of search threads. All indexes of all JavaScript environments share it.
#pragma once
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>
#include "search.h"

namespace kith {

class Task {
public:
    virtual ~Task() = default;
    /** Must not throw. */
    virtual void run(Scratch& scratch) = 0;
    /** Whether it takes about as long as one search of the graph, so that earlier results may wait for it. */
    virtual bool quick() const = 0;
    /** Hands the result over. `idle`: no quick task comes next, so there is no burst to wait for. */
    virtual void finish(std::unique_ptr<Task> self, bool idle) = 0;
};

class Pool {
public:
    static Pool& instance();
    /** How many threads the pool has or will have. */
    size_t threads();
    /** Only before the first search; false afterwards. */
    bool configure(size_t threads);
    /** Each environment that uses the pool retains it; the threads end with the last release. */
    void retain();
    void release();
    /** Takes all tasks or, where it throws (no thread, no memory), none. */
    void submit(std::vector<std::unique_ptr<Task>>& tasks);

private:
    void startThreads();
    void work(uint64_t generation);

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<std::unique_ptr<Task>> queue_;
    std::vector<std::thread> threads_;
    size_t wanted_ = 0;
    size_t sleeping_ = 0;
    size_t users_ = 0;
    /** Raised when the last user leaves: threads of an older generation end, and later users start new ones. */
    uint64_t generation_ = 0;
};

}  // namespace kith
