#include "calibration.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace kith {
namespace {

/** Part of the rows that the scale holds whole. */
constexpr double heldPart = 0.995;
/**
 * The scale holds all rows where the longest does not reach this much further than those. With dot the longest rows are those that
 * queries want.
 */
constexpr float tailWorthHolding = 1.25f, tailWorthHoldingDot = 4.0f;
/** Room that i16 codes leave for rows to come: its steps are fine enough. */
constexpr float wideHeadroom = 4.0f;
/** Least recall@10 over the sample, and over those queries whose neighbours are nearest, and how it is measured. */
constexpr double recallMin = 0.945, finestRecallMin = 0.92;
constexpr size_t finestPart = 4;
/** The latter for i16 with cosine: rows that lie together as in a narrow cone are finer than its step the more there are, and a sample has few of them. */
constexpr double directionRecallMin = 0.96;
constexpr uint32_t recallRows = 2048, recallQueries = 128, recallK = 10;
/** Rows that an i4 step is fitted to, and the parts of all components that it may reach. */
constexpr uint32_t nibbleRows = 2048;
constexpr double nibbleParts[] = {0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.9995, 1.0};
/** Clipped rows that start a new generation: this part of all, and at least so many. */
constexpr uint32_t stalePart = 50, staleMin = 256;
/** Product codes are fitted again when there are so many times the rows that they were fitted to. */
constexpr uint32_t earlyTimes = 4;

const float* rowOf(const Vectors& vectors, uint32_t row) { return reinterpret_cast<const float*>(vectors.row(row)); }

/** For each component the middle between the lowest and the highest value, without the outermost half percent of either side. */
std::vector<float> middles(const Vectors& sample, uint32_t count) {
    const uint32_t dimension = sample.codec().dimension();
    std::vector<float> middles(dimension), values(count);
    const auto outer = static_cast<std::ptrdiff_t>((1.0 - heldPart) * count);
    for (uint32_t i = 0; i < dimension; ++i) {
        for (uint32_t row = 0; row < count; ++row) values[row] = rowOf(sample, row)[i];
        std::nth_element(values.begin(), values.begin() + outer, values.end());
        const float low = values[static_cast<size_t>(outer)];
        std::nth_element(values.begin() + outer, values.end() - 1 - outer, values.end());
        middles[i] = low + (values[count - 1 - static_cast<size_t>(outer)] - low) / 2;
    }
    return middles;
}

/** What the codes must reach, so that all rows are held but the few that are far out. */
float reachOf(const Vectors& sample, uint32_t count, const std::vector<float>& offset) {
    const uint32_t dimension = sample.codec().dimension();
    std::vector<float> reaches(count);
    for (uint32_t row = 0; row < count; ++row) {
        const float* vector = rowOf(sample, row);
        float reach = 0;
        for (uint32_t i = 0; i < dimension; ++i) reach = std::max(reach, std::fabs(vector[i] - (offset.empty() ? 0.0f : offset[i])));
        reaches[row] = reach;
    }
    std::sort(reaches.begin(), reaches.end());
    const float held = reaches[std::min<size_t>(count - 1, static_cast<size_t>(std::ceil(heldPart * count)))];
    const float worth = sample.codec().metric() == metricDot ? tailWorthHoldingDot : tailWorthHolding;
    const float reach = reaches.back() <= held * worth ? reaches.back() : held;
    // All values equal: any positive scale represents them.
    return reach > 0 ? reach : 1.0f;
}

Codec codecOf(const Vectors& sample, uint32_t count, Code code) {
    const Codec& like = sample.codec();
    if (code == codeF32) return Codec(like.dimension(), like.metric(), codeF32);
    // In a dot product an offset does not cancel.
    std::vector<float> offset = like.metric() == metricL2 ? middles(sample, count) : std::vector<float>();
    const float reach = reachOf(sample, count, offset);
    // No component of a row of length 1 reaches further than 1.
    const float wide = like.metric() == metricCosine ? 1.0f : reach * wideHeadroom;
    const float scale = code == codeI8 ? reach / 127.0f : wide / 32767.0f;
    return Codec(like.dimension(), like.metric(), code, std::max(scale, 1e-30f), std::move(offset));
}

/** The i-th of `parts` places among `count`. */
uint32_t spread(uint32_t i, uint32_t parts, uint32_t count) {
    return static_cast<uint32_t>(static_cast<uint64_t>(i) * count / std::max(1u, parts));
}

/** `rows` of the first `count` rows: `queries` of the first `asked`, then others, all of them spread evenly. */
std::vector<uint32_t> queriesFirst(uint32_t count, uint32_t asked, uint32_t rows, uint32_t queries) {
    std::vector<bool> taken(count, false);
    std::vector<uint32_t> order;
    order.reserve(rows);
    for (uint32_t i = 0; i < queries; ++i) {
        order.push_back(spread(i, queries, asked));
        taken[order.back()] = true;
    }
    const uint32_t others = rows - queries;
    for (uint32_t i = 0; i < others; ++i) {
        const uint32_t at = spread(i, others, count);
        if (!taken[at]) order.push_back(at);
        taken[at] = true;
    }
    return order;
}

/** The distance of the k-th nearest of `distances`, leaving one row out. */
float kthNearest(std::vector<float> distances, uint32_t without) {
    distances.erase(distances.begin() + without);
    const size_t k = std::min<size_t>(recallK, distances.size()) - 1;
    std::nth_element(distances.begin(), distances.begin() + static_cast<std::ptrdiff_t>(k), distances.end());
    return distances[k];
}

/** A query whose neighbours lie at most this far from it, and how many of these the codes found. */
struct Asked {
    float reach;
    size_t wanted, found;
};

/** The recall@10 that codes give: for all queries, and for the quarter whose neighbours are nearest. */
struct Recall {
    double all, finest;

    bool isEnough(const Codec& codec) const {
        const bool isDirection = codec.code() == codeI16 && codec.metric() == metricCosine;
        return all >= recallMin && finest >= (isDirection ? directionRecallMin : finestRecallMin);
    }
};

double recallOf(std::vector<Asked>::const_iterator from, std::vector<Asked>::const_iterator to) {
    size_t wanted = 0, found = 0;
    for (; from != to; ++from) {
        wanted += from->wanted;
        found += from->found;
    }
    return wanted == 0 ? 1.0 : static_cast<double>(found) / static_cast<double>(wanted);
}

/**
 * The recall@10 that the codes of a codec give, over rows of the sample, for some of the first `asked` of them as queries. Where half of the rows lie so near to each
 * other that the steps are too coarse for them, the mean hides it behind the other half. With dot the queries' lengths decide how far what they find is.
 */
Recall recallOf(const Vectors& sample, uint32_t count, uint32_t asked, const Codec& codec) {
    const uint32_t queries = std::min({count, asked, recallQueries});
    const std::vector<uint32_t> order = queriesFirst(count, asked, std::min(count, recallRows), queries);
    const auto rows = static_cast<uint32_t>(order.size());
    const Codec& exact = sample.codec();
    Vectors coded(sample.kernels(), codec, 0), wide(sample.kernels(), exact, 0);
    coded.reserve(rows);
    wide.reserve(rows);
    std::vector<float> padded(codec.paddedDimension(), 0.0f);
    for (uint32_t row = 0; row < rows; ++row) {
        const float* from = rowOf(sample, order[row]);
        wide.writeNormalized(row, from);
        std::copy(from, from + exact.dimension(), padded.begin());
        codec.encode(padded.data(), coded.rowForWriting(row));
    }
    std::vector<uint32_t> ids(rows);
    std::iota(ids.begin(), ids.end(), 0u);
    std::vector<float> truth(rows), measured(rows);
    std::vector<char> buffer(codec.queryBytes() + chunkBytes);
    char* encoded = buffer.data() + (chunkBytes - reinterpret_cast<size_t>(buffer.data()) % chunkBytes) % chunkBytes;
    std::vector<Asked> results;
    results.reserve(queries);
    for (uint32_t own = 0; own < queries; ++own) {
        wide.gather()(wide.row(own), wide.arena(), ids.data(), rows, exact.chunks(), truth.data());
        if (exact.metric() != metricL2)
            for (float& each : truth) each = -each;
        std::copy(rowOf(wide, own), rowOf(wide, own) + exact.dimension(), padded.begin());
        const PreparedQuery prepared = codec.encodeQuery(padded.data(), sample.kernels(), encoded);
        prepared.gather(encoded, coded.arena(), ids.data(), rows, codec.chunks(), measured.data());
        for (float& each : measured) each = prepared.affine.constant + prepared.affine.factor * each;
        const float trueLimit = kthNearest(truth, own), limit = kthNearest(measured, own);
        // Rows at the very distance of the last place are as good as each other.
        const float slack = std::fabs(trueLimit) * 1e-6f;
        size_t places = std::min(recallK, rows - 1), found = 0;
        results.push_back({trueLimit, places, 0});
        for (uint32_t row = 0; row < rows && places > 0; ++row) {
            if (row == own || measured[row] > limit) continue;
            --places;
            if (truth[row] <= trueLimit + slack) ++found;
        }
        results.back().found = found;
    }
    const double all = recallOf(results.begin(), results.end());
    if (exact.metric() == metricDot) return {all, all};
    std::sort(results.begin(), results.end(), [](const Asked& a, const Asked& b) { return a.reach < b.reach; });
    const auto finest = static_cast<std::ptrdiff_t>((results.size() + finestPart - 1) / finestPart);
    return {all, recallOf(results.begin(), results.begin() + finest)};
}

}  // namespace

uint32_t sampleRows(uint32_t dimension) { return std::min<uint32_t>(8192, std::max<uint32_t>(1024, (1u << 22) / dimension)); }

Codec calibrate(const Vectors& sample, uint32_t count, uint32_t queries) {
    const uint32_t dimension = sample.codec().dimension();
    const auto bytes = [dimension](Code code) { return chunksOf(code, dimension); };
    for (const Code code : {codeI8, codeI16}) {
        // Where a wider code takes no more memory, it is the better one.
        if (code == codeI8 && bytes(codeI16) == bytes(codeI8)) continue;
        Codec codec = codecOf(sample, count, code);
        if (recallOf(sample, count, queries, codec).isEnough(codec)) return codec;
    }
    return codecOf(sample, count, codeF32);
}

Codec binaryCodec(const Vectors& sample, uint32_t count) {
    const Codec& like = sample.codec();
    const uint32_t dimension = like.dimension();
    const Rotation rotation(dimension);
    std::vector<float> rows(static_cast<size_t>(count) * dimension);
    for (uint32_t row = 0; row < count; ++row) {
        float* turned = rows.data() + static_cast<size_t>(row) * dimension;
        std::copy(rowOf(sample, row), rowOf(sample, row) + dimension, turned);
        rotation.apply(turned);
    }
    std::vector<double> sums(dimension, 0.0);
    for (size_t i = 0; i < rows.size(); ++i) sums[i % dimension] += rows[i];
    std::vector<float> offset(dimension);
    for (uint32_t i = 0; i < dimension; ++i) offset[i] = static_cast<float>(sums[i] / std::max(1u, count));
    double distance = 0;
    for (size_t i = 0; i < rows.size(); ++i) distance += std::fabs(rows[i] - offset[i % dimension]);
    const double scale = distance / std::max(1.0, static_cast<double>(count) * dimension);
    return Codec(dimension, like.metric(), codeBinary, std::max(static_cast<float>(scale), 1e-30f), std::move(offset));
}

Codec nibbleCodec(const Vectors& sample, uint32_t count) {
    const Codec& like = sample.codec();
    const uint32_t dimension = like.dimension();
    // In a dot product an offset does not cancel.
    std::vector<float> offset = like.metric() == metricDot ? std::vector<float>() : middles(sample, count);
    std::vector<float> sizes;
    const uint32_t rows = std::min(count, nibbleRows);
    sizes.reserve(static_cast<size_t>(rows) * dimension);
    for (uint32_t i = 0; i < rows; ++i) {
        const float* row = rowOf(sample, spread(i, rows, count));
        for (uint32_t at = 0; at < dimension; ++at) sizes.push_back(std::fabs(row[at] - (offset.empty() ? 0.0f : offset[at])));
    }
    float best = 1e-30f;
    double least = std::numeric_limits<double>::infinity();
    for (const double part : nibbleParts) {
        const auto place = static_cast<std::ptrdiff_t>(part * static_cast<double>(sizes.size() - 1));
        std::nth_element(sizes.begin(), sizes.begin() + place, sizes.end());
        const float half = std::max(sizes[static_cast<size_t>(place)] / 15.0f, 1e-30f);
        double errors = 0;
        for (const float size : sizes) {
            // Levels are at odd numbers of halves.
            const float halves = size / half, level = std::min(2.0f * std::floor(halves * 0.5f) + 1.0f, 15.0f);
            errors += static_cast<double>(halves - level) * (halves - level) * half * half;
        }
        if (errors >= least) continue;
        least = errors;
        best = half;
    }
    return Codec(dimension, like.metric(), codeI4, best, std::move(offset));
}

Codec productCodec(const Vectors& sample, uint32_t count, Code code) {
    const Codec& like = sample.codec();
    const auto fitted = [&](bool rotated) {
        return Codec(like.dimension(), like.metric(), code, Product::fit(rowOf(sample, 0), like.paddedDimension(), count, like.dimension(), code, rotated));
    };
    // Where neighbouring components have to do with each other a rotation loses that; where few of them say most, it shares these out among the groups.
    Codec plain = fitted(false), rotated = fitted(true);
    return recallOf(sample, count, count, rotated).all > recallOf(sample, count, count, plain).all ? rotated : plain;
}

bool productIsEarly(const Product& product, uint32_t rows) {
    return product.fittedRows() < Product::trainingRows && rows / earlyTimes >= product.fittedRows();
}

bool resolves(const Codec& codec, const Vectors& sample, uint32_t count) {
    return codec.code() == codeF32 || recallOf(sample, count, count, codec).isEnough(codec);
}

bool calibrationIsStale(uint32_t clipped, uint32_t rows) { return clipped >= std::max(staleMin, rows / stalePart); }

void RecentRows::append(uint32_t first, const float* vectors, uint32_t count) {
    if (count_ == 0) first_ = first;
    vectors_.insert(vectors_.end(), vectors, vectors + static_cast<size_t>(count) * dimension_);
    count_ += count;
    if (count_ > most) drop(count_ - most);
}

void RecentRows::drop(uint32_t count) {
    vectors_.erase(vectors_.begin(), vectors_.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(count) * dimension_));
    first_ += count;
    count_ -= count;
    // The memory of a bulk load is not kept after it.
    if (vectors_.capacity() > 4 * (vectors_.size() + static_cast<size_t>(sampled) * dimension_)) vectors_.shrink_to_fit();
}

uint32_t RecentRows::sample(Vectors& sample) const {
    const uint32_t taken = std::min(count_, sampled);
    for (uint32_t i = 0; i < taken; ++i) sample.write(i, at(spread(i, taken, count_)), 1);
    return taken;
}

}  // namespace kith
