#include "channel.h"
#include <cstring>

namespace kith {
namespace {

/** A burst is handed over when it has this many completions, or this age, or nothing more is queued. */
constexpr size_t burstMax = 8;
constexpr uint64_t burstAgeNs = 200'000;

}  // namespace

uint64_t nowNs() {
    return static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count());
}

Channel* Channel::open(napi_env env, napi_value onComplete, const Stage& stage) {
    Channel* channel = new Channel;
    channel->stage_ = stage;
    napi_value name;
    if (napi_create_string_utf8(env, "kith-ann", NAPI_AUTO_LENGTH, &name) != napi_ok ||
        napi_create_threadsafe_function(env, onComplete, nullptr, name, 0, 1, channel, finalize, channel, drain,
                                        &channel->function_) != napi_ok) {
        delete channel;
        return nullptr;
    }
    napi_unref_threadsafe_function(env, channel->function_);
    // Added after the function's own hook, so it runs before it: no thread calls into a function that is gone.
    napi_add_env_cleanup_hook(env, cleanUp, channel);
    Pool::instance().retain();
    return channel;
}

void Channel::finalize(napi_env, void* data, void*) { delete static_cast<Channel*>(data); }

void Channel::cleanUp(void* self) {
    Channel* channel = static_cast<Channel*>(self);
    std::memset(channel->stage_.cancelFlags, 1, ticketsMax);
    for (std::shared_ptr<Index>& index : channel->indexes_)
        if (index) index->stop();
    {
        std::unique_lock<std::mutex> lock(channel->mutex_);
        channel->closing_ = true;
        channel->emptied_.wait(lock, [channel] { return channel->outstanding_ == 0; });
        channel->completed_.clear();
    }
    channel->joinThreads(true);
    channel->indexes_.clear();
    channel->loaded_.clear();
    Pool::instance().release();
    napi_release_threadsafe_function(channel->function_, napi_tsfn_abort);
}

uint32_t Channel::addIndex(std::shared_ptr<Index> index) {
    if (freeIds_.empty()) {
        indexes_.push_back(std::move(index));
        return static_cast<uint32_t>(indexes_.size() - 1);
    }
    const uint32_t id = freeIds_.back();
    freeIds_.pop_back();
    indexes_[id] = std::move(index);
    return id;
}

std::shared_ptr<Index> Channel::index(uint32_t id) const { return id < indexes_.size() ? indexes_[id] : nullptr; }

std::shared_ptr<Index> Channel::dropIndex(uint32_t id) {
    if (id >= indexes_.size() || !indexes_[id]) return nullptr;
    freeIds_.push_back(id);
    return std::move(indexes_[id]);
}

void Channel::begin(napi_env env, size_t count, size_t quick) {
    if (inFlight_ == 0) napi_ref_threadsafe_function(env, function_);
    inFlight_ += count;
    std::lock_guard<std::mutex> lock(mutex_);
    outstanding_ += count;
    quickOutstanding_ += quick;
}

void Channel::onThread(std::function<void()> action) {
    joinThreads(false);
    auto done = std::make_shared<std::atomic<bool>>(false);
    std::thread thread([action = std::move(action), done] {
        action();
        done->store(true);
    });
    threads_.push_back({std::move(thread), done});
}

void Channel::joinThreads(bool all) {
    for (auto running = threads_.begin(); running != threads_.end();) {
        if (!all && !running->done->load()) {
            ++running;
            continue;
        }
        running->thread.join();
        running = threads_.erase(running);
    }
}

std::string Channel::takeText(uint32_t ticket) {
    auto found = texts_.find(ticket);
    if (found == texts_.end()) return {};
    std::string text = std::move(found->second);
    texts_.erase(found);
    return text;
}

std::shared_ptr<Index> Channel::takeIndex(uint32_t ticket) {
    auto found = loaded_.find(ticket);
    if (found == loaded_.end()) return nullptr;
    std::shared_ptr<Index> index = std::move(found->second);
    loaded_.erase(found);
    return index;
}

void Channel::post(std::unique_ptr<Completion> completion, bool urgent, bool quick) {
    const uint64_t now = urgent ? 0 : nowNs();
    std::lock_guard<std::mutex> lock(mutex_);
    if (completed_.empty()) oldestNs_ = now;
    completed_.push_back(std::move(completion));
    --outstanding_;
    if (quick) --quickOutstanding_;
    // The pool looked at its queue some time ago: a thread that was held up since then may be the last of the burst, with
    // nobody behind it who would wake the event loop (seen as a search in thousands that never came back, on a loaded machine).
    if (quickOutstanding_ == 0) urgent = true;
    if (closing_) {
        emptied_.notify_all();
    } else if (!awake_ && (urgent || completed_.size() >= burstMax || now - oldestNs_ >= burstAgeNs)) {
        // Under the lock: once `closing_` is set, nobody calls the function any more.
        awake_ = true;
        napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
    }
}

void Channel::drain(napi_env env, napi_value callback, void* context, void*) {
    if (env) static_cast<Channel*>(context)->deliver(env, callback);
}

void Channel::deliver(napi_env env, napi_value callback) {
    std::vector<std::unique_ptr<Completion>> burst;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        burst.swap(completed_);
        awake_ = false;
    }
    napi_value receiver;
    napi_get_undefined(env, &receiver);
    for (size_t next = 0; next < burst.size();) {
        size_t headers = 0, results = 0;
        for (; next < burst.size() && headers < headersMax; ++next, ++headers) {
            Completion& completion = *burst[next];
            const std::vector<Hit>& hits = completion.outcome.hits;
            if (results + hits.size() > resultsMax) break;
            uint32_t* header = stage_.headers + headers * headerWords;
            header[0] = completion.ticket;
            header[1] = completion.outcome.failure;
            header[2] = static_cast<uint32_t>(hits.size());
            header[3] = completion.outcome.computed;
            header[4] = static_cast<uint32_t>(completion.outcome.plan);
            header[5] = completion.queueUs;
            header[6] = completion.searchUs;
            header[7] = static_cast<uint32_t>(results);
            for (const Hit& hit : hits) {
                stage_.slots[results] = hit.slot;
                stage_.distances[results++] = hit.distance;
            }
            if (!completion.text.empty()) texts_[completion.ticket] = std::move(completion.text);
            if (completion.index) loaded_[completion.ticket] = std::move(completion.index);
        }
        inFlight_ -= headers;
        if (inFlight_ == 0) napi_unref_threadsafe_function(env, function_);
        napi_value count, ignored;
        napi_create_uint32(env, static_cast<uint32_t>(headers), &count);
        // The callback catches all errors of its own; one that comes through ends the process like any uncaught one.
        if (napi_call_function(env, receiver, callback, 1, &count, &ignored) == napi_pending_exception) {
            napi_value error;
            if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
        }
    }
}

}  // namespace kith
