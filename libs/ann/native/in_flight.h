// Operations that are on their way, and what completes them.
#pragma once
#include <memory>
#include <utility>
#include "call.h"
#include "workers.h"

namespace kith {

/** Operations that are in flight from `begin` on, unless starting them throws. */
class InFlight {
public:
    InFlight(const Call& call, size_t count = 1, size_t quick = 0) : call_(call), count_(count), quick_(quick) {
        call.channel().begin(call.env(), count, quick);
    }
    ~InFlight() {
        if (!started_) call_.channel().abandon(call_.env(), count_, quick_);
    }
    void started() { started_ = true; }

private:
    const Call& call_;
    size_t count_, quick_;
    bool started_ = false;
};

/** Runs `action` as an operation that completes as `ticket`. `action` fills the completion, and says what failed. */
template <class Action> void operate(const Call& call, uint32_t ticket, Action action) {
    Channel* channel = &call.channel();
    InFlight inFlight(call);
    // Shared, because a std::function must be copyable; nobody copies it.
    auto completion = std::make_shared<std::unique_ptr<Completion>>(std::make_unique<Completion>());
    (*completion)->ticket = ticket;
    runOperation([channel, completion, action](Scratch& scratch) mutable {
        (*completion)->outcome.failure = guarded([&] { return action(**completion, scratch); });
        channel->post(std::move(*completion), true);
    });
    inFlight.started();
}

}  // namespace kith
