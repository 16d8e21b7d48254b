// Lets searches read the graph while the writer adds to it, and lets the rare step that moves memory run alone.
#pragma once
#include <atomic>
#include <condition_variable>
#include <mutex>

namespace kith {

/** A shared/exclusive lock whose exclusive side cannot starve: new readers wait as soon as one wants in. */
class Gate {
public:
    void enter() {
        for (;;) {
            readers_.fetch_add(1, std::memory_order_seq_cst);
            if (!closed_.load(std::memory_order_seq_cst)) return;
            leave();
            std::unique_lock<std::mutex> lock(mutex_);
            changed_.wait(lock, [this] { return !closed_.load(); });
        }
    }
    void leave() {
        if (readers_.fetch_sub(1, std::memory_order_seq_cst) == 1 && closed_.load(std::memory_order_seq_cst)) {
            std::lock_guard<std::mutex> lock(mutex_);
            changed_.notify_all();
        }
    }
    /** Runs `action` with no reader inside. */
    template <class Action> void alone(Action&& action) {
        std::lock_guard<std::mutex> one(exclusive_);
        {
            std::unique_lock<std::mutex> lock(mutex_);
            closed_.store(true, std::memory_order_seq_cst);
            changed_.wait(lock, [this] { return readers_.load(std::memory_order_seq_cst) == 0; });
        }
        action();
        std::lock_guard<std::mutex> lock(mutex_);
        closed_.store(false, std::memory_order_seq_cst);
        changed_.notify_all();
    }

private:
    std::atomic<int> readers_{0};
    std::atomic<bool> closed_{false};
    std::mutex mutex_;
    std::mutex exclusive_;
    std::condition_variable changed_;
};

/** A reader inside the gate, which may leave before its end. */
class GateReader {
public:
    explicit GateReader(Gate& gate) : gate_(gate) { gate_.enter(); }
    ~GateReader() { leave(); }
    GateReader(const GateReader&) = delete;
    GateReader& operator=(const GateReader&) = delete;
    void leave() {
        if (inside_) gate_.leave();
        inside_ = false;
    }

private:
    Gate& gate_;
    bool inside_ = true;
};

}  // namespace kith
