#include "max_sim.h"
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace kith {
namespace {

/** 0, 1, 2, ...: the rows of a matrix from its first one on. */
const std::array<uint32_t, matrixRowsMax>& ascending() {
    static const std::array<uint32_t, matrixRowsMax> numbers = [] {
        std::array<uint32_t, matrixRowsMax> filled{};
        for (uint32_t i = 0; i < matrixRowsMax; ++i) filled[i] = i;
        return filled;
    }();
    return numbers;
}

char* aligned(std::vector<char>& memory, size_t bytes) {
    memory.resize(std::max(memory.size(), bytes + chunkBytes));
    const size_t at = reinterpret_cast<size_t>(memory.data());
    return memory.data() + ((at + chunkBytes - 1) / chunkBytes * chunkBytes - at);
}

}  // namespace

MaxSim::MaxSim(const MaxSimRequest& request, const float* query, uint32_t rows)
    : request_(request), matrices_(*request_.matrices), rows_(rows), queryBytes_(matrices_.codec().paddedDimension() * sizeof(float)) {
    query_ = aligned(memory_, rows * queryBytes_);
    const Codec& codec = matrices_.codec();
    for (uint32_t row = 0; row < rows; ++row) {
        float* to = reinterpret_cast<float*>(query_ + row * queryBytes_);
        codec.normalize(query + size_t{row} * codec.dimension(), to);
        squares_.push_back(static_cast<float>(squaredLength(to, codec.dimension())));
    }
}

void MaxSim::measure(uint32_t queryRow, const Matrices::Place& place, float* out) const {
    const Codec& codec = matrices_.codec();
    // Rows of i8 have scales of their own, so that only their products can be taken without decoding them.
    const bool isI8 = codec.code() == codeI8;
    const Comparison comparison = isI8 ? comparisonDot : codec.comparison();
    matrices_.kernels().gatherF32[codec.code()][comparison](queryAt(queryRow), matrices_.row(place.first), ascending().data(), place.rows,
                                                           codec.chunks(), out);
    if (comparison == comparisonL2) return;
    if (!isI8) {
        for (uint32_t i = 0; i < place.rows; ++i) out[i] = -out[i];
        return;
    }
    for (uint32_t i = 0; i < place.rows; ++i) {
        const float raw = out[i] * matrices_.scaleOf(place.first + i);
        out[i] = codec.metric() == metricL2 ? std::max(0.0f, squares_[queryRow] + matrices_.squaresOf(place.first + i) - 2 * raw) : -raw;
    }
}

bool MaxSim::scan(uint32_t from, uint32_t to, Buffers& buffers, TopK& top, Interlude* interlude) const {
    buffers.distances.resize(matrixRowsMax);
    float* distances = buffers.distances.data();
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
        for (uint32_t row = 0; row < rows_; ++row) {
            measure(row, place, distances);
            sum += *std::min_element(distances, distances + place.rows);
            buffers.computed += place.rows;
            // A little room for what the kernels round.
            if (sum + least * (rows_ - row - 1) > worst + 1e-4 * (std::fabs(worst) + rows_)) {
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
    buffers.distances.resize(matrixRowsMax);
    float* distances = buffers.distances.data();
    const Codec& codec = matrices_.codec();
    const size_t count = codec.paddedDimension();
    float* decoded = reinterpret_cast<float*>(aligned(buffers.decoded, count * sizeof(float)));
    for (Hit& hit : hits) {
        const Matrices::Place& place = matrices_.place(hit.row);
        double sum = 0;
        for (uint32_t row = 0; row < rows_; ++row) {
            measure(row, place, distances);
            const auto nearest = static_cast<uint64_t>(std::min_element(distances, distances + place.rows) - distances);
            ExactSums sums;
            matrices_.kernels().exact(queryAt(row), matrices_.decode(place.first + nearest, decoded), count, &sums);
            if (codec.metric() == metricL2) sum += sums.l2;
            else if (codec.metric() == metricDot) sum -= sums.dot;
            else {
                const double lengths = std::sqrt(sums.squaresA) * std::sqrt(sums.squaresB);
                sum -= lengths > 0 ? std::min(std::max(sums.dot / lengths, -1.0), 1.0) : 0.0;
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
