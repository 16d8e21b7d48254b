#include "pool.h"
#include <algorithm>
#include "cores.h"
#include "failure.h"
#include "threads.h"

namespace kith {

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
        size_t queued = 0;
        try {
            for (; queued < tasks.size(); ++queued) queue_.push_back(std::move(tasks[queued]));
        } catch (...) {
            // All or none: the caller answers for all of them.
            for (; queued > 0; --queued) {
                tasks[queued - 1] = std::move(queue_.back());
                queue_.pop_back();
            }
            throw;
        }
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
