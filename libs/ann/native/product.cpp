#include "product.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

namespace kith {
namespace {

/** Rounds of Lloyd's algorithm, and the rows that its first centroids are taken from. */
constexpr int rounds = 10;
constexpr uint32_t seedRows = 512;
/** What a row may leave, of what 99.5 % of the rows leave, that centroids were fitted to. */
constexpr float limitPart = 0.995f, limitRoom = 1.25f;
/** Rows that are so many times farther from the mean than this part of them have no say in the fit: centroids would go to these, and steps of tables be as coarse as they are far. */
constexpr double usualPart = 0.99, unusualTimes = 4;

using Levels = float[productLevels];

uint64_t mix(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
    return value ^ (value >> 31);
}

/** How far a group is from each centroid, squared. */
template <size_t width> inline void distances(const float* group, const float* centroids, float* out) {
    for (size_t level = 0; level < productLevels; ++level) {
        float sum = 0;
        for (size_t i = 0; i < width; ++i) {
            const float difference = group[i] - centroids[i * productLevels + level];
            sum += difference * difference;
        }
        out[level] = sum;
    }
}

template <size_t width> inline void products(const float* group, const float* centroids, float* out) {
    for (size_t level = 0; level < productLevels; ++level) {
        float sum = 0;
        for (size_t i = 0; i < width; ++i) sum -= group[i] * centroids[i * productLevels + level];
        out[level] = sum;
    }
}

/** Calls `action` with the width as a constant, so that loops over it are unrolled. */
template <class Action> void withWidth(size_t width, Action&& action) {
    if (width == 2) action(std::integral_constant<size_t, 2>());
    else if (width == 4) action(std::integral_constant<size_t, 4>());
    else action(std::integral_constant<size_t, 8>());
}

/** By halves, which the compiler takes several at a time. */
float leastOf(const Levels& values) {
    float least[productLevels / 2];
    for (size_t i = 0; i < 8; ++i) least[i] = std::min(values[i], values[i + 8]);
    for (size_t i = 0; i < 4; ++i) least[i] = std::min(least[i], least[i + 4]);
    return std::min(std::min(least[0], least[1]), std::min(least[2], least[3]));
}

size_t nearestOf(const Levels& values) {
    const float least = leastOf(values);
    // Where it is found is as good as random, and branches would be guessed wrong. The last place is taken where nothing is the least, as of what is no number.
    unsigned places = 1u << (productLevels - 1);
    for (size_t level = 0; level < productLevels; ++level) places |= static_cast<unsigned>(values[level] == least) << level;
    return static_cast<size_t>(__builtin_ctz(places));
}

/** Of `used` rows, spread evenly over all, those that are as far from their mean as most. */
std::vector<const float*> usualRows(const float* rows, size_t stride, uint32_t count, uint32_t used, uint32_t dimension) {
    std::vector<const float*> chosen(used);
    std::vector<double> mean(dimension, 0.0), distances(used, 0.0);
    for (uint32_t i = 0; i < used; ++i) {
        chosen[i] = rows + static_cast<uint64_t>(i) * count / used * stride;
        for (uint32_t at = 0; at < dimension; ++at) mean[at] += chosen[i][at];
    }
    for (double& each : mean) each /= used;
    for (uint32_t i = 0; i < used; ++i)
        for (uint32_t at = 0; at < dimension; ++at) distances[i] += (chosen[i][at] - mean[at]) * (chosen[i][at] - mean[at]);
    std::vector<double> sorted = distances;
    const auto place = sorted.begin() + static_cast<std::ptrdiff_t>(usualPart * (used - 1));
    std::nth_element(sorted.begin(), place, sorted.end());
    uint32_t kept = 0;
    for (uint32_t i = 0; i < used; ++i)
        if (distances[i] <= *place * unusualTimes * unusualTimes) chosen[kept++] = chosen[i];
    chosen.resize(kept);
    return chosen;
}

/** The first centroids of a group: rows, each with a chance that grows with its squared distance from those before (Arthur and Vassilvitskii, 2007). */
void seed(const float* rows, size_t stride, uint32_t count, size_t width, uint64_t chance, float* centroids) {
    std::vector<float> least(count, std::numeric_limits<float>::max());
    uint32_t chosen = static_cast<uint32_t>(mix(chance) % count);
    for (size_t level = 0; level < productLevels; ++level) {
        const float* from = rows + chosen * stride;
        for (size_t i = 0; i < width; ++i) centroids[i * productLevels + level] = from[i];
        double sum = 0;
        for (uint32_t row = 0; row < count; ++row) {
            float distance = 0;
            for (size_t i = 0; i < width; ++i) {
                const float difference = rows[row * stride + i] - from[i];
                distance += difference * difference;
            }
            least[row] = std::min(least[row], distance);
            sum += least[row];
        }
        const double wanted = static_cast<double>(mix(chance + level + 1) >> 11) * 0x1p-53 * sum;
        double passed = 0;
        chosen = 0;
        for (uint32_t row = 0; row < count && passed <= wanted; ++row) {
            passed += least[row];
            if (least[row] > 0) chosen = row;
        }
    }
}

/** Lloyd's algorithm over one group of the rows. */
template <size_t width> void fitGroup(const float* rows, size_t stride, uint32_t count, uint64_t chance, float* centroids) {
    seed(rows, stride, std::min(count, seedRows), width, chance, centroids);
    std::vector<double> sums(width * productLevels);
    uint32_t counts[productLevels];
    Levels values;
    for (int round = 0; round < rounds; ++round) {
        std::fill(sums.begin(), sums.end(), 0.0);
        std::fill(counts, counts + productLevels, 0u);
        for (uint32_t row = 0; row < count; ++row) {
            const float* group = rows + row * stride;
            distances<width>(group, centroids, values);
            const size_t level = nearestOf(values);
            ++counts[level];
            for (size_t i = 0; i < width; ++i) sums[i * productLevels + level] += group[i];
        }
        for (size_t level = 0; level < productLevels; ++level) {
            // One that no row is nearest to stays where it is.
            if (counts[level] == 0) continue;
            for (size_t i = 0; i < width; ++i)
                centroids[i * productLevels + level] = static_cast<float>(sums[i * productLevels + level] / counts[level]);
        }
    }
}

}  // namespace

size_t Product::stateNumbers(uint32_t dimension, Code code) {
    return headNumbers + productGroups(code, dimension) * productWidth(code) * productLevels;
}

Product::Product(uint32_t dimension, Code code, std::vector<float> state)
    : dimension_(dimension), width_(productWidth(code)), groups_(productGroups(code, dimension)), state_(std::move(state)), rotated_(state_[rotatedAt] != 0),
      rotation_(dimension) {}

Product Product::fit(const float* rows, size_t stride, uint32_t count, uint32_t dimension, Code code, bool rotated) {
    const size_t width = productWidth(code), padded = productGroups(code, dimension) * width;
    std::vector<float> state(stateNumbers(dimension, code));
    const Rotation rotation(dimension);
    const std::vector<const float*> usual = usualRows(rows, stride, count, std::min(count, trainingRows), dimension);
    const auto used = static_cast<uint32_t>(usual.size());
    std::vector<float> sample(padded * used, 0.0f);
    for (uint32_t i = 0; i < used; ++i) {
        float* to = sample.data() + i * padded;
        std::copy(usual[i], usual[i] + dimension, to);
        if (rotated) rotation.apply(to);
    }
    withWidth(width, [&](auto constant) {
        for (size_t group = 0; group < padded / width; ++group)
            fitGroup<constant()>(sample.data() + group * width, padded, used, group << 8, state.data() + headNumbers + group * width * productLevels);
    });
    state[rotatedAt] = rotated ? 1 : 0;
    state[fittedAt] = static_cast<float>(std::min(count, trainingRows));
    state[limitAt] = 1;
    Product product(dimension, code, std::move(state));
    std::vector<float> left(used);
    std::vector<char> row(productGroups(code, dimension) / 2 + 2 * chunkBytes);
    for (uint32_t i = 0; i < used; ++i) left[i] = product.encode(usual[i], row.data(), row.size());
    const auto place = left.begin() + static_cast<std::ptrdiff_t>(limitPart * static_cast<float>(used - 1));
    std::nth_element(left.begin(), place, left.end());
    // Where centroids leave nothing, what a row of other values leaves is far more than this.
    product.state_[limitAt] = std::max(*place * limitRoom, 1e-30f);
    return product;
}

const float* Product::prepared(const float* vector) const {
    static thread_local std::vector<float> padded;
    padded.assign(groups_ * width_, 0.0f);
    std::copy(vector, vector + dimension_, padded.begin());
    if (rotated_) rotation_.apply(padded.data());
    return padded.data();
}

float Product::encode(const float* vector, char* row, size_t rowBytes) const {
    const float* from = prepared(vector);
    std::memset(row, 0, rowBytes);
    double left = 0;
    withWidth(width_, [&](auto constant) {
        Levels values;
        for (size_t group = 0; group < groups_; ++group) {
            distances<constant()>(from + group * width_, centroids(group), values);
            const size_t level = nearestOf(values);
            left += values[level];
            row[group / 2] = static_cast<char>(row[group / 2] | static_cast<char>(group % 2 ? level << 4 : level));
        }
    });
    return static_cast<float>(std::sqrt(left)) / state_[limitAt];
}

void Product::decode(const char* row, float* out) const {
    static thread_local std::vector<float> padded;
    padded.resize(groups_ * width_);
    for (size_t group = 0; group < groups_; ++group) {
        const unsigned both = static_cast<unsigned char>(row[group / 2]), level = group % 2 ? both >> 4 : both & 15;
        for (size_t i = 0; i < width_; ++i) padded[group * width_ + i] = centroids(group)[i * productLevels + level];
    }
    if (rotated_) rotation_.applyInverse(padded.data());
    std::copy(padded.begin(), padded.begin() + dimension_, out);
}

Affine Product::encodeQuery(const float* vector, Comparison comparison, char* query) const {
    const float* from = prepared(vector);
    static thread_local std::vector<float> tables;
    tables.resize(groups_ * productLevels);
    withWidth(width_, [&](auto width) {
        for (size_t group = 0; group < groups_; ++group) {
            float* table = tables.data() + group * productLevels;
            if (comparison == comparisonL2) distances<width()>(from + group * width_, centroids(group), table);
            else products<width()>(from + group * width_, centroids(group), table);
        }
    });
    double constant = 0;
    Levels reaches = {};
    for (size_t group = 0; group < groups_; ++group) {
        Levels& table = *reinterpret_cast<Levels*>(tables.data() + group * productLevels);
        const float least = leastOf(table);
        constant += least;
        for (size_t level = 0; level < productLevels; ++level) {
            table[level] -= least;
            reaches[level] = std::max(reaches[level], table[level]);
        }
    }
    const float reach = *std::max_element(reaches, reaches + productLevels);
    const float step = std::max(reach / 255.0f, 1e-37f), inverse = 1.0f / step;
    std::memset(query, 0, queryBytes());
    const auto steps = static_cast<uint32_t>(productSteps(groups_));
    std::memcpy(query, &steps, sizeof steps);
    for (size_t group = 0; group < groups_; ++group) {
        char* to = query + productTableAt(group);
        const float* table = tables.data() + group * productLevels;
        uint8_t bytes[productLevels];
        for (size_t level = 0; level < productLevels; ++level) {
            const float steps = table[level] * inverse;
            // What is no number, where squares are beyond the largest one, is the farthest.
            bytes[level] = static_cast<uint8_t>(static_cast<int32_t>(steps < 255.0f ? steps + 0.5f : 255.0f));
        }
        std::memcpy(to, bytes, sizeof bytes);
    }
    return {static_cast<float>(constant), step};
}

}  // namespace kith
