#include "max_sim.h"
#include <algorithm>
#include <cmath>
#include <limits>

namespace kith {
namespace {

/** Rows of other datatypes than f32 that are decoded at once: of the size of what kernels compare at once, or a multiple. */
constexpr uint32_t decodedRows = 12;

char* aligned(std::vector<char>& memory, size_t bytes) {
    memory.resize(std::max(memory.size(), bytes + chunkBytes));
    const size_t at = reinterpret_cast<size_t>(memory.data());
    return memory.data() + ((at + chunkBytes - 1) / chunkBytes * chunkBytes - at);
}

}  // namespace

MaxSim::MaxSim(const MaxSimRequest& request, const float* query, uint32_t rows)
    : request_(request), matrices_(*request_.matrices), rows_(rows), queryBytes_(matrices_.codec().paddedDimension() * sizeof(float)),
      comparison_(matrices_.codec().comparison()) {
    const Codec& codec = matrices_.codec();
    const size_t dimension = codec.dimension();
    query_ = aligned(memory_, rows * queryBytes_);
    lanes_ = reinterpret_cast<float*>(aligned(lanesMemory_, groups() * dimension * queryLanes * sizeof(float)));
    for (uint32_t row = 0; row < rows; ++row) {
        float* to = reinterpret_cast<float*>(query_ + row * queryBytes_);
        codec.normalize(query + size_t{row} * dimension, to);
        float* group = lanes_ + row / queryLanes * dimension * queryLanes + row % queryLanes;
        for (size_t d = 0; d < dimension; ++d) group[d * queryLanes] = to[d];
    }
}

void MaxSim::compare(uint32_t group, const Matrices::Place& place, Buffers& buffers, BestRows& best) const {
    const Codec& codec = matrices_.codec();
    const size_t stride = codec.paddedDimension(), dimension = codec.dimension();
    const float* query = lanes_ + group * dimension * queryLanes;
    const float worst = std::numeric_limits<float>::infinity();
    std::fill(best.value, best.value + queryLanes, comparison_ == comparisonL2 ? worst : -worst);
    std::fill(best.row, best.row + queryLanes, 0);
    const BestKernel kernel = matrices_.kernels().best[comparison_];
    if (codec.code() == codeF32) {
        kernel(query, reinterpret_cast<const float*>(matrices_.row(place.first)), stride, place.rows, dimension, 0, &best);
        return;
    }
    float* decoded = reinterpret_cast<float*>(aligned(buffers.block, decodedRows * stride * sizeof(float)));
    for (uint32_t from = 0; from < place.rows; from += decodedRows) {
        const uint32_t count = std::min(decodedRows, place.rows - from);
        for (uint32_t i = 0; i < count; ++i) matrices_.decode(place.first + from + i, decoded + i * stride);
        kernel(query, decoded, stride, count, dimension, static_cast<int32_t>(from), &best);
    }
}

bool MaxSim::scan(uint32_t from, uint32_t to, Buffers& buffers, TopK& top, Interlude* interlude) const {
    const Metric metric = matrices_.codec().metric();
    // The least that a further row of the query can add.
    const double least = metric == metricCosine ? -1.0 : metric == metricL2 ? 0.0 : -std::numeric_limits<double>::infinity();
    const double start = metric == metricCosine ? 1.0 : 0.0;
    for (uint32_t i = from; i < to; ++i) {
        const uint32_t at = request_.listed ? request_.list[i] : i;
        const Matrices::Place& place = matrices_.place(at);
        if (!matrices_.alive(at, request_.change)) continue;
        if (request_.filtered && !((place.slot >> 3) < request_.filter.size() && ((request_.filter[place.slot >> 3] >> (place.slot & 7)) & 1)))
            continue;
        const double worst = static_cast<double>(top.worst());
        double sum = start;
        bool isOut = false;
        for (uint32_t group = 0; group < groups(); ++group) {
            BestRows best;
            compare(group, place, buffers, best);
            const uint32_t rows = rowsOf(group);
            for (uint32_t lane = 0; lane < rows; ++lane) sum += comparison_ == comparisonL2 ? best.value[lane] : -best.value[lane];
            buffers.computed += rows * place.rows;
            // A little room for what the kernels round.
            if (sum + least * (rows_ - group * queryLanes - rows) > worst + 1e-4 * (std::fabs(worst) + rows_)) {
                isOut = true;
                break;
            }
            if (!goesOn(interlude)) return false;
        }
        if (!isOut) top.offer({static_cast<float>(sum), place.slot, at});
    }
    return true;
}

bool MaxSim::finish(std::vector<Hit>& hits, Buffers& buffers, Interlude* interlude) const {
    const Codec& codec = matrices_.codec();
    const size_t count = codec.paddedDimension();
    float* decoded = reinterpret_cast<float*>(aligned(buffers.decoded, count * sizeof(float)));
    for (Hit& hit : hits) {
        const Matrices::Place& place = matrices_.place(hit.row);
        double sum = 0;
        for (uint32_t group = 0; group < groups(); ++group) {
            BestRows best;
            compare(group, place, buffers, best);
            for (uint32_t lane = 0; lane < rowsOf(group); ++lane) {
                ExactSums sums;
                const float* row = matrices_.decode(place.first + static_cast<uint32_t>(best.row[lane]), decoded);
                matrices_.kernels().exact(queryAt(group * queryLanes + lane), row, count, &sums);
                if (codec.metric() == metricL2) sum += sums.l2;
                else if (codec.metric() == metricDot) sum -= sums.dot;
                else {
                    const double lengths = std::sqrt(sums.squaresA) * std::sqrt(sums.squaresB);
                    sum -= lengths > 0 ? std::min(std::max(sums.dot / lengths, -1.0), 1.0) : 0.0;
                }
            }
            if (!goesOn(interlude)) return false;
        }
        constexpr double most = std::numeric_limits<float>::max();
        if (codec.metric() == metricCosine) sum += 1;
        hit.distance = static_cast<float>(std::min(std::max(sum, -most), most));
    }
    std::sort(hits.begin(), hits.end());
    if (hits.size() > request_.k) hits.resize(request_.k);
    return true;
}

}  // namespace kith
