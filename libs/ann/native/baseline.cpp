#include "baseline.h"
#include "index.h"
#include "scratch.h"

namespace kith {
namespace {

struct QueryMetric {
    PairKernel pair;
    const char* arena;
    size_t rowBytes, chunks;
    Affine affine;
    template <class Entry> float operator()(const char* query, const Entry& entry) const {
        return sane(affine.constant + affine.factor * pair(query, arena + get_slot(entry) * rowBytes, chunks));
    }
};

/** Asks for the rows that index_gt is about to compare. By force inline: GCC drops calls that only prefetch. */
struct RowPrefetch {
    const char* arena;
    size_t rowBytes;
    template <class Iterator> [[gnu::always_inline]] void operator()(Iterator from, Iterator to) const {
        const size_t lines = rowBytes / chunkBytes < 8 ? rowBytes / chunkBytes : 8;
        for (; from != to; ++from) {
            const char* row = arena + get_slot(from) * rowBytes;
            for (size_t line = 0; line < lines; ++line) __builtin_prefetch(row + line * chunkBytes, 0, 3);
        }
    }
};

}  // namespace

void searchByUsearch(Index& index, const float* query, uint32_t k, uint32_t ef, Scratch& scratch, uint32_t* slots) {
    const std::shared_ptr<const Vectors> vectors = index.linkVectors();
    const Codec& codec = vectors->codec();
    // Written as the rows are, since a pair is what index_gt compares.
    std::vector<float> normalized(codec.paddedDimension());
    codec.normalize(query, normalized.data());
    char* row = scratch.queryRow(codec.rowBytes());
    codec.encode(normalized.data(), row);
    const QueryMetric metric{vectors->pair(), vectors->arena(), codec.rowBytes(), codec.chunks(), codec.rowAffine()};
    const RowPrefetch prefetch{metric.arena, metric.rowBytes};
    unum::usearch::index_search_config_t config;
    config.expansion = ef;
    const char* wanted = row;
    auto found = index.graph().search(wanted, k, metric, config, unum::usearch::dummy_predicate_t{}, prefetch);
    for (size_t hit = 0; hit < found.size(); ++hit) slots[hit] = static_cast<uint32_t>(found[hit].member.slot);
}

}  // namespace kith
