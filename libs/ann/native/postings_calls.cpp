#include "postings_calls.h"
#include <algorithm>
#include "hooks.h"
#include "in_flight.h"
#include "postings.h"

namespace kith {
namespace {

constexpr uint32_t clausesMax = 4096;
/** Postings of texts and of values that a search goes through in about a millisecond. */
constexpr size_t longPostings = 300'000;
constexpr size_t longValues = 2'000'000;

std::shared_ptr<Postings> postingsAt(const Call& call, size_t i) {
    std::shared_ptr<Postings> postings = call.channel().postings(call.number(i));
    if (!postings) throw Refusal(Failure::closed, "the index is closed");
    return postings;
}

PostingsOptions readOptions(const Call& call, size_t fieldsAt, size_t numbersAt) {
    PostingsOptions options;
    options.fields = call.number(fieldsAt);
    if (options.fields > textFieldsMax) throw Refusal(Failure::invalid, "an index of texts has at most 8 fields");
    const auto numbers = call.array<float>(numbersAt, 1 + 2 * size_t{options.fields});
    options.k1 = numbers.data[0];
    for (uint32_t f = 0; f < options.fields; ++f) {
        options.b[f] = numbers.data[1 + 2 * f];
        options.weight[f] = numbers.data[2 + 2 * f];
    }
    return options;
}

/** postingsCreate(fields, [k1, b, weight, b, weight, ...]) → id */
napi_value createPostings(Call& call) {
    return call.number64(call.channel().addPostings(std::make_shared<Postings>(readOptions(call, 0, 1))));
}

/** postingsAdd(id, slots, offsets, terms, counts or values, lengths, fault) → code */
napi_value addPostings(Call& call) {
    const std::shared_ptr<Postings> postings = postingsAt(call, 0);
    const size_t fields = postings->options().fields;
    const auto slots = call.array<uint32_t>(1);
    const auto offsets = call.array<uint32_t>(2, slots.count + 1);
    const auto terms = call.array<uint32_t>(3);
    const auto lengths = call.array<uint32_t>(5, slots.count * fields);
    const auto fault = call.array<uint32_t>(6, 1);
    if (offsets.data[0] != 0 || offsets.data[slots.count] > terms.count || !std::is_sorted(offsets.data, offsets.data + slots.count + 1))
        throw Refusal(Failure::invalid, "the terms of rows lie beyond the terms");
    const uint32_t* counts = fields == 0 ? nullptr : call.array<uint32_t>(4, terms.count * fields).data;
    const float* values = fields == 0 ? call.array<float>(4, terms.count).data : nullptr;
    const Failure failure = postings->add(slots.data, static_cast<uint32_t>(slots.count), offsets.data, terms.data, counts, values, lengths.data);
    if (failure && failure.code != Failure::duplicateSlot) throw Refusal(failure.code, failure.text);
    fault.data[0] = failure.at;
    return call.number64(failure.code);
}

/** postingsRemove(id, slots) */
napi_value removePostings(Call& call) {
    const auto slots = call.array<uint32_t>(1);
    postingsAt(call, 0)->remove(slots.data, slots.count);
    return call.undefined();
}

/** postingsCounts(id, terms, out): alive rows that have each term */
napi_value countPostings(Call& call) {
    const auto terms = call.array<uint32_t>(1);
    postingsAt(call, 0)->termCounts(terms.data, terms.count, call.array<double>(2, terms.count).data);
    return call.undefined();
}

/** postingsStats(id, out): rows, alive, segments, bytes, tokens of each field */
napi_value postingsStats(Call& call) {
    const Postings::Stats stats = postingsAt(call, 0)->stats();
    double* out = call.array<double>(1, 4 + textFieldsMax).data;
    out[0] = stats.rows;
    out[1] = stats.alive;
    out[2] = stats.segments;
    out[3] = static_cast<double>(stats.bytes);
    for (uint32_t f = 0; f < textFieldsMax; ++f) out[4 + f] = static_cast<double>(stats.lengths[f]);
    return call.undefined();
}

class PostingsTask : public Task {
public:
    Channel* channel = nullptr;
    std::shared_ptr<Postings> postings;
    PostingsRequest request;
    uint64_t queuedNs = 0;
    bool isLarge = false;
    std::unique_ptr<Completion> completion = std::make_unique<Completion>();

    void run(Scratch&, Turn* turn) override {
        const uint64_t startedNs = nowNs();
        request.interlude = turn;
        const Failure failure = guarded([&]() -> Failure {
            searchPostings(request, completion->outcome);
            return {};
        });
        if (failure) completion->fail(failure);
        const uint64_t awayNs = turn ? turn->awayNs() : 0;
        completion->queueUs = static_cast<uint32_t>((startedNs - queuedNs + awayNs) / 1000);
        completion->searchUs = static_cast<uint32_t>((nowNs() - startedNs - awayNs) / 1000);
    }
    bool isLong() const override { return isLarge; }
    bool quick() const override { return !isLarge; }
    void finish(std::unique_ptr<Task> self, bool idle) override {
        Channel* to = channel;
        const bool isQuick = quick();
        std::unique_ptr<Completion> result = std::move(completion);
        // The index may be freed here, so before JavaScript learns that nothing is in flight any more.
        self.reset();
        to->post(std::move(result), idle, isQuick);
    }
};

/**
 * postingsSearch(id, ticket, k, words, weights, averages, scopeKind, scope). `words`: number of clauses, their kinds, then a term and its clause for
 * each weight. `scopeKind` 0: all rows, 1: `scope` is a filter of slots, 2: a list of slots.
 */
napi_value searchPostingsCall(Call& call) {
    Channel& channel = call.channel();
    auto task = std::make_unique<PostingsTask>();
    task->channel = &channel;
    task->postings = postingsAt(call, 0);
    task->queuedNs = nowNs();
    PostingsRequest& request = task->request;
    task->postings->look(request);
    request.k = call.number(2);
    request.cancel = channel.cancelFlag(call.number(1));
    task->completion->ticket = call.number(1);
    const auto words = call.array<uint32_t>(3, 1);
    const uint32_t clauses = words.data[0];
    const auto weights = call.array<float>(4);
    if (clauses > clausesMax || words.count < 1 + clauses + 2 * weights.count) throw Refusal(Failure::invalid, "the terms of a search lie beyond its words");
    const bool isText = request.options.fields > 0;
    request.kernels = &currentKernels();
    for (uint32_t i = 0; i < clauses; ++i) {
        request.clauses.push_back(static_cast<ClauseKind>(words.data[1 + i]));
        if (!isText && request.clauses.back() != ClauseKind::should) throw Refusal(Failure::invalid, "an index of values takes clauses of the kind \"should\" only");
    }
    size_t postings = 0;
    for (size_t i = 0; i < weights.count; ++i) {
        const uint32_t* word = words.data + 1 + clauses + 2 * i;
        if (word[1] >= clauses) throw Refusal(Failure::invalid, "a term of a search belongs to no clause");
        request.terms.push_back({word[0], weights.data[i], word[1]});
        for (const auto& segment : *request.segments) {
            const uint32_t at = segment->find(word[0]);
            if (at != noPosting) postings += segment->counts[at];
        }
    }
    task->isLarge = postings > (isText ? longPostings : longValues);
    const auto averages = call.array<float>(5, request.options.fields);
    std::copy(averages.data, averages.data + request.options.fields, request.averages);
    const uint32_t scope = call.number(6);
    request.filtered = scope != 0;
    // Copied: JavaScript may give the memory away as soon as this call has returned.
    if (scope == 1) {
        const auto filter = call.array<uint8_t>(7);
        request.filter.assign(filter.data, filter.data + filter.count);
    } else if (scope == 2) {
        const auto slots = call.array<uint32_t>(7);
        uint32_t most = 0;
        for (size_t i = 0; i < slots.count; ++i) most = std::max(most, slots.data[i]);
        request.filter.assign(slots.count == 0 ? 0 : size_t{most} / 8 + 1, 0);
        for (size_t i = 0; i < slots.count; ++i) request.filter[slots.data[i] >> 3] |= static_cast<uint8_t>(1 << (slots.data[i] & 7));
    }
    InFlight inFlight(call, 1, task->quick() ? 1 : 0);
    std::vector<std::unique_ptr<Task>> tasks;
    tasks.push_back(std::move(task));
    Pool::instance().submit(tasks);
    inFlight.started();
    return call.undefined();
}

/** postingsSettled(id, ticket, segments): completes when there are at most so many segments, or nothing is to be merged. */
napi_value settlePostings(Call& call) {
    Channel* channel = &call.channel();
    const std::shared_ptr<Postings> postings = postingsAt(call, 0);
    InFlight inFlight(call);
    auto completion = std::make_shared<std::unique_ptr<Completion>>(std::make_unique<Completion>());
    (*completion)->ticket = call.number(1);
    postings->whenSettled(call.number(2), [channel, completion](const Failure& failure) {
        if (failure) (*completion)->fail(failure);
        channel->post(std::move(*completion), true);
    });
    inFlight.started();
    return call.undefined();
}

/** postingsSave(id, ticket, path, key): completes with {"bytes", "crc"} */
napi_value savePostings(Call& call) {
    const Channel* channel = &call.channel();
    const uint32_t ticket = call.number(1);
    const std::string path = call.text(2);
    const FileKey key = call.fileKey(3);
    const std::shared_ptr<Postings> postings = postingsAt(call, 0);
    const std::shared_ptr<const Segments> segments = postings->segments();
    const uint32_t change = postings->change();
    auto held = std::make_shared<std::shared_ptr<Postings>>(postings);
    operate(call, ticket, [=](Completion& completion, Scratch&) -> Failure {
        FileSum sum;
        const Failure failure = (*held)->save(path, *segments, change, key, channel->cancelFlag(ticket), sum);
        held->reset();
        completion.text = "{\"bytes\":" + std::to_string(sum.bytes) + ",\"crc\":" + std::to_string(sum.crc) + "}";
        return failure;
    });
    return call.undefined();
}

/** postingsLoad(ticket, fields, numbers, path, bytes, crc, key): then postingsTake(ticket) gives the index */
napi_value loadPostings(Call& call) {
    const Channel* channel = &call.channel();
    const uint32_t ticket = call.number(0);
    const PostingsOptions options = readOptions(call, 1, 2);
    const std::string path = call.text(3);
    const FileSum sum{static_cast<uint64_t>(call.float64(4)), call.number(5)};
    const FileKey key = call.fileKey(6);
    operate(call, ticket, [=](Completion& completion, Scratch&) -> Failure {
        auto postings = std::make_shared<Postings>(options);
        Failure failure = postings->load(path, sum, key, channel->cancelFlag(ticket));
        if (!failure) completion.postings = std::move(postings);
        return failure;
    });
    return call.undefined();
}

/** postingsTake(ticket) → id of the index that a load made */
napi_value takePostings(Call& call) {
    std::shared_ptr<Postings> postings = call.channel().takePostings(call.number(0));
    if (!postings) throw Refusal(Failure::resources, "no memory for a loaded index");
    return call.number64(call.channel().addPostings(std::move(postings)));
}

/** postingsClose(id, ticket) */
napi_value closePostings(Call& call) {
    auto held = std::make_shared<std::shared_ptr<Postings>>(postingsAt(call, 0));
    operate(call, call.number(1), [held](Completion&, Scratch&) -> Failure {
        (*held)->stop();
        held->reset();
        return {};
    });
    call.channel().dropPostings(call.number(0));
    return call.undefined();
}

}  // namespace

void definePostings(napi_env env, napi_value exports) {
    const NamedFunction functions[] = {{"postingsCreate", entry<createPostings>},     {"postingsAdd", entry<addPostings>},
                                       {"postingsRemove", entry<removePostings>},     {"postingsCounts", entry<countPostings>},
                                       {"postingsStats", entry<postingsStats>},       {"postingsSearch", entry<searchPostingsCall>},
                                       {"postingsSettled", entry<settlePostings>},    {"postingsSave", entry<savePostings>},
                                       {"postingsLoad", entry<loadPostings>},         {"postingsTake", entry<takePostings>},
                                       {"postingsClose", entry<closePostings>}};
    defineFunctions(env, exports, functions);
}

}  // namespace kith
