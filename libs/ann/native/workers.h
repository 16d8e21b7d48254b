// Threads that share one queue of jobs. The writers of all indexes are jobs of one such set, saves and loads of another: hundreds
// of indexes do not mean hundreds of threads.
#pragma once
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>
#include "scratch.h"

namespace kith {

class Workers {
public:
    using Clock = std::chrono::steady_clock;

    /** What a job asks for when a part of it is done. */
    struct Again {
        enum Kind { never, now, later } kind = never;
        std::chrono::milliseconds pause{0};
    };

    /** Work that is done in parts, never by two threads at once. A job that waits for no thread may be destroyed. */
    class Job {
    public:
        virtual ~Job() = default;
        virtual Again run(Scratch& scratch) noexcept = 0;

    protected:
        /** A job that nobody holds is destroyed after its last part. */
        explicit Job(bool isHeld = true) : isHeld_(isHeld) {}

    private:
        friend class Workers;
        enum State { idle, queued, running, runningAgain } state_ = idle;
        bool cancelled_ = false;
        const bool isHeld_;
        Clock::time_point notBefore_{};
        Job* next_ = nullptr;
    };

    /** At most `most` threads, started as jobs come. */
    Workers(const char* name, int niceness, size_t most) : name_(name), niceness_(niceness), most_(most) {}

    /** The threads end with the last release. */
    void retain();
    void release();

    /** Makes sure that there is a thread. Throws a Refusal (RESOURCE_EXHAUSTED) where the system gives none. */
    void ensureThread();
    /** Lets a job run soon, once more if it runs already. Throws as `ensureThread` does, and then the job is not queued. */
    void submit(Job& job);
    /** Takes a job from the queue, and waits for the end of its present part. It is not run any more. */
    void cancel(Job& job);

private:
    void work(uint64_t generation);
    void startThread();
    void enqueue(Job& job);
    Job* takeDue(Clock::time_point now, Clock::time_point& next);

    const char* const name_;
    const int niceness_;
    const size_t most_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable ended_;
    Job* first_ = nullptr;
    Job* last_ = nullptr;
    std::vector<std::thread> threads_;
    size_t sleeping_ = 0;
    size_t users_ = 0;
    /** Raised when the last user leaves: threads of an older generation end, and later users start new ones. */
    uint64_t generation_ = 0;
};

/** Brings rows into graphs. As many threads as cores. */
Workers& writers();
/** Saves, loads and closes. */
Workers& operations();

/** Runs `action` once as an operation. Throws as Workers::submit does; `action` must not throw. */
void runOperation(std::function<void(Scratch&)> action);

}  // namespace kith
