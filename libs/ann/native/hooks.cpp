#include "hooks.h"
#include "baseline.h"
#include "call.h"
#include "cores.h"
#include "crc32c.h"

namespace kith {
namespace {

const Kernels* forcedKernels = nullptr;

/** forceSimd(name or "") → whether this CPU has it. For indexes created afterwards. */
napi_value forceSimd(Call& call) {
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
napi_value searchLoop(Call& call) {
    const std::shared_ptr<Index> index = call.index(0);
    const auto queries = call.array<float>(1);
    const uint32_t k = call.number(2), ef = call.number(3);
    const size_t dimension = index->options().dimension, count = queries.count / dimension;
    uint32_t* slots = call.array<uint32_t>(4, count * k).data;
    const bool byUsearch = call.flag(5);
    Scratch scratch;
    SearchOutcome outcome;
    const uint64_t startedNs = nowNs();
    for (size_t i = 0; i < count; ++i, slots += k) {
        const float* query = queries.data + i * dimension;
        if (byUsearch) {
            searchByUsearch(*index, query, k, ef, scratch, slots);
        } else {
            SearchRequest request;
            request.k = k;
            request.ef = ef;
            request.query = query;
            search(*index, request, scratch, outcome);
            for (size_t hit = 0; hit < outcome.hits.size(); ++hit) slots[hit] = outcome.hits[hit].slot;
        }
    }
    return call.number64(static_cast<double>(nowNs() - startedNs));
}

/** crc32c(bytes) → number; for the test that holds it against its published vector */
napi_value checksum(Call& call) {
    const auto bytes = call.array<uint8_t>(0);
    return call.number64(crc32c(0, bytes.data, bytes.count));
}

/** miscountedRows(id) → number; for the test that holds the counts of links against a recount */
napi_value miscountedRows(Call& call) {
    const std::shared_ptr<Index> index = call.index(0);
    uint32_t rows = 0;
    index->pause();
    index->whilePaused([&] { rows = index->miscountedRows(); });
    index->resume();
    return call.number64(rows);
}

/** quotaCores(membership, root) → number */
napi_value quota(Call& call) { return call.number64(static_cast<double>(quotaCores(call.text(0), call.text(1)))); }

}  // namespace

const Kernels& currentKernels() { return forcedKernels ? *forcedKernels : bestKernels(); }

napi_value hooks(napi_env env) {
    napi_value object;
    napi_create_object(env, &object);
    const NamedFunction functions[] = {{"forceSimd", entry<forceSimd>},
                                       {"searchLoop", entry<searchLoop>},
                                       {"crc32c", entry<checksum>},
                                       {"miscountedRows", entry<miscountedRows>},
                                       {"quotaCores", entry<quota>}};
    defineFunctions(env, object, functions);
    return object;
}

}  // namespace kith
