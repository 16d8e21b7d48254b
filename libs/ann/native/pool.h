// The process-wide pool of search threads. All indexes of all JavaScript environments share it.
//
// Short searches do not wait for long ones: those run in slices of about a millisecond, and between two of them their thread runs short
// ones, for as long as a slice at most. So while both wait, either has half of the time, and no thread is kept free for either. 40
// exact scans of 400,000 rows of 64 f32 on two threads, and one quick search after the other beside them, p99 of several runs: 158 to
// 232 ms in one queue, now 1.1 to 4.2 ms.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>
#include "search.h"

namespace kith {

/** What a task may scan: tasks of which it is the same can share one scan. Null rows: nothing. */
struct ScanKey {
    const void* index = nullptr;
    const void* rows = nullptr;
    uint32_t ef = 0;
    bool exact = false;
    bool operator==(const ScanKey& other) const { return rows && index == other.index && rows == other.rows && ef == other.ef && exact == other.exact; }
};

class Task;

/** What a thread of the pool offers the task that it runs. */
class Turn : public Interlude {
public:
    static constexpr size_t companionsMost = 7;
    /** Takes tasks that wait, have this key and are as long. They are handed back to `finish`. */
    virtual void take(const ScanKey& key, bool isLong, std::vector<std::unique_ptr<Task>>& taken) = 0;
    virtual void finish(std::unique_ptr<Task> task) = 0;
    /** The buffers of the companion with this number. */
    virtual Scratch& beside(size_t i) = 0;
};

class Task {
public:
    virtual ~Task() = default;
    /** Must not throw. Others come in between where `turn` is not null. */
    virtual void run(Scratch& scratch, Turn* turn) = 0;
    /** Whether it is expected to take more than a slice. */
    virtual bool isLong() const = 0;
    /** Whether it takes about as long as one search of the graph, so that earlier results may wait for it. */
    virtual bool quick() const = 0;
    /** Hands the result over. `idle`: no quick task comes next, so there is no burst to wait for. */
    virtual void finish(std::unique_ptr<Task> self, bool idle) = 0;

protected:
    ScanKey scanKey_;

private:
    friend class TaskQueue;
    std::unique_ptr<Task> next_;
};

/** First in, first out, without memory of its own: to queue a task cannot fail. */
class TaskQueue {
public:
    const Task* front() const { return first_.get(); }
    void push(std::unique_ptr<Task> task) {
        Task* newest = task.get();
        (last_ ? last_->next_ : first_) = std::move(task);
        last_ = newest;
    }
    /** Takes tasks with this key that come soon, into memory that is reserved: a share of them where other threads would have nothing else to do. */
    void take(const ScanKey& key, size_t threads, size_t most, std::vector<std::unique_ptr<Task>>& taken) {
        constexpr size_t seenMost = 64;
        size_t alike = 0, seen = 0;
        for (const Task* task = first_.get(); task && seen < seenMost; task = task->next_.get(), ++seen) alike += task->scanKey_ == key;
        const size_t wanted = std::min(seen - alike < threads ? alike / threads : alike, most);
        std::unique_ptr<Task>* at = &first_;
        Task* before = nullptr;
        while (taken.size() < wanted) {
            Task* task = at->get();
            if (!(task->scanKey_ == key)) {
                before = task;
                at = &task->next_;
                continue;
            }
            taken.push_back(std::move(*at));
            *at = std::move(task->next_);
            if (!*at) last_ = before;
        }
    }
    std::unique_ptr<Task> pop() {
        std::unique_ptr<Task> task = std::move(first_);
        if (!task) return nullptr;
        first_ = std::move(task->next_);
        if (!first_) last_ = nullptr;
        return task;
    }

private:
    std::unique_ptr<Task> first_;
    Task* last_ = nullptr;
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
    class Thread;

    void startThreads();
    void work(uint64_t generation);
    std::unique_ptr<Task> takeShort();
    std::unique_ptr<Task> take();
    void takeAlike(const ScanKey& key, bool isLong, std::vector<std::unique_ptr<Task>>& taken);
    void finish(std::unique_ptr<Task> task);
    void runShort(Scratch& scratch);

    std::mutex mutex_;
    std::condition_variable wake_;
    TaskQueue short_;
    TaskQueue long_;
    /** Short ones that wait: what a long one looks at. */
    std::atomic<size_t> shortCount_{0};
    /** Until then short ones come first; then a long one begins, and they come in between its slices. */
    uint64_t longDueNs_ = 0;
    std::vector<std::thread> threads_;
    size_t wanted_ = 0;
    size_t sleeping_ = 0;
    size_t users_ = 0;
    /** Raised when the last user leaves: threads of an older generation end, and later users start new ones. */
    uint64_t generation_ = 0;
};

}  // namespace kith
