#include "pool.h"
#include <algorithm>
#include "threads.h"
#if defined(__linux__)
#include <sched.h>
#endif

namespace kith {
namespace {

/** Cores that this process may use: in a container or under taskset that is less than the machine has. */
size_t availableCores() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<size_t>(std::max(1, CPU_COUNT(&set)));
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}

}  // namespace

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

void Pool::submit(std::vector<std::unique_ptr<Task>>& tasks) {
    size_t woken;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        if (threads_.empty()) {
            if (!wanted_) wanted_ = availableCores();
            for (size_t i = 0; i < wanted_; ++i) threads_.emplace_back([this, generation = generation_] { work(generation); });
        }
        woken = std::min(sleeping_, tasks.size());
        for (std::unique_ptr<Task>& task : tasks) queue_.push_back(std::move(task));
    }
    tasks.clear();
    for (; woken > 0; --woken) wake_.notify_one();
}

void Pool::work(uint64_t generation) {
    nameThread("kith-search");
    lowerPriority(searchNiceness);
    Scratch scratch;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        if (queue_.empty()) {
            if (generation != generation_) return;
            ++sleeping_;
            wake_.wait(lock);
            --sleeping_;
            continue;
        }
        std::unique_ptr<Task> task = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        task->run(scratch);
        lock.lock();
        const bool idle = queue_.empty() || !queue_.front()->quick();
        lock.unlock();
        Task* finished = task.get();
        finished->finish(std::move(task), idle);
        lock.lock();
    }
}

}  // namespace kith
