// The functions that JavaScript sees. native.ts is their only caller and holds their types.
#include <cstdio>
#include <sstream>
#include "call.h"
#include "hooks.h"
#include "in_flight.h"
#include "layout.h"
#include "plan.h"
#include "matrices_calls.h"
#include "postings_calls.h"
#include "saved_index.h"
#include "workers.h"

namespace kith {

void throwFailure(napi_env env, const Failure& failure) {
    // While an error of JavaScript is on its way, that one goes on.
    bool pending = false;
    if (napi_is_exception_pending(env, &pending) == napi_ok && pending) return;
    char code[16];
    std::snprintf(code, sizeof code, "%u", static_cast<unsigned>(failure.code));
    napi_throw_error(env, code, failure.text.c_str());
}

namespace {

/** Filters that are on their way to searches: the same one, asked for by several, is kept once. For the thread of JavaScript. */
class SharedFilters {
public:
    using Filter = std::shared_ptr<const std::vector<uint8_t>>;

    /** A copy, since JavaScript may give the memory away, change it or take it back as soon as the call has returned. */
    Filter of(const Elements<uint8_t>& bytes) {
        for (const std::weak_ptr<const std::vector<uint8_t>>& kept : kept_) {
            Filter filter = kept.lock();
            if (filter && filter->size() == bytes.count && std::equal(filter->begin(), filter->end(), bytes.data)) return filter;
        }
        auto filter = std::make_shared<const std::vector<uint8_t>>(bytes.data, bytes.data + bytes.count);
        kept_[next_++ % kept_.size()] = filter;
        return filter;
    }

private:
    std::array<std::weak_ptr<const std::vector<uint8_t>>, 16> kept_;
    size_t next_ = 0;
};

class SearchTask : public Task {
public:
    Channel* channel = nullptr;
    std::shared_ptr<Index> index;
    SearchRequest request;
    std::vector<float> query;
    SharedFilters::Filter filter;
    std::vector<uint32_t> slots;
    uint64_t queuedNs = 0;
    std::unique_ptr<Completion> completion = std::make_unique<Completion>();

    void run(Scratch& scratch, Turn* turn) override {
        const uint64_t startedNs = nowNs();
        Others others(*this, turn);
        if (turn && scanKey_.rows) request.company = &others;
        request.interlude = turn;
        runAlone(scratch);
        note(startedNs, turn ? turn->awayNs() : 0);
        others.end();
    }
    /** Once the request is complete. */
    void estimate() {
        constexpr double longNs = 1e6;
        const size_t rows = request.slots ? request.slotCount : request.exact ? index->rows().aliveCount() : 0;
        const void* scanned = request.slots ? nullptr : request.filtered ? static_cast<const void*>(filter.get()) : request.exact ? index.get() : nullptr;
        scanKey_ = {index.get(), scanned, request.ef, request.exact};
        isLong_ = isWide() || (rows > 0 && scanCostNs(rows, index->vectors()->codec().rowBytes()) > longNs);
    }
    bool isLong() const override { return isLong_; }
    bool quick() const override { return !request.exact && !request.slots && !isWide(); }
    void finish(std::unique_ptr<Task> self, bool idle) override {
        Channel* to = channel;
        const bool isQuick = quick();
        std::unique_ptr<Completion> result = std::move(completion);
        // The index may be freed here, so before JavaScript learns that nothing is in flight any more.
        self.reset();
        to->post(std::move(result), idle, isQuick);
    }

private:
    /** The tasks that were run beside one. */
    class Others : public Company {
    public:
        Others(const SearchTask& task, Turn* turn) : task_(task), turn_(turn) {}
        std::vector<Companion>& gather() override {
            // A search that was overtaken by removals begins again, without company.
            if (startedNs_ > 0) return none_;
            startedNs_ = nowNs();
            awayBeforeNs_ = turn_->awayNs();
            turn_->take(task_.scanKey_, task_.isLong_, tasks_);
            companions_.reserve(tasks_.size());
            for (size_t i = 0; i < tasks_.size(); ++i) {
                const auto& other = static_cast<const SearchTask&>(*tasks_[i]);
                companions_.push_back({other.request, turn_->beside(i), other.completion->outcome});
            }
            return companions_;
        }
        /** Searches those which the scan has left, and hands all of them over. */
        void end() {
            for (size_t i = 0; i < tasks_.size(); ++i) {
                auto& other = static_cast<SearchTask&>(*tasks_[i]);
                other.request.interlude = turn_;
                if (i >= companions_.size() || !companions_[i].ended) other.runAlone(turn_->beside(i));
                other.note(startedNs_, turn_->awayNs() - awayBeforeNs_);
                turn_->finish(std::move(tasks_[i]));
            }
        }

    private:
        const SearchTask& task_;
        Turn* turn_;
        std::vector<std::unique_ptr<Task>> tasks_;
        std::vector<Companion> companions_, none_;
        uint64_t startedNs_ = 0, awayBeforeNs_ = 0;
    };

    void runAlone(Scratch& scratch) {
        const Failure failure = guarded([&]() -> Failure {
            search(*index, request, scratch, completion->outcome);
            return {};
        });
        if (failure) completion->fail(failure);
    }
    /** While others came in between it waited as it did in the queue. */
    void note(uint64_t startedNs, uint64_t awayNs) {
        completion->queueUs = static_cast<uint32_t>((startedNs - queuedNs + awayNs) / 1000);
        completion->searchUs = static_cast<uint32_t>((nowNs() - startedNs - awayNs) / 1000);
    }
    bool isWide() const {
        constexpr uint32_t wide = 512;
        return request.ef > wide || request.k > wide;
    }
    bool isLong_ = false;
};

/** open(onComplete, headers, slots, distances, cancelFlags): once per environment. */
napi_value openChannel(Call& call) {
    const Channel::Stage stage{call.array<uint32_t>(1, headersMax * headerWords).data, call.array<uint32_t>(2, resultsMax).data,
                               call.array<float>(3, resultsMax).data, call.array<uint8_t>(4, ticketsMax).data};
    for (size_t i = 1; i <= 4; ++i) {
        // Kept for the life of the environment: native threads write into them.
        napi_ref reference;
        napi_create_reference(call.env(), call.value(i), 1, &reference);
    }
    Channel* channel = Channel::open(call.env(), call.value(0), stage);
    if (!channel) return call.boolean(false);
    napi_set_instance_data(call.env(), channel, nullptr, nullptr);
    return call.boolean(true);
}

IndexOptions readOptions(const Call& call, size_t at, size_t folderAt) {
    const uint32_t* words = call.array<uint32_t>(at, optionWords).data;
    IndexOptions options;
    options.dimension = words[optionDimension];
    options.metric = static_cast<Metric>(words[optionMetric]);
    options.datatype = static_cast<Datatype>(words[optionDatatype]);
    options.m = words[optionM];
    options.efConstruction = words[optionEfConstruction];
    options.graphThreshold = words[optionGraphThreshold];
    options.givenFolder = call.text(folderAt);
    return options;
}

/** create(options, givenFolder) → id */
napi_value create(Call& call) {
    return call.number64(call.channel().addIndex(std::make_shared<Index>(readOptions(call, 0, 1), currentKernels())));
}

/** add(id, slots, vectors, fault) → code; fault[0] is the row of the batch that is refused */
napi_value add(Call& call) {
    const auto slots = call.array<uint32_t>(1);
    const std::shared_ptr<Index> index = call.index(0);
    const auto vectors = call.array<float>(2, slots.count * index->options().dimension);
    const auto fault = call.array<uint32_t>(3, 1);
    const Failure failure = index->add(slots.data, vectors.data, static_cast<uint32_t>(slots.count));
    if (failure.code == Failure::resources) throw Refusal(failure.code, failure.text);
    fault.data[0] = failure.at;
    return call.number64(failure.code);
}

/** remove(id, slots) */
napi_value removeSlots(Call& call) {
    const auto slots = call.array<uint32_t>(1);
    call.index(0)->remove(slots.data, slots.count);
    return call.undefined();
}

/** get(id, slot, out) → found */
napi_value get(Call& call) {
    const std::shared_ptr<Index> index = call.index(0);
    return call.boolean(index->get(call.number(1), call.array<float>(2, index->options().dimension).data));
}

/** submit(count, requests, queries, extras): one crossing for a whole batch of searches. All of them are taken, or none. */
napi_value submit(Call& call) {
    Channel& channel = call.channel();
    const uint32_t count = call.number(0);
    const uint32_t* words = call.array<uint32_t>(1, count * requestWords).data;
    const auto queries = call.array<float>(2);
    const uint64_t queuedNs = nowNs();
    // One for each environment of JavaScript, which is a thread.
    static thread_local SharedFilters sharedFilters;
    std::vector<std::unique_ptr<Task>> tasks;
    tasks.reserve(count);
    size_t quick = 0;
    uint32_t extra = 0;
    for (uint32_t i = 0; i < count; ++i, words += requestWords) {
        auto task = std::make_unique<SearchTask>();
        task->channel = &channel;
        task->index = channel.index(words[requestIndex]);
        if (!task->index) throw Refusal(Failure::closed, "the index is closed");
        const size_t dimension = task->index->options().dimension, at = words[requestQueryAt];
        if (at + dimension > queries.count) throw Refusal(Failure::invalid, "a query lies beyond the queries");
        task->query.assign(queries.data + at, queries.data + at + dimension);
        task->request.query = task->query.data();
        task->request.k = words[requestK];
        task->request.ef = words[requestEf];
        task->request.exact = words[requestFlags] & requestExact;
        task->request.codesOnly = words[requestFlags] & requestCodesOnly;
        task->request.scored = words[requestScored];
        task->request.cancel = channel.cancelFlag(words[requestTicket]);
        task->queuedNs = queuedNs;
        task->completion->ticket = words[requestTicket];
        if (words[requestFlags] & (requestFilter | requestSlots)) {
            napi_value array = nullptr;
            napi_get_element(call.env(), call.value(3), extra++, &array);
            if (words[requestFlags] & requestFilter) {
                task->filter = sharedFilters.of(call.arrayOf<uint8_t>(array, 3));
                task->request.filtered = true;
                task->request.filter = task->filter->data();
                task->request.filterBytes = task->filter->size();
            } else {
                const auto slots = call.arrayOf<uint32_t>(array, 3);
                task->slots.assign(slots.data, slots.data + slots.count);
                task->slots.push_back(0);
                task->request.slots = task->slots.data();
                task->request.slotCount = slots.count;
            }
        }
        task->estimate();
        if (task->quick()) ++quick;
        tasks.push_back(std::move(task));
    }
    InFlight inFlight(call, count, quick);
    Pool::instance().submit(tasks);
    inFlight.started();
    return call.undefined();
}

/** whenInGraph(id, ticket, rows) → true when that is so already; else it completes when so many rows are in the graph. */
napi_value whenInGraph(Call& call) {
    Channel* channel = &call.channel();
    const std::shared_ptr<Index> index = call.index(0);
    const uint32_t ticket = call.number(1), rows = call.number(2);
    if (index->graphRows() >= rows) return call.boolean(true);
    InFlight inFlight(call);
    auto completion = std::make_shared<std::unique_ptr<Completion>>(std::make_unique<Completion>());
    (*completion)->ticket = ticket;
    index->whenInGraph(rows, [channel, completion](const Failure& failure) {
        if (failure) (*completion)->fail(failure);
        channel->post(std::move(*completion), true);
    });
    inFlight.started();
    return call.boolean(false);
}

void describeRows(std::ostream& text, const char* name, const std::vector<RowsFile>& files) {
    if (files.empty()) return;
    const RowsFile& rows = files.back();
    text << ",\"" << name << "\":{\"rowCount\":" << rows.rowCount << ",\"bytes\":" << rows.sum.bytes << ",\"crc\":" << rows.sum.crc << "}";
}

std::string describe(const SavedIndex& saved, uint32_t firstRow) {
    std::ostringstream text;
    text << std::boolalpha << "{\"rowCount\":" << saved.rowCount << ",\"aliveCount\":" << saved.aliveCount
         << ",\"graphRowCount\":" << saved.graphRowCount << ",\"entryRow\":" << saved.entryRow
         << ",\"checkedRowCount\":" << saved.checkedRowCount << ",\"mapped\":" << saved.mapped << ",\"code\":" << unsigned{saved.code}
         << ",\"generation\":" << saved.generation << ",\"offsets\":" << saved.offsets << ",\"scaleBits\":" << saved.scaleBits
         << ",\"clippedCount\":" << saved.clippedCount << ",\"graphBytes\":" << saved.graph.bytes << ",\"graphCrc\":" << saved.graph.crc
         << ",\"metaBytes\":" << saved.meta.bytes << ",\"metaCrc\":" << saved.meta.crc << ",\"firstRow\":" << firstRow;
    describeRows(text, "newRows", saved.rows);
    describeRows(text, "newGiven", saved.given);
    text << "}";
    return text.str();
}

/**
 * save(id, ticket, rowsPath, givenPath, graphPath, metaPath, savedRows, generation, savedGiven, key): completes with the description of what was saved,
 * whose rows from `firstRow` on are in the new file, if there are any. `savedRows` of that generation are in files already, and `savedGiven` as they
 * were given. `key`: 32 bytes, or none.
 */
napi_value save(Call& call) {
    const Channel* channel = &call.channel();
    const uint32_t ticket = call.number(1);
    const std::string rows = call.text(2), given = call.text(3), graph = call.text(4), meta = call.text(5);
    const FileKey key = call.fileKey(9);
    auto snapshot = std::make_shared<Snapshot>(call.index(0), call.number(6), call.number(7), call.number(8));
    operate(call, ticket, [=](Completion& completion, Scratch&) mutable -> Failure {
        SavedIndex saved;
        Failure failure = snapshot->write(rows, given, graph, meta, key, channel->cancelFlag(ticket), saved);
        const uint32_t firstRow = snapshot->firstRow();
        snapshot.reset();
        completion.text = describe(saved, firstRow);
        return failure;
    });
    return call.undefined();
}

std::vector<RowsFile> readFiles(const Call& call, size_t at) {
    std::vector<RowsFile> files;
    const uint32_t parts = call.length(at);
    for (uint32_t i = 0; i < parts; ++i) {
        const Call::Object part = call.element(at, i);
        files.push_back({part.text("path"), static_cast<uint32_t>(part.number("rowCount")),
                         {static_cast<uint64_t>(part.number("bytes")), static_cast<uint32_t>(part.number("crc"))},
                         call.fileKeyOf(part.value("key"), at)});
    }
    return files;
}

SavedIndex readSaved(const Call& call, size_t at, size_t rowsAt, size_t givenAt) {
    const Call::Object object = call.object(at);
    const auto whole = [&](const char* name) { return static_cast<uint32_t>(object.number(name)); };
    const auto file = [&](const char* bytes, const char* crc) { return FileSum{static_cast<uint64_t>(object.number(bytes)), whole(crc)}; };
    SavedIndex saved;
    saved.rowCount = whole("rowCount");
    saved.graphRowCount = whole("graphRowCount");
    saved.entryRow = whole("entryRow");
    saved.checkedRowCount = whole("checkedRowCount");
    saved.mapped = object.flag("mapped");
    saved.code = static_cast<Code>(whole("code"));
    saved.generation = whole("generation");
    saved.offsets = object.flag("offsets");
    saved.scaleBits = whole("scaleBits");
    saved.clippedCount = whole("clippedCount");
    saved.originals = object.flag("originals");
    saved.graph = file("graphBytes", "graphCrc");
    saved.meta = file("metaBytes", "metaCrc");
    saved.rows = readFiles(call, rowsAt);
    saved.given = readFiles(call, givenAt);
    return saved;
}

/**
 * load(ticket, options, rows, graphPath, metaPath, saved, given, givenFolder, key): `saved` is the description that a save completed with, `rows` and `given` list
 * the files of rows, each with its key; `key` is that of graph and meta.
 */
napi_value load(Call& call) {
    const Channel* channel = &call.channel();
    const uint32_t ticket = call.number(0);
    const IndexOptions options = readOptions(call, 1, 7);
    const std::string graph = call.text(3), meta = call.text(4);
    SavedIndex saved = readSaved(call, 5, 2, 6);
    saved.key = call.fileKey(8);
    const Kernels* kernels = &currentKernels();
    operate(call, ticket, [=](Completion& completion, Scratch& scratch) -> Failure {
        auto index = std::make_shared<Index>(options, *kernels);
        Failure failure = loadIndex(saved, graph, meta, channel->cancelFlag(ticket), *index, scratch);
        if (!failure) completion.index = std::move(index);
        return failure;
    });
    return call.undefined();
}

/** takeIndex(ticket) → id of the index that a load made */
napi_value takeIndex(Call& call) {
    std::shared_ptr<Index> index = call.channel().takeIndex(call.number(0));
    if (!index) throw Refusal(Failure::resources, "no memory for a loaded index");
    return call.number64(call.channel().addIndex(std::move(index)));
}

/** takeText(ticket) → what an operation answered, or why it failed */
napi_value takeText(Call& call) { return call.string(call.channel().takeText(call.number(0))); }

/** close(id, ticket): ends the writer and frees the memory on another thread. */
napi_value closeIndex(Call& call) {
    const std::shared_ptr<Index> index = call.index(0);
    auto held = std::make_shared<std::shared_ptr<Index>>(index);
    operate(call, call.number(1), [held](Completion&, Scratch&) -> Failure {
        (*held)->stop();
        held->reset();
        return {};
    });
    call.channel().dropIndex(call.number(0));
    return call.undefined();
}

/** stats(id, out) → the name of the kernels; fills the numbers of the layout. */
napi_value stats(Call& call) {
    const std::shared_ptr<Index> index = call.index(0);
    double* out = call.array<double>(1, statsNumbers).data;
    out[statsRows] = index->rows().count();
    out[statsAlive] = index->rows().aliveCount();
    out[statsGraphRows] = index->graphRows();
    const std::shared_ptr<const Vectors> vectors = index->vectors();
    out[statsArenaBytes] = static_cast<double>(index->rows().count()) * static_cast<double>(vectors->codec().rowBytes());
    out[statsGraphBytes] = static_cast<double>(index->graphBytes());
    const double givenBytes =
        index->given() ? static_cast<double>(index->rows().count()) * static_cast<double>(index->given()->codec().rowBytes()) : 0;
    const bool inMemory = index->options().givenFolder == givenInMemory;
    out[statsOtherBytes] = static_cast<double>(index->rows().mappingBytes() + vectors->clipped().bytes()) + (inMemory ? givenBytes : 0);
    out[statsHugePages] = vectors->hugePages() ? 1 : 0;
    out[statsGivenBytes] = inMemory ? 0 : givenBytes;
    return call.string(index->kernels().name);
}

/** configurePool(threads) → accepted */
napi_value configurePool(Call& call) { return call.boolean(Pool::instance().configure(call.number(0))); }

/** nativeInfo(out): threads of the pool, huge pages; returns the name of the kernels */
napi_value nativeInfo(Call& call) {
    double* out = call.array<double>(0, 2).data;
    out[0] = static_cast<double>(Pool::instance().threads());
    out[1] = systemHugePages() ? 1 : 0;
    return call.string(currentKernels().name);
}

/** layout() → the numbers that both sides know, as JSON */
napi_value layout(Call& call) { return call.string(layoutAsJson()); }

napi_value initialize(napi_env env, napi_value exports) {
    const NamedFunction functions[] = {{"layout", entry<layout>},
                                       {"open", entry<openChannel>},
                                       {"create", entry<create>},
                                       {"add", entry<add>},
                                       {"remove", entry<removeSlots>},
                                       {"get", entry<get>},
                                       {"submit", entry<submit>},
                                       {"whenInGraph", entry<whenInGraph>},
                                       {"save", entry<save>},
                                       {"load", entry<load>},
                                       {"takeIndex", entry<takeIndex>},
                                       {"takeText", entry<takeText>},
                                       {"close", entry<closeIndex>},
                                       {"stats", entry<stats>},
                                       {"configurePool", entry<configurePool>},
                                       {"nativeInfo", entry<nativeInfo>}};
    defineFunctions(env, exports, functions);
    returnLargePieces();
    defineMatrices(env, exports);
    definePostings(env, exports);
    napi_set_named_property(env, exports, "hooks", hooks(env));
    return exports;
}

}  // namespace
}  // namespace kith

NAPI_MODULE_INIT() { return kith::initialize(env, exports); }
