#include "matrices_calls.h"
#include <algorithm>
#include <cstring>
#include "hooks.h"
#include "in_flight.h"
#include "max_sim.h"

namespace kith {
namespace {

/** Components that a search goes through in about a millisecond. */
constexpr uint64_t longComponents = 8'000'000;
constexpr uint32_t repetitionsMax = 64, planesMax = 8, projectedMax = 512;

std::shared_ptr<Matrices> matricesAt(const Call& call, size_t i) {
    std::shared_ptr<Matrices> matrices = call.channel().matrices(call.number(i));
    if (!matrices) throw Refusal(Failure::closed, "the index is closed");
    return matrices;
}

/** [dimension, metric, datatype, repetitions, planes, projected] */
MatrixOptions readOptions(const Call& call, size_t i) {
    const auto words = call.array<uint32_t>(i, 6);
    MatrixOptions options;
    options.dimension = words.data[0];
    if (options.dimension == 0 || options.dimension > 16384 || words.data[1] > metricL2 || words.data[2] > datatypeI8 ||
        words.data[3] > repetitionsMax || words.data[4] > planesMax || words.data[5] > projectedMax)
        throw Refusal(Failure::invalid, "the options of matrices are out of range");
    options.metric = static_cast<Metric>(words.data[1]);
    options.datatype = static_cast<Datatype>(words.data[2]);
    options.encoding = {words.data[3], words.data[4], words.data[5], options.metric == metricL2};
    return options;
}

/** matricesCreate(options) → id */
napi_value createMatrices(Call& call) {
    return call.number64(call.channel().addMatrices(std::make_shared<Matrices>(readOptions(call, 0), currentKernels())));
}

/** matricesAdd(id, slots, rowCounts, vectors, fault) → code */
napi_value addMatrices(Call& call) {
    const std::shared_ptr<Matrices> matrices = matricesAt(call, 0);
    const auto slots = call.array<uint32_t>(1);
    const auto rowCounts = call.array<uint32_t>(2, slots.count);
    const auto fault = call.array<uint32_t>(4, 1);
    uint64_t rows = 0;
    for (size_t i = 0; i < slots.count; ++i) rows += rowCounts.data[i];
    const auto vectors = call.array<float>(3, rows * matrices->codec().dimension());
    const Failure failure = matrices->add(slots.data, rowCounts.data, static_cast<uint32_t>(slots.count), vectors.data);
    if (failure && failure.code != Failure::duplicateSlot && failure.code != Failure::invalid) throw Refusal(failure.code, failure.text);
    fault.data[0] = failure.at;
    return call.number64(failure.code);
}

/** matricesRemove(id, slots) */
napi_value removeMatrices(Call& call) {
    const auto slots = call.array<uint32_t>(1);
    matricesAt(call, 0)->remove(slots.data, slots.count);
    return call.undefined();
}

/** matricesStats(id, out): matrices, alive, rows, rows alive, bytes */
napi_value matricesStats(Call& call) {
    const Matrices::Stats stats = matricesAt(call, 0)->stats();
    double* out = call.array<double>(1, 5).data;
    out[0] = stats.count;
    out[1] = stats.alive;
    out[2] = static_cast<double>(stats.rows);
    out[3] = static_cast<double>(stats.aliveRows);
    out[4] = static_cast<double>(stats.bytes);
    return call.undefined();
}

/** One search on as many threads as it is worth: each scans a part, and the last to end puts the parts together. */
struct SharedSearch {
    SharedSearch(const MaxSimRequest& request, const float* query, uint32_t rows) : search(request, query, rows) {}

    const MaxSim search;
    Channel* channel = nullptr;
    std::vector<std::vector<Hit>> parts;
    std::vector<uint32_t> computed;
    std::atomic<uint32_t> left{0};
    std::atomic<bool> ended{false};
    std::atomic<uint64_t> startedNs{0};
    std::atomic<uint32_t> failure{Failure::none};
    uint64_t queuedNs = 0;
    bool isLarge = false;
    std::unique_ptr<Completion> completion = std::make_unique<Completion>();
};

class MaxSimTask : public Task {
public:
    MaxSimTask(std::shared_ptr<SharedSearch> shared, uint32_t part) : shared_(std::move(shared)), part_(part) {}

    void run(Scratch&, Turn* turn) override {
        SharedSearch& shared = *shared_;
        uint64_t unset = 0;
        shared.startedNs.compare_exchange_strong(unset, nowNs());
        const Failure failure = guarded([&]() -> Failure {
            const uint64_t end = shared.search.end(), parts = shared.parts.size();
            MaxSim::Buffers buffers;
            std::vector<Hit>& heap = shared.parts[part_];
            // Where all that there is may be wanted, it is only computed once, in full.
            if (end <= shared.search.wanted()) {
                if (part_ == 0) listAll(heap);
                return {};
            }
            TopK top(heap, shared.search.wanted());
            const bool finished = shared.search.scan(static_cast<uint32_t>(end * part_ / parts), static_cast<uint32_t>(end * (part_ + 1) / parts),
                                                    buffers, top, turn);
            shared.computed[part_] = buffers.computed;
            return finished ? Failure{} : Failure{Failure::cancelled, 0, {}};
        });
        if (failure) shared.failure.store(failure.code);
        if (shared.left.fetch_sub(1) != 1) return;
        isLast_ = true;
        const Failure last = guarded([&]() -> Failure { return complete(turn); });
        if (last) shared.completion->fail(last);
        const uint64_t awayNs = turn ? turn->awayNs() : 0, startedNs = shared.startedNs.load();
        shared.completion->queueUs = static_cast<uint32_t>((startedNs - shared.queuedNs + awayNs) / 1000);
        shared.completion->searchUs = static_cast<uint32_t>((nowNs() - startedNs - std::min(awayNs, nowNs() - startedNs)) / 1000);
    }
    bool isLong() const override { return shared_->isLarge; }
    bool quick() const override { return !shared_->isLarge; }
    void finish(std::unique_ptr<Task> self, bool idle) override {
        if (!isLast_) return self.reset();
        Channel* to = shared_->channel;
        const bool isQuick = quick();
        std::unique_ptr<Completion> result = std::move(shared_->completion);
        // The index may be freed here, so before JavaScript learns that nothing is in flight any more.
        self.reset();
        to->post(std::move(result), idle, isQuick);
    }

private:
    void listAll(std::vector<Hit>& hits) const {
        const MaxSimRequest& request = shared_->search.request();
        for (uint32_t i = 0; i < shared_->search.end(); ++i) {
            const uint32_t at = request.listed ? request.list[i] : i;
            const Matrices::Place& place = request.matrices->place(at);
            if (!request.matrices->alive(at, request.change)) continue;
            if (request.filtered &&
                !((place.slot >> 3) < request.filter.size() && ((request.filter[place.slot >> 3] >> (place.slot & 7)) & 1)))
                continue;
            hits.push_back({0, place.slot, at});
        }
    }

    Failure complete(Interlude* interlude) {
        SharedSearch& shared = *shared_;
        const auto code = static_cast<Failure::Code>(shared.failure.load());
        if (code != Failure::none) return {code, 0, code == Failure::cancelled ? "" : "a part of the search failed"};
        std::vector<Hit> hits;
        SearchOutcome& outcome = shared.completion->outcome;
        for (const std::vector<Hit>& part : shared.parts) hits.insert(hits.end(), part.begin(), part.end());
        for (const uint32_t computed : shared.computed) outcome.computed += computed;
        std::sort(hits.begin(), hits.end());
        if (shared.search.end() > shared.search.wanted() && hits.size() > shared.search.wanted()) hits.resize(shared.search.wanted());
        MaxSim::Buffers buffers;
        for (const Hit& hit : hits) outcome.costs.visitedRows += shared.search.request().matrices->place(hit.row).rows;
        outcome.costs.allowedRows = static_cast<uint32_t>(shared.parts.size());
        if (!shared.search.finish(hits, buffers, interlude)) return {Failure::cancelled, 0, {}};
        outcome.plan = Plan::scan;
        outcome.hits = std::move(hits);
        return {};
    }

    std::shared_ptr<SharedSearch> shared_;
    const uint32_t part_;
    bool isLast_ = false;
};

/** matricesSearch(id, ticket, k, query, scopeKind, scope). `scopeKind` 0: all, 1: `scope` is a filter of slots, 2: a list of slots. */
napi_value searchMatrices(Call& call) {
    Channel& channel = call.channel();
    const std::shared_ptr<Matrices> matrices = matricesAt(call, 0);
    MaxSimRequest request;
    request.matrices = matrices;
    request.k = call.number(2);
    request.count = matrices->count();
    request.change = matrices->change();
    request.cancel = channel.cancelFlag(call.number(1));
    const auto query = call.array<float>(3, matrices->codec().dimension());
    const size_t rows = query.count / matrices->codec().dimension();
    if (rows * matrices->codec().dimension() != query.count || rows > matrixRowsMax)
        throw Refusal(Failure::invalid, "the query is no matrix of this index, or has too many rows");
    const Matrices::Stats stats = matrices->stats();
    uint64_t scanned = stats.aliveRows;
    const uint32_t scope = call.number(4);
    // Copied: JavaScript may give the memory away as soon as this call has returned.
    if (scope == 1) {
        const auto filter = call.array<uint8_t>(5);
        request.filtered = true;
        request.filter.assign(filter.data, filter.data + filter.count);
    } else if (scope == 2) {
        const auto slots = call.array<uint32_t>(5);
        request.listed = true;
        scanned = 0;
        for (size_t i = 0; i < slots.count; ++i) {
            const uint32_t at = matrices->find(slots.data[i]);
            if (at != noMatrix) request.list.push_back(at);
        }
        std::sort(request.list.begin(), request.list.end());
        request.list.erase(std::unique(request.list.begin(), request.list.end()), request.list.end());
        for (const uint32_t at : request.list) scanned += matrices->place(at).rows;
    }
    auto shared = std::make_shared<SharedSearch>(request, query.data, static_cast<uint32_t>(rows));
    shared->channel = &channel;
    shared->completion->ticket = call.number(1);
    const uint64_t components = scanned * rows * matrices->codec().dimension();
    shared->isLarge = components > longComponents;
    const bool isParted = shared->isLarge && shared->search.end() > shared->search.wanted();
    const size_t parts = isParted ? std::min<uint64_t>(Pool::instance().threads(), 1 + components / longComponents) : 1;
    shared->parts.resize(parts);
    shared->computed.resize(parts);
    shared->left.store(static_cast<uint32_t>(parts));
    shared->queuedNs = nowNs();
    InFlight inFlight(call, 1, shared->isLarge ? 0 : 1);
    std::vector<std::unique_ptr<Task>> tasks;
    for (uint32_t part = 0; part < parts; ++part) tasks.push_back(std::make_unique<MaxSimTask>(shared, part));
    Pool::instance().submit(tasks);
    inFlight.started();
    return call.undefined();
}

/** matricesEncodeQuery(id, query, out): the fixed encoding of a query */
napi_value encodeQuery(Call& call) {
    const std::shared_ptr<Matrices> matrices = matricesAt(call, 0);
    const FixedEncoding* encoding = matrices->encoding();
    if (!encoding) throw Refusal(Failure::invalid, "the index has no encodings");
    const Codec& codec = matrices->codec();
    const auto query = call.array<float>(1);
    const auto out = call.array<float>(2, encoding->dimension());
    const size_t rows = query.count / codec.dimension();
    std::vector<float> normalized(rows * codec.paddedDimension());
    for (size_t row = 0; row < rows; ++row) codec.normalize(query.data + row * codec.dimension(), normalized.data() + row * codec.paddedDimension());
    encoding->encode(normalized.data(), static_cast<uint32_t>(rows), true, out.data);
    return call.undefined();
}

/** matricesEncode(id, ticket, slots): completes when takeNumbers(ticket, out) gives the encodings; zeros for slots without a matrix. */
napi_value encodeMatrices(Call& call) {
    const std::shared_ptr<Matrices> matrices = matricesAt(call, 0);
    const FixedEncoding* encoding = matrices->encoding();
    if (!encoding) throw Refusal(Failure::invalid, "the index has no encodings");
    const auto slots = call.array<uint32_t>(2);
    std::vector<uint32_t> places;
    for (size_t i = 0; i < slots.count; ++i) places.push_back(matrices->find(slots.data[i]));
    auto held = std::make_shared<std::shared_ptr<Matrices>>(matrices);
    operate(call, call.number(1), [held, encoding, places](Completion& completion, Scratch&) -> Failure {
        const Matrices& from = **held;
        const size_t count = from.codec().paddedDimension();
        std::vector<float> rows, row(count + chunkBytes / sizeof(float));
        completion.numbers.resize(places.size() * encoding->dimension());
        for (size_t i = 0; i < places.size(); ++i) {
            if (places[i] == noMatrix) continue;
            const Matrices::Place& place = from.place(places[i]);
            rows.resize(size_t{place.rows} * count);
            for (uint32_t at = 0; at < place.rows; ++at) {
                const float* decoded = from.decode(place.first + at, row.data());
                std::copy(decoded, decoded + count, rows.data() + size_t{at} * count);
            }
            encoding->encode(rows.data(), place.rows, false, completion.numbers.data() + i * encoding->dimension());
        }
        held->reset();
        return {};
    });
    return call.undefined();
}

/** takeNumbers(ticket, out): what an operation made */
napi_value takeNumbers(Call& call) {
    const std::vector<float> numbers = call.channel().takeNumbers(call.number(0));
    const auto out = call.array<float>(1, numbers.size());
    std::copy(numbers.begin(), numbers.end(), out.data);
    return call.undefined();
}

/** matricesSave(id, ticket, path, key): completes with {"bytes", "crc"} */
napi_value saveMatrices(Call& call) {
    const Channel* channel = &call.channel();
    const uint32_t ticket = call.number(1);
    const std::string path = call.text(2);
    const FileKey key = call.fileKey(3);
    const std::shared_ptr<Matrices> matrices = matricesAt(call, 0);
    const uint32_t count = matrices->count(), change = matrices->change();
    auto held = std::make_shared<std::shared_ptr<Matrices>>(matrices);
    operate(call, ticket, [=](Completion& completion, Scratch&) -> Failure {
        FileSum sum;
        const Failure failure = (*held)->save(path, count, change, key, channel->cancelFlag(ticket), sum);
        held->reset();
        completion.text = "{\"bytes\":" + std::to_string(sum.bytes) + ",\"crc\":" + std::to_string(sum.crc) + "}";
        return failure;
    });
    return call.undefined();
}

/** matricesLoad(ticket, options, path, bytes, crc, key): then matricesTake(ticket) gives the index */
napi_value loadMatrices(Call& call) {
    const Channel* channel = &call.channel();
    const uint32_t ticket = call.number(0);
    const MatrixOptions options = readOptions(call, 1);
    const std::string path = call.text(2);
    const FileSum sum{static_cast<uint64_t>(call.float64(3)), call.number(4)};
    const FileKey key = call.fileKey(5);
    const Kernels* kernels = &currentKernels();
    operate(call, ticket, [=](Completion& completion, Scratch&) -> Failure {
        auto matrices = std::make_shared<Matrices>(options, *kernels);
        Failure failure = matrices->load(path, sum, key, channel->cancelFlag(ticket));
        if (!failure) completion.matrices = std::move(matrices);
        return failure;
    });
    return call.undefined();
}

/** matricesTake(ticket) → id of the index that a load made */
napi_value takeMatrices(Call& call) {
    std::shared_ptr<Matrices> matrices = call.channel().takeMatrices(call.number(0));
    if (!matrices) throw Refusal(Failure::resources, "no memory for a loaded index");
    return call.number64(call.channel().addMatrices(std::move(matrices)));
}

/** matricesClose(id, ticket) */
napi_value closeMatrices(Call& call) {
    auto held = std::make_shared<std::shared_ptr<Matrices>>(matricesAt(call, 0));
    operate(call, call.number(1), [held](Completion&, Scratch&) -> Failure {
        held->reset();
        return {};
    });
    call.channel().dropMatrices(call.number(0));
    return call.undefined();
}

}  // namespace

void defineMatrices(napi_env env, napi_value exports) {
    const NamedFunction functions[] = {{"matricesCreate", entry<createMatrices>}, {"matricesAdd", entry<addMatrices>},
                                       {"matricesRemove", entry<removeMatrices>}, {"matricesStats", entry<matricesStats>},
                                       {"matricesSearch", entry<searchMatrices>}, {"matricesEncodeQuery", entry<encodeQuery>},
                                       {"matricesEncode", entry<encodeMatrices>}, {"takeNumbers", entry<takeNumbers>},
                                       {"matricesSave", entry<saveMatrices>},     {"matricesLoad", entry<loadMatrices>},
                                       {"matricesTake", entry<takeMatrices>},     {"matricesClose", entry<closeMatrices>}};
    defineFunctions(env, exports, functions);
}

}  // namespace kith
