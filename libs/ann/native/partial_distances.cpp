#include "partial_distances.h"
#include <algorithm>
#include <limits>
#include <numeric>

namespace kith {
namespace {

/** Where rows are dropped, in quarters of a row: of short ones, whose first part is soon read, not before the half. */
constexpr size_t shortMost = 16;
constexpr size_t firstQuarter(size_t chunks) { return chunks <= shortMost ? 2 : 1; }

}  // namespace

PartialDistances::PartialDistances(SearchContext& context) : context_(context) {
    const Codec& codec = context.vectors->codec();
    const bool isLong = context.chunks >= chunksLeast && context.chunks <= chunksMost;
    if (isLong && codec.metric() == metricL2) kernel_ = context.vectors->kernels().part[codec.code()];
}

/** By the mean squared difference of a sample, chunk by chunk. */
void PartialDistances::order() {
    std::array<float, chunksMost> weights;
    for (size_t chunk = 0; chunk < context_.chunks; ++chunk) {
        const auto part = static_cast<uint16_t>(chunk);
        std::fill_n(sums_.begin(), sampled_, 0.0f);
        kernel_(context_.query, context_.arena, sample_, sampled_, context_.chunks, &part, 1, sums_.data());
        // Of numbers beyond the range of f32 an order is worth nothing, but must be one.
        weights[chunk] = sane(std::accumulate(sums_.begin(), sums_.begin() + sampled_, 0.0f));
        parts_[chunk] = part;
    }
    std::sort(parts_.begin(), parts_.begin() + context_.chunks, [&](uint16_t a, uint16_t b) { return weights[a] > weights[b] || (weights[a] == weights[b] && a < b); });
    ordered_ = true;
}

size_t PartialDistances::keep(uint32_t* ids, size_t count, float worst) {
    if (!kernel_) return count;
    if (sampled_ == 0) {
        sampled_ = std::min(count, sampleRows);
        std::copy_n(ids, sampled_, sample_);
    }
    if (worst == std::numeric_limits<float>::infinity()) return count;
    if (pause_ > 0) {
        --pause_;
        return count;
    }
    if (!ordered_) order();
    const size_t chunks = context_.chunks;
    // Either sum is off by less than a unit in the last place for each of its additions.
    const float allowance = 1.0f + static_cast<float>(chunks + 64) * 0x1p-22f;
    const float bound = (worst - context_.affine.constant) / context_.affine.factor * allowance;
    std::fill_n(sums_.begin(), count, 0.0f);
    size_t kept = count, from = 0;
    for (size_t quarter = firstQuarter(chunks); quarter < 4 && kept > 0; ++quarter) {
        const size_t to = chunks * quarter / 4;
        kernel_(context_.query, context_.arena, ids, kept, chunks, parts_.data() + from, to - from, sums_.data());
        size_t next = 0;
        for (size_t i = 0; i < kept; ++i) {
            ids[next] = ids[i];
            sums_[next] = sums_[i];
            next += !(sums_[i] > bound);
        }
        kept = next;
        from = to;
    }
    context_.outcome.computed += static_cast<uint32_t>(count - kept);
    if (kept * 4 > count * 3) {
        pause_ = nextPause_;
        nextPause_ *= 2;
    }
    return kept;
}

}  // namespace kith
