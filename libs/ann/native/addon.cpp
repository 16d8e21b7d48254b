// The functions that JavaScript sees. native.ts is their only caller and holds their types; arguments are checked there.
#include <node_api.h>
#include <cstdio>
#include <cstring>
#include <string>
#include "baseline.h"
#include "channel.h"
#include "crc32c.h"
#include "persist.h"

namespace kith {
namespace {

const Kernels* forcedKernels = nullptr;
const Kernels& currentKernels() { return forcedKernels ? *forcedKernels : bestKernels(); }

/** Reads the arguments of one call. A wrong type reads as zero or empty: the TypeScript side never sends one. */
class Call {
public:
    Call(napi_env env, napi_callback_info info) : env_(env) {
        size_t count = most;
        napi_get_cb_info(env, info, &count, arguments_, nullptr, nullptr);
        void* data = nullptr;
        napi_get_instance_data(env, &data);
        channel_ = static_cast<Channel*>(data);
    }
    napi_env env() const { return env_; }
    Channel& channel() const { return *channel_; }
    napi_value value(size_t i) const { return arguments_[i]; }
    uint32_t number(size_t i) const {
        uint32_t value = 0;
        napi_get_value_uint32(env_, arguments_[i], &value);
        return value;
    }
    bool flag(size_t i) const {
        bool value = false;
        napi_get_value_bool(env_, arguments_[i], &value);
        return value;
    }
    std::string text(size_t i) const {
        size_t length = 0;
        if (napi_get_value_string_utf8(env_, arguments_[i], nullptr, 0, &length) != napi_ok) return {};
        std::string text(length, '\0');
        napi_get_value_string_utf8(env_, arguments_[i], text.data(), length + 1, &length);
        return text;
    }
    template <class Element> Element* arrayOf(napi_value value, size_t* length = nullptr) const {
        void* data = nullptr;
        size_t count = 0;
        napi_typedarray_type type;
        napi_get_typedarray_info(env_, value, &type, &count, &data, nullptr, nullptr);
        if (length) *length = count;
        return static_cast<Element*>(data);
    }
    template <class Element> Element* array(size_t i, size_t* length = nullptr) const { return arrayOf<Element>(arguments_[i], length); }
    std::shared_ptr<Index> index(size_t i) const { return channel_->index(number(i)); }

    napi_value undefined() const {
        napi_value value;
        napi_get_undefined(env_, &value);
        return value;
    }
    napi_value boolean(bool flag) const {
        napi_value value;
        napi_get_boolean(env_, flag, &value);
        return value;
    }
    napi_value number64(double number) const {
        napi_value value;
        napi_create_double(env_, number, &value);
        return value;
    }
    napi_value string(const std::string& text) const {
        napi_value value;
        napi_create_string_utf8(env_, text.data(), text.size(), &value);
        return value;
    }

private:
    static constexpr size_t most = 8;
    napi_env env_;
    Channel* channel_ = nullptr;
    napi_value arguments_[most] = {};
};

class SearchTask : public Task {
public:
    Channel* channel = nullptr;
    std::shared_ptr<Index> index;
    SearchRequest request;
    std::vector<float> query;
    std::vector<uint32_t> slots;
    uint64_t queuedNs = 0;
    std::unique_ptr<Completion> completion = std::make_unique<Completion>();

    void run(Scratch& scratch) override {
        const uint64_t startedNs = nowNs();
        search(*index, request, scratch, completion->outcome);
        completion->queueUs = static_cast<uint32_t>((startedNs - queuedNs) / 1000);
        completion->searchUs = static_cast<uint32_t>((nowNs() - startedNs) / 1000);
    }
    bool quick() const override {
        constexpr uint32_t wide = 512;
        return !request.exact && !request.slots && request.ef <= wide && request.k <= wide;
    }
    void finish(std::unique_ptr<Task> self, bool idle) override {
        Channel* to = channel;
        const bool isQuick = quick();
        std::unique_ptr<Completion> result = std::move(completion);
        // The index may be freed here, so before JavaScript learns that nothing is in flight any more.
        self.reset();
        to->post(std::move(result), idle, isQuick);
    }
};

void postText(Channel* channel, uint32_t ticket, const Failure& failure, std::string text = {}, std::shared_ptr<Index> index = nullptr) {
    auto completion = std::make_unique<Completion>();
    completion->ticket = ticket;
    completion->outcome.failure = failure.code;
    completion->outcome.computed = failure.at;
    completion->text = failure ? failure.text : std::move(text);
    completion->index = std::move(index);
    channel->post(std::move(completion), true);
}

/** open(onComplete, headers, slots, distances, cancelFlags): once per environment. */
napi_value openChannel(napi_env env, napi_callback_info info) {
    Call call(env, info);
    Channel::Stage stage{call.array<uint32_t>(1), call.array<uint32_t>(2), call.array<float>(3), call.array<uint8_t>(4)};
    for (size_t i = 1; i <= 4; ++i) {
        // Kept for the life of the environment: native threads write into them.
        napi_ref reference;
        napi_create_reference(env, call.value(i), 1, &reference);
    }
    Channel* channel = Channel::open(env, call.value(0), stage);
    if (!channel) return call.boolean(false);
    napi_set_instance_data(env, channel, nullptr, nullptr);
    return call.boolean(true);
}

IndexOptions readOptions(const Call& call, size_t at) {
    const uint32_t* words = call.array<uint32_t>(at);
    IndexOptions options;
    options.dimension = words[0];
    options.metric = static_cast<Metric>(words[1]);
    options.datatype = static_cast<Datatype>(words[2]);
    options.m = words[3];
    options.efConstruction = words[4];
    options.graphThreshold = words[5];
    options.tailRowsMax = words[6];
    return options;
}

/** create(options) → id */
napi_value create(napi_env env, napi_callback_info info) {
    Call call(env, info);
    return call.number64(call.channel().addIndex(std::make_shared<Index>(readOptions(call, 0), currentKernels())));
}

/** add(id, slots, vectors, fault) → code; fault[0] is the row of the batch that is refused */
napi_value add(napi_env env, napi_callback_info info) {
    Call call(env, info);
    size_t count = 0;
    const uint32_t* slots = call.array<uint32_t>(1, &count);
    Failure failure = call.index(0)->add(slots, call.array<float>(2), static_cast<uint32_t>(count));
    call.array<uint32_t>(3)[0] = failure.at;
    return call.number64(failure.code);
}

/** remove(id, slots) */
napi_value removeSlots(napi_env env, napi_callback_info info) {
    Call call(env, info);
    size_t count = 0;
    const uint32_t* slots = call.array<uint32_t>(1, &count);
    call.index(0)->remove(slots, count);
    return call.undefined();
}

/** get(id, slot, out) → found */
napi_value get(napi_env env, napi_callback_info info) {
    Call call(env, info);
    return call.boolean(call.index(0)->get(call.number(1), call.array<float>(2)));
}

/** submit(count, requests, queries, extras): one crossing for a whole batch of searches. */
napi_value submit(napi_env env, napi_callback_info info) {
    Call call(env, info);
    Channel& channel = call.channel();
    const uint32_t count = call.number(0);
    const uint32_t* words = call.array<uint32_t>(1);
    const float* queries = call.array<float>(2);
    const uint64_t queuedNs = nowNs();
    std::vector<std::unique_ptr<Task>> tasks;
    tasks.reserve(count);
    size_t quick = 0;
    uint32_t extra = 0;
    for (uint32_t i = 0; i < count; ++i, words += headerWords) {
        auto task = std::make_unique<SearchTask>();
        task->channel = &channel;
        task->index = channel.index(words[1]);
        const size_t dimension = task->index->options().dimension;
        task->query.assign(queries + words[5], queries + words[5] + dimension);
        task->request.query = task->query.data();
        task->request.k = words[2];
        task->request.ef = words[3];
        task->request.exact = words[4] & 1;
        task->request.cancel = channel.cancelFlag(words[0]);
        task->queuedNs = queuedNs;
        task->completion->ticket = words[0];
        if (words[4] & 6) {
            // Stays null, so that the search finds nothing, in a worker that is being terminated: nobody waits for it any more.
            napi_value array = nullptr;
            napi_get_element(env, call.value(3), extra++, &array);
            size_t length = 0;
            if (words[4] & 2) {
                // Not copied: native.ts keeps the array alive until the search has ended.
                task->request.filtered = true;
                task->request.filter = call.arrayOf<uint8_t>(array, &length);
                task->request.filterBytes = length;
            } else {
                const uint32_t* slots = call.arrayOf<uint32_t>(array, &length);
                task->slots.assign(slots, slots + length);
                task->slots.push_back(0);
                task->request.slots = task->slots.data();
                task->request.slotCount = length;
            }
        }
        if (task->quick()) ++quick;
        tasks.push_back(std::move(task));
    }
    channel.begin(env, count, quick);
    Pool::instance().submit(tasks);
    return call.undefined();
}

/** whenInGraph(id, ticket, rows) → true when that is so already; else it completes when so many rows are in the graph. */
napi_value whenInGraph(napi_env env, napi_callback_info info) {
    Call call(env, info);
    Channel* channel = &call.channel();
    const std::shared_ptr<Index> index = call.index(0);
    const uint32_t ticket = call.number(1), rows = call.number(2);
    if (index->graphRows() >= rows) return call.boolean(true);
    channel->begin(env, 1);
    index->whenInGraph(rows, [channel, ticket](const Failure& failure) { postText(channel, ticket, failure); });
    return call.boolean(false);
}

std::string describe(const SavedIndex& saved) {
    char text[512];
    std::snprintf(text, sizeof text,
                  "{\"rowCount\":%u,\"aliveCount\":%u,\"graphRowCount\":%u,\"entryRow\":%u,\"checkedRowCount\":%u,\"mapped\":%s,\"calibrated\":%s,"
                  "\"offsets\":%s,\"scaleBits\":%u,\"rowsBytes\":%llu,\"rowsCrc\":%u,\"graphBytes\":%llu,\"graphCrc\":%u,"
                  "\"metaBytes\":%llu,\"metaCrc\":%u}",
                  saved.rowCount, saved.aliveCount, saved.graphRowCount, saved.entryRow, saved.checkedRowCount, saved.mapped ? "true" : "false",
                  saved.calibrated ? "true" : "false", saved.offsets ? "true" : "false", saved.scaleBits,
                  static_cast<unsigned long long>(saved.rows.bytes), saved.rows.crc,
                  static_cast<unsigned long long>(saved.graph.bytes), saved.graph.crc,
                  static_cast<unsigned long long>(saved.meta.bytes), saved.meta.crc);
    return text;
}

/** save(id, ticket, rowsPath, graphPath, metaPath) */
napi_value save(napi_env env, napi_callback_info info) {
    Call call(env, info);
    Channel* channel = &call.channel();
    const uint32_t ticket = call.number(1);
    auto snapshot = std::make_shared<Snapshot>(call.index(0));
    const std::string rows = call.text(2), graph = call.text(3), meta = call.text(4);
    channel->begin(env, 1);
    channel->onThread([=]() mutable {
        SavedIndex saved;
        const Failure failure = snapshot->write(rows, graph, meta, channel->cancelFlag(ticket), saved);
        snapshot.reset();
        postText(channel, ticket, failure, describe(saved));
    });
    return call.undefined();
}

/** load(ticket, options, rowsPath, graphPath, metaPath, saved): saved holds the numbers of describe() as doubles. */
napi_value load(napi_env env, napi_callback_info info) {
    Call call(env, info);
    Channel* channel = &call.channel();
    const uint32_t ticket = call.number(0);
    const IndexOptions options = readOptions(call, 1);
    const std::string rows = call.text(2), graph = call.text(3), meta = call.text(4);
    const double* n = call.array<double>(5);
    SavedIndex saved;
    saved.rowCount = static_cast<uint32_t>(n[0]);
    saved.graphRowCount = static_cast<uint32_t>(n[1]);
    saved.entryRow = static_cast<uint32_t>(n[2]);
    saved.mapped = n[3] != 0;
    saved.calibrated = n[4] != 0;
    saved.offsets = n[5] != 0;
    saved.scaleBits = static_cast<uint32_t>(n[6]);
    saved.rows = {static_cast<uint64_t>(n[7]), static_cast<uint32_t>(n[8])};
    saved.graph = {static_cast<uint64_t>(n[9]), static_cast<uint32_t>(n[10])};
    saved.meta = {static_cast<uint64_t>(n[11]), static_cast<uint32_t>(n[12])};
    saved.checkedRowCount = static_cast<uint32_t>(n[13]);
    channel->begin(env, 1);
    const Kernels* kernels = &currentKernels();
    channel->onThread([=] {
        auto index = std::make_shared<Index>(options, *kernels);
        const Failure failure = loadIndex(rows, graph, meta, saved, channel->cancelFlag(ticket), *index);
        if (failure) index.reset();
        postText(channel, ticket, failure, {}, std::move(index));
    });
    return call.undefined();
}

/** takeIndex(ticket) → id of the index that a load made */
napi_value takeIndex(napi_env env, napi_callback_info info) {
    Call call(env, info);
    return call.number64(call.channel().addIndex(call.channel().takeIndex(call.number(0))));
}

/** takeText(ticket) → what an operation answered, or why it failed */
napi_value takeText(napi_env env, napi_callback_info info) {
    Call call(env, info);
    return call.string(call.channel().takeText(call.number(0)));
}

/** close(id, ticket): ends the writer and frees the memory on another thread. */
napi_value closeIndex(napi_env env, napi_callback_info info) {
    Call call(env, info);
    Channel* channel = &call.channel();
    const uint32_t ticket = call.number(1);
    std::shared_ptr<Index> index = channel->dropIndex(call.number(0));
    channel->begin(env, 1);
    channel->onThread([channel, ticket, index]() mutable {
        index->stop();
        index.reset();
        postText(channel, ticket, {});
    });
    return call.undefined();
}

/** stats(id, out): rows, alive, rows in the graph, bytes of arena, graph and others, huge pages */
napi_value stats(napi_env env, napi_callback_info info) {
    Call call(env, info);
    const std::shared_ptr<Index> index = call.index(0);
    double* out = call.array<double>(1);
    out[0] = index->rows().count();
    out[1] = index->rows().aliveCount();
    out[2] = index->graphRows();
    out[3] = static_cast<double>(index->rows().arenaBytes());
    out[4] = static_cast<double>(index->graphBytes());
    out[5] = static_cast<double>(index->rows().mappingBytes() + index->sampleBytes());
    out[6] = index->rows().hugePages() ? 1 : 0;
    return call.string(index->kernels().name);
}

/** configurePool(threads) → accepted */
napi_value configurePool(napi_env env, napi_callback_info info) {
    Call call(env, info);
    return call.boolean(Pool::instance().configure(call.number(0)));
}

/** nativeInfo(out): threads of the pool, huge pages; returns the name of the kernels */
napi_value nativeInfo(napi_env env, napi_callback_info info) {
    Call call(env, info);
    double* out = call.array<double>(0);
    out[0] = static_cast<double>(Pool::instance().threads());
    out[1] = systemHugePages() ? 1 : 0;
    return call.string(currentKernels().name);
}

/** forceSimd(name or "") → whether this CPU has it. For indexes created afterwards. */
napi_value forceSimd(napi_env env, napi_callback_info info) {
    Call call(env, info);
    const std::string name = call.text(0);
    if (name.empty()) {
        forcedKernels = nullptr;
        return call.boolean(true);
    }
    const Kernels* kernels = kernelsByName(name.c_str());
    if (kernels) forcedKernels = kernels;
    return call.boolean(kernels != nullptr);
}

/**
 * searchLoop(id, queries, k, ef, slots, byUsearch) → nanoseconds. The plain C++ loop of bench/ann: the same searches,
 * one after the other on this thread; with `byUsearch` through index_gt's own search. Fills k slots per query.
 */
napi_value searchLoop(napi_env env, napi_callback_info info) {
    Call call(env, info);
    const std::shared_ptr<Index> index = call.index(0);
    size_t numbers = 0;
    const float* queries = call.array<float>(1, &numbers);
    const uint32_t k = call.number(2), ef = call.number(3);
    uint32_t* slots = call.array<uint32_t>(4);
    const bool byUsearch = call.flag(5);
    const size_t dimension = index->options().dimension, count = numbers / dimension;
    Scratch scratch;
    SearchOutcome outcome;
    const uint64_t startedNs = nowNs();
    for (size_t i = 0; i < count; ++i, slots += k) {
        if (byUsearch) {
            searchByUsearch(*index, queries + i * dimension, k, ef, scratch, slots);
        } else {
            SearchRequest request;
            request.k = k;
            request.ef = ef;
            request.query = queries + i * dimension;
            search(*index, request, scratch, outcome);
            for (size_t hit = 0; hit < outcome.hits.size(); ++hit) slots[hit] = outcome.hits[hit].slot;
        }
    }
    return call.number64(static_cast<double>(nowNs() - startedNs));
}

/** crc32c(bytes) → number; for the test that holds it against its published vector */
napi_value checksum(napi_env env, napi_callback_info info) {
    Call call(env, info);
    size_t length = 0;
    const uint8_t* bytes = call.array<uint8_t>(0, &length);
    return call.number64(crc32c(0, bytes, length));
}

/** miscountedRows(id) → number; for the test that holds the counts of links against a recount */
napi_value miscountedRows(napi_env env, napi_callback_info info) {
    Call call(env, info);
    const std::shared_ptr<Index> index = call.index(0);
    uint32_t rows = 0;
    index->pause();
    index->whilePaused([&] { rows = index->miscountedRows(); });
    index->resume();
    return call.number64(rows);
}

napi_value initialize(napi_env env, napi_value exports) {
    const struct { const char* name; napi_callback function; } functions[] = {
        {"open", openChannel}, {"create", create}, {"add", add}, {"remove", removeSlots}, {"get", get},
        {"submit", submit}, {"whenInGraph", whenInGraph}, {"save", save}, {"load", load}, {"takeIndex", takeIndex},
        {"takeText", takeText}, {"close", closeIndex}, {"stats", stats}, {"configurePool", configurePool},
        {"nativeInfo", nativeInfo}, {"forceSimd", forceSimd}, {"searchLoop", searchLoop}, {"crc32c", checksum},
        {"miscountedRows", miscountedRows}};
    for (const auto& function : functions) {
        napi_value value;
        napi_create_function(env, function.name, NAPI_AUTO_LENGTH, function.function, nullptr, &value);
        napi_set_named_property(env, exports, function.name, value);
    }
    return exports;
}

}  // namespace
}  // namespace kith

NAPI_MODULE_INIT() { return kith::initialize(env, exports); }
