#include "workers.h"
#include <algorithm>
#include <memory>
#include "cores.h"
#include "failure.h"
#include "threads.h"

namespace kith {
namespace {

/** Operations wait for the disk more than they compute, and a short one should not wait for a load of minutes. */
constexpr size_t operationThreads = 4;

}  // namespace

void Workers::retain() {
    std::lock_guard<std::mutex> lock(mutex_);
    ++users_;
}

void Workers::release() {
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

void Workers::startThread() {
    try {
        threads_.reserve(most_);
        threads_.emplace_back([this, generation = generation_] { work(generation); });
    } catch (const std::exception& error) {
        // With one thread less it takes longer; without any it would take for ever.
        if (threads_.empty()) {
            throw Refusal(Failure::resources, std::string("the system gives no thread (") + error.what() +
                                                  "); raise its limit on threads or processes, or end some");
        }
    }
}

void Workers::ensureThread() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (threads_.empty()) startThread();
}

void Workers::enqueue(Job& job) {
    job.state_ = Job::queued;
    job.next_ = nullptr;
    (last_ ? last_->next_ : first_) = &job;
    last_ = &job;
    if (sleeping_ > 0) wake_.notify_one();
}

void Workers::submit(Job& job) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (job.state_ == Job::running || job.state_ == Job::runningAgain) {
        job.state_ = Job::runningAgain;
        return;
    }
    if (threads_.empty() || (sleeping_ == 0 && threads_.size() < most_)) startThread();
    job.notBefore_ = {};
    if (job.state_ == Job::idle) enqueue(job);
    else if (sleeping_ > 0) wake_.notify_one();
}

void Workers::cancel(Job& job) {
    std::unique_lock<std::mutex> lock(mutex_);
    if (job.state_ == Job::queued) {
        Job* before = nullptr;
        for (Job* each = first_; each != &job; each = each->next_) before = each;
        (before ? before->next_ : first_) = job.next_;
        if (last_ == &job) last_ = before;
        job.state_ = Job::idle;
        return;
    }
    // Whatever it asks for at the end of its present part.
    job.cancelled_ = true;
    ended_.wait(lock, [&] { return job.state_ == Job::idle; });
    job.cancelled_ = false;
}

Workers::Job* Workers::takeDue(Clock::time_point now, Clock::time_point& next) {
    Job* before = nullptr;
    for (Job* job = first_; job; before = job, job = job->next_) {
        if (job->notBefore_ > now) {
            next = std::min(next, job->notBefore_);
            continue;
        }
        (before ? before->next_ : first_) = job->next_;
        if (last_ == job) last_ = before;
        job->state_ = Job::running;
        return job;
    }
    return nullptr;
}

void Workers::work(uint64_t generation) {
    nameThread(name_);
    lowerPriority(niceness_);
    Scratch scratch;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
        Clock::time_point next = Clock::time_point::max();
        Job* job = takeDue(Clock::now(), next);
        if (!job) {
            if (generation != generation_) return;
            ++sleeping_;
            if (next == Clock::time_point::max()) wake_.wait(lock);
            else wake_.wait_until(lock, next);
            --sleeping_;
            continue;
        }
        lock.unlock();
        const Again again = job->run(scratch);
        lock.lock();
        const bool asked = job->state_ == Job::runningAgain;
        if ((again.kind != Again::never || asked) && !job->cancelled_) {
            job->notBefore_ = again.kind == Again::later && !asked ? Clock::now() + again.pause : Clock::time_point{};
            enqueue(*job);
            continue;
        }
        if (job->isHeld_) {
            // Who waits for it may destroy it as soon as the lock is free.
            job->state_ = Job::idle;
            ended_.notify_all();
        } else {
            lock.unlock();
            delete job;
            lock.lock();
        }
    }
}

Workers& writers() {
    // Never destroyed: a static destructor could run while a thread still waits in it.
    static Workers* workers = new Workers("kith-writer", writerNiceness, availableCores());
    return *workers;
}

Workers& operations() {
    static Workers* workers = new Workers("kith-files", writerNiceness, operationThreads);
    return *workers;
}

void runOperation(std::function<void(Scratch&)> action) {
    class Operation : public Workers::Job {
    public:
        explicit Operation(std::function<void(Scratch&)> action) : Job(false), action_(std::move(action)) {}
        Workers::Again run(Scratch& scratch) noexcept override {
            action_(scratch);
            return {};
        }

    private:
        std::function<void(Scratch&)> action_;
    };
    auto operation = std::make_unique<Operation>(std::move(action));
    operations().submit(*operation);
    operation.release();
}

}  // namespace kith
