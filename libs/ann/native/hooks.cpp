#include "hooks.h"
#include "baseline.h"
#include "call.h"
#include "cores.h"
#include "crc32c.h"
#include "link_repair.h"
#include "removed.h"
#include "shared_scan.h"

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

/** companionsServed() → number: searches that another one's scan answered */
napi_value companionsServedSoFar(Call& call) { return call.number64(static_cast<double>(companionsServed())); }

/** miscountedRows(id) → number; for the test that holds the counts of links against a recount */
napi_value miscountedRows(Call& call) {
    const std::shared_ptr<Index> index = call.index(0);
    uint32_t rows = 0;
    index->pause();
    index->whilePaused([&] { rows = index->miscountedRows(); });
    index->resume();
    return call.number64(rows);
}

/**
 * removedComparisons(slots, found, offered) → number: how many comparisons of slots it takes to offer removed rows, which carry these slots,
 * to a search that has found those. `offered` is filled with their number and the slots themselves.
 */
napi_value removedComparisons(Call& call) {
    const auto slots = call.array<uint32_t>(0);
    const auto given = call.array<uint32_t>(1);
    const std::vector<uint32_t> slotOfRow(slots.data, slots.data + slots.count);
    std::vector<uint32_t> found(given.data, given.data + given.count), rows(slots.count);
    for (uint32_t row = 0; row < rows.size(); ++row) rows[row] = row;
    double comparisons = 0;
    const auto slotOf = [&](uint32_t row) { return slotOfRow[row]; };
    const auto less = [&](uint32_t a, uint32_t b) { return ++comparisons, a < b; };
    keepNewest(rows, slotOf, less);
    dropFound(rows, found, slotOf, less);
    uint32_t* offered = call.array<uint32_t>(2, rows.size() + 1).data;
    *offered = static_cast<uint32_t>(rows.size());
    for (const uint32_t row : rows) *++offered = slotOf(row);
    return call.number64(comparisons);
}

/**
 * evictedLink(distances, incoming, linksMin) → number: which of the links of a full list, at these distances and each with so many links
 * that lead there, goes when the list gets another one; -1 for none.
 */
napi_value evictedLink(Call& call) {
    const auto distances = call.array<float>(0);
    const auto incoming = call.array<uint32_t>(1, distances.count);
    const auto count = static_cast<uint32_t>(distances.count);
    Graph graph(unum::usearch::index_config_t(count / 2, count));
    LinkRepair repair(graph, call.number(2), true);
    // Row 0 has the list, the last row comes new.
    const uint32_t fresh = count + 1;
    bool isRoom = startGraph(graph) && repair.reserve(fresh + 1);
    for (uint32_t row = 0; row <= fresh && isRoom; ++row) isRoom = appendNode(graph, 0);
    if (!isRoom) throw Refusal(Failure::resources, "no memory for the graph of a test");
    Links links(graph, 0, 0);
    for (uint32_t i = 0; i < count; ++i) {
        links.append(i + 1);
        for (uint32_t n = 0; n < incoming.data[i]; ++n) repair.linked(i + 1);
    }
    repair.linkInstead(0, fresh, [&](uint32_t, const uint32_t* rows, size_t measured, float* out) {
        for (size_t i = 0; i < measured; ++i) out[i] = distances.data[rows[i] - 1];
    });
    for (uint32_t i = 0; i < count; ++i)
        if (!links.has(i + 1)) return call.number64(i);
    return call.number64(-1);
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
                                       {"companionsServed", entry<companionsServedSoFar>},
                                       {"removedComparisons", entry<removedComparisons>},
                                       {"evictedLink", entry<evictedLink>},
                                       {"quotaCores", entry<quota>}};
    defineFunctions(env, object, functions);
    return object;
}

}  // namespace kith
