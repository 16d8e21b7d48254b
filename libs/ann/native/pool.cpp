#include "pool.h"
#include <algorithm>
#include <array>
#include "clock.h"
#include "cores.h"
#include "failure.h"
#include "threads.h"

namespace kith {
namespace {

constexpr uint64_t sliceNs = 1'000'000;
/** A long task waits no longer than this for short ones that keep coming. */
constexpr uint64_t longWaitNs = 5 * sliceNs;

}  // namespace

/** A thread, and the slices of the task that it runs. */
class Pool::Thread : public Turn {
public:
    explicit Thread(Pool& pool) : pool_(pool) {}
    void begin() {
        sinceNs_ = nowNs();
        awayNs_ = 0;
    }
    void offer() override {
        if (pool_.shortCount_.load(std::memory_order_relaxed) == 0) return;
        const uint64_t now = nowNs();
        if (now - sinceNs_ < sliceNs) return;
        pool_.runShort(scratch_);
        sinceNs_ = nowNs();
        awayNs_ += sinceNs_ - now;
    }
    uint64_t awayNs() const override { return awayNs_; }
    void take(const ScanKey& key, bool isLong, std::vector<std::unique_ptr<Task>>& taken) override { pool_.takeAlike(key, isLong, taken); }
    void finish(std::unique_ptr<Task> task) override { pool_.finish(std::move(task)); }
    Scratch& beside(size_t i) override { return beside_[i]; }

private:
    Pool& pool_;
    std::array<Scratch, companionsMost> beside_;
    /** Of those that come in between: the task keeps its own. */
    Scratch scratch_;
    uint64_t sinceNs_ = 0;
    uint64_t awayNs_ = 0;
};

Pool& Pool::instance() {
    // Never destroyed: a static destructor could run while a thread still waits in it.
    static Pool* pool = new Pool;
    return *pool;
}

size_t Pool::threads() {
    std::lock_guard<std::mutex> lock(mutex_);
    return wanted_ ? wanted_ : availableCores();
}

bool Pool::configure(size_t threads) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!threads_.empty()) return wanted_ == threads;
    wanted_ = threads;
    return true;
}

void Pool::retain() {
    std::lock_guard<std::mutex> lock(mutex_);
    ++users_;
}

void Pool::release() {
    std::vector<std::thread> ending;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (--users_ > 0) return;
        ++generation_;
        ending.swap(threads_);
        wake_.notify_all();
    }
    for (std::thread& thread : ending) thread.join();
}

void Pool::startThreads() {
    if (!wanted_) wanted_ = availableCores();
    try {
        threads_.reserve(wanted_);
        while (threads_.size() < wanted_) threads_.emplace_back([this, generation = generation_] { work(generation); });
    } catch (const std::exception& error) {
        // With fewer it takes longer; without any it would take for ever.
        if (threads_.empty()) {
            throw Refusal(Failure::resources, std::string("the system gives no thread for searches (") + error.what() +
                                                  "); raise its limit on threads or processes, or end some");
        }
    }
}

void Pool::submit(std::vector<std::unique_ptr<Task>>& tasks) {
    size_t woken;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (threads_.size() < wanted_ || !wanted_) startThreads();
        woken = std::min(sleeping_, tasks.size());
        for (std::unique_ptr<Task>& task : tasks) {
            if (task->isLong()) {
                if (!long_.front()) longDueNs_ = nowNs() + longWaitNs;
                long_.push(std::move(task));
            } else {
                short_.push(std::move(task));
                shortCount_.fetch_add(1, std::memory_order_relaxed);
            }
        }
    }
    tasks.clear();
    for (; woken > 0; --woken) wake_.notify_one();
}

std::unique_ptr<Task> Pool::takeShort() {
    std::unique_ptr<Task> task = short_.pop();
    if (task) shortCount_.fetch_sub(1, std::memory_order_relaxed);
    return task;
}

std::unique_ptr<Task> Pool::take() {
    if (long_.front() && (!short_.front() || nowNs() >= longDueNs_)) {
        longDueNs_ = nowNs() + longWaitNs;
        return long_.pop();
    }
    return takeShort();
}

void Pool::takeAlike(const ScanKey& key, bool isLong, std::vector<std::unique_ptr<Task>>& taken) {
    taken.reserve(Turn::companionsMost);
    std::lock_guard<std::mutex> lock(mutex_);
    (isLong ? long_ : short_).take(key, threads_.size(), Turn::companionsMost, taken);
    if (!isLong) shortCount_.fetch_sub(taken.size(), std::memory_order_relaxed);
}

void Pool::finish(std::unique_ptr<Task> task) {
    bool idle;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        idle = !short_.front() || !short_.front()->quick();
    }
    Task* finished = task.get();
    finished->finish(std::move(task), idle);
}

/** Runs short tasks for as long as a slice, one at least. */
void Pool::runShort(Scratch& scratch) {
    const uint64_t until = nowNs() + sliceNs;
    do {
        std::unique_ptr<Task> task;
        {
            std::lock_guard<std::mutex> lock(mutex_);
            task = takeShort();
        }
        if (!task) return;
        task->run(scratch, nullptr);
        finish(std::move(task));
    } while (nowNs() < until);
}

void Pool::work(uint64_t generation) {
    nameThread("kith-search");
    lowerPriority(searchNiceness);
    Scratch scratch;
    Thread thread(*this);
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        std::unique_ptr<Task> task = take();
        if (!task) {
            if (generation != generation_) return;
            ++sleeping_;
            wake_.wait(lock);
            --sleeping_;
            continue;
        }
        lock.unlock();
        thread.begin();
        task->run(scratch, &thread);
        finish(std::move(task));
        lock.lock();
    }
}

}  // namespace kith
