#include "channel.h"
#include <cstring>
#include "layout.h"
#include "workers.h"

namespace kith {
namespace {

/** A burst is handed over when it has this many completions, or this age, or nothing more is queued. */
constexpr size_t burstMax = 8;
constexpr uint64_t burstAgeNs = 200'000;

}  // namespace

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
    writers().retain();
    operations().retain();
    return channel;
}

void Channel::finalize(napi_env, void* data, void*) { delete static_cast<Channel*>(data); }

void Channel::cleanUp(void* self) {
    Channel* channel = static_cast<Channel*>(self);
    std::memset(channel->stage_.cancelFlags, 1, ticketsMax);
    for (std::shared_ptr<Index>& index : channel->indexes_)
        if (index) index->stop();
    for (auto& [id, postings] : channel->postings_) postings->stop();
    {
        std::unique_lock<std::mutex> lock(channel->mutex_);
        channel->closing_ = true;
        channel->emptied_.wait(lock, [channel] { return channel->outstanding_ == 0; });
        for (auto completed = channel->takeCompleted(); completed; completed = std::move(completed->next)) continue;
    }
    channel->indexes_.clear();
    channel->loaded_.clear();
    channel->postings_.clear();
    channel->loadedPostings_.clear();
    channel->matrices_.clear();
    channel->loadedMatrices_.clear();
    channel->numbers_.clear();
    Pool::instance().release();
    writers().release();
    operations().release();
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

uint32_t Channel::addPostings(std::shared_ptr<Postings> postings) {
    postings_[nextPostings_] = std::move(postings);
    return nextPostings_++;
}

std::shared_ptr<Postings> Channel::postings(uint32_t id) const {
    const auto found = postings_.find(id);
    return found == postings_.end() ? nullptr : found->second;
}

void Channel::dropPostings(uint32_t id) { postings_.erase(id); }

std::shared_ptr<Postings> Channel::takePostings(uint32_t ticket) {
    const auto found = loadedPostings_.find(ticket);
    if (found == loadedPostings_.end()) return nullptr;
    std::shared_ptr<Postings> postings = std::move(found->second);
    loadedPostings_.erase(found);
    return postings;
}

uint32_t Channel::addMatrices(std::shared_ptr<Matrices> matrices) {
    matrices_[nextMatrices_] = std::move(matrices);
    return nextMatrices_++;
}

std::shared_ptr<Matrices> Channel::matrices(uint32_t id) const {
    const auto found = matrices_.find(id);
    return found == matrices_.end() ? nullptr : found->second;
}

void Channel::dropMatrices(uint32_t id) { matrices_.erase(id); }

std::shared_ptr<Matrices> Channel::takeMatrices(uint32_t ticket) {
    const auto found = loadedMatrices_.find(ticket);
    if (found == loadedMatrices_.end()) return nullptr;
    std::shared_ptr<Matrices> matrices = std::move(found->second);
    loadedMatrices_.erase(found);
    return matrices;
}

std::vector<float> Channel::takeNumbers(uint32_t ticket) {
    const auto found = numbers_.find(ticket);
    if (found == numbers_.end()) return {};
    std::vector<float> numbers = std::move(found->second);
    numbers_.erase(found);
    return numbers;
}

void Channel::begin(napi_env env, size_t count, size_t quick) {
    if (inFlight_ == 0) napi_ref_threadsafe_function(env, function_);
    inFlight_ += count;
    std::lock_guard<std::mutex> lock(mutex_);
    outstanding_ += count;
    quickOutstanding_ += quick;
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

void Channel::abandon(napi_env env, size_t count, size_t quick) {
    inFlight_ -= count;
    if (inFlight_ == 0) napi_unref_threadsafe_function(env, function_);
    std::lock_guard<std::mutex> lock(mutex_);
    outstanding_ -= count;
    quickOutstanding_ -= quick;
}

/** Under the lock. A list is taken apart one by one: a chain of destructors would need a stack as long. */
std::unique_ptr<Completion> Channel::takeCompleted() {
    newest_ = nullptr;
    completedCount_ = 0;
    return std::move(completed_);
}

void Channel::post(std::unique_ptr<Completion> completion, bool urgent, bool quick) {
    const uint64_t now = urgent ? 0 : nowNs();
    std::lock_guard<std::mutex> lock(mutex_);
    if (!completed_) oldestNs_ = now;
    Completion* added = completion.get();
    (newest_ ? newest_->next : completed_) = std::move(completion);
    newest_ = added;
    ++completedCount_;
    --outstanding_;
    if (quick) --quickOutstanding_;
    // The pool looked at its queue some time ago: a thread that was held up since then may be the last of the burst, with
    // nobody behind it who would wake the event loop (seen as a search in thousands that never came back, on a loaded machine).
    if (quickOutstanding_ == 0) urgent = true;
    if (closing_) {
        emptied_.notify_all();
    } else if (!awake_ && (urgent || completedCount_ >= burstMax || now - oldestNs_ >= burstAgeNs)) {
        // Under the lock: once `closing_` is set, nobody calls the function any more.
        awake_ = true;
        napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
    }
}

void Channel::drain(napi_env env, napi_value callback, void* context, void*) {
    if (env) static_cast<Channel*>(context)->deliver(env, callback);
}

void Channel::deliver(napi_env env, napi_value callback) {
    std::unique_ptr<Completion> burst;
    {
        std::lock_guard<std::mutex> lock(mutex_);
        burst = takeCompleted();
        awake_ = false;
    }
    napi_value receiver;
    napi_get_undefined(env, &receiver);
    while (burst) {
        size_t headers = 0, results = 0;
        for (; burst && headers < headersMax; burst = std::move(burst->next), ++headers) {
            Completion& completion = *burst;
            const std::vector<Hit>& hits = completion.outcome.hits;
            if (results + hits.size() > resultsMax) break;
            uint32_t* header = stage_.headers + headers * headerWords;
            header[headerTicket] = completion.ticket;
            header[headerFailure] = completion.outcome.failure.code;
            header[headerCount] = static_cast<uint32_t>(hits.size());
            header[headerComputed] = completion.outcome.failure ? completion.outcome.failure.at : completion.outcome.computed;
            header[headerPlan] = static_cast<uint32_t>(completion.outcome.plan);
            header[headerQueueUs] = completion.queueUs;
            header[headerSearchUs] = completion.searchUs;
            const SearchCosts& costs = completion.outcome.costs;
            header[headerVisited] = costs.visitedRows;
            header[headerWalked] = costs.walkedRows;
            header[headerAllowed] = costs.allowedRows;
            header[headerWalkEstimateUs] = costs.walkEstimateUs;
            header[headerScanEstimateUs] = costs.scanEstimateUs;
            header[headerTwoHopsEstimateUs] = costs.twoHopsEstimateUs;
            header[headerTwoHops] = costs.twoHops ? 1 : 0;
            header[headerFrom] = static_cast<uint32_t>(results);
            for (const Hit& hit : hits) {
                stage_.slots[results] = hit.slot;
                stage_.distances[results++] = hit.distance;
            }
            // A text that there is no memory for is left out: the code says the most.
            guarded([&]() -> Failure {
                std::string& text = completion.outcome.failure ? completion.outcome.failure.text : completion.text;
                if (!text.empty()) texts_[completion.ticket] = std::move(text);
                if (completion.index) loaded_[completion.ticket] = std::move(completion.index);
                if (completion.postings) loadedPostings_[completion.ticket] = std::move(completion.postings);
                if (completion.matrices) loadedMatrices_[completion.ticket] = std::move(completion.matrices);
                if (!completion.numbers.empty()) numbers_[completion.ticket] = std::move(completion.numbers);
                return {};
            });
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
