#include "codec.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace kith {
namespace {

uint32_t floatBits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

/** Round to nearest, ties to even; beyond the largest half (65504) the value is clamped. */
uint16_t toHalf(float value) {
    const uint32_t sign = (floatBits(value) >> 16) & 0x8000u;
    const float magnitude = std::fabs(value);
    if (magnitude >= f16Max) return static_cast<uint16_t>(sign | 0x7bffu);
    if (magnitude < 0x1p-14f) {
        // Subnormal: adding 0.5 leaves the value in units of 2^-24 in the low bits, rounded by the adder itself.
        return static_cast<uint16_t>(sign | (floatBits(magnitude + 0.5f) - floatBits(0.5f)));
    }
    const uint32_t bits = floatBits(magnitude);
    const uint32_t rounded = bits + 0xfffu + ((bits >> 13) & 1u) - (112u << 23);
    return static_cast<uint16_t>(sign | std::min(rounded >> 13, uint32_t{0x7bff}));
}
uint16_t toBf16(float value) {
    const uint32_t bits = floatBits(value);
    const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    // A finite number must not round up to infinity.
    return static_cast<uint16_t>((rounded & 0x7f800000u) == 0x7f800000u ? bits >> 16 : rounded >> 16);
}

/** Largest absolute value of a component; NaN and infinity count as more than any number. */
float largestOf(const float* vector, size_t count) {
    // As whole numbers, which the compiler compares many at a time.
    int32_t largest = 0;
    for (size_t i = 0; i < count; ++i) {
        int32_t bits;
        std::memcpy(&bits, vector + i, sizeof bits);
        largest = std::max(largest, bits & 0x7fffffff);
    }
    float value;
    std::memcpy(&value, &largest, sizeof value);
    return value;
}

/** Whole numbers of steps, at most `most` of either sign; the largest, as a part of that. */
template <class Whole> float encodeSteps(const float* vector, const float* offset, size_t count, float scale, float most, Whole* out) {
    const float inverse = 1.0f / scale;
    float largest = 0;
    for (size_t i = 0; i < count; ++i) {
        const float steps = (vector[i] - (offset ? offset[i] : 0.0f)) * inverse;
        largest = std::max(largest, std::fabs(steps));
        const float clipped = std::min(std::max(steps, -most), most);
        // Adding and taking away 1.5 · 2^23 rounds to the nearest whole number.
        out[i] = static_cast<Whole>(static_cast<int32_t>((clipped + 12582912.0f) - 12582912.0f));
    }
    return largest / (most + 0.5f);
}

/** In memory of the thread, until its next call. */
const float* rotated(const float* vector, const Rotation& rotation, uint32_t dimension) {
    static thread_local std::vector<float> turned;
    turned.assign(vector, vector + dimension);
    rotation.apply(turned.data());
    return turned.data();
}

/** The level that components beyond the dimension have in rows of i4, in quarters of a step: 0 is none of the levels. */
constexpr float paddingQuarters = 2.0f;

constexpr float stepsMax(Code code) { return code == codeI8 ? 127.0f : 32767.0f; }

}  // namespace

double squaredLength(const float* vector, size_t count) {
    constexpr size_t lanes = 8;
    double sums[lanes] = {};
    size_t i = 0;
    for (; i + lanes <= count; i += lanes)
        for (size_t lane = 0; lane < lanes; ++lane) sums[lane] += static_cast<double>(vector[i + lane]) * vector[i + lane];
    for (; i < count; ++i) sums[0] += static_cast<double>(vector[i]) * vector[i];
    double total = 0;
    for (double sum : sums) total += sum;
    return total;
}

VectorFault checkVector(const float* vector, uint32_t dimension, Metric metric) {
    const float largest = largestOf(vector, dimension);
    if (!(largest <= 3.4028234e38f)) return VectorFault::notFinite;
    if (metric == metricCosine) return largest == 0.0f ? VectorFault::zero : VectorFault::none;
    if (static_cast<double>(largest) * std::sqrt(static_cast<double>(dimension)) <= lengthMax) return VectorFault::none;
    return squaredLength(vector, dimension) <= lengthMax * lengthMax ? VectorFault::none : VectorFault::outOfRange;
}

Codec::Codec(uint32_t dimension, Metric metric, Code code, float scale, std::vector<float> offset)
    : dimension_(dimension), metric_(metric), code_(code), chunks_(chunksOf(code, dimension)),
      scale_(scale), offset_(std::move(offset)) {
    if (!offset_.empty()) offset_.resize(paddedDimension(), 0.0f);
    if (code_ == codeBinary) rotation_ = std::make_shared<const Rotation>(dimension_);
}

Codec::Codec(uint32_t dimension, Metric metric, Code code, Product product) : Codec(dimension, metric, code) {
    product_ = std::make_shared<const Product>(std::move(product));
}

void Codec::normalize(const float* vector, float* out) const {
    std::memset(out + dimension_, 0, (paddedDimension() - dimension_) * sizeof(float));
    if (metric_ != metricCosine) {
        std::memcpy(out, vector, dimension_ * sizeof(float));
        return;
    }
    const double factor = 1.0 / std::sqrt(squaredLength(vector, dimension_));
    for (uint32_t i = 0; i < dimension_; ++i) out[i] = static_cast<float>(vector[i] * factor);
}

float Codec::encode(const float* normalized, char* row) const {
    const size_t count = paddedDimension();
    const float* offset = offset_.empty() ? nullptr : offset_.data();
    uint16_t* halves = reinterpret_cast<uint16_t*>(row);
    if (product_) return product_->encode(normalized, row, rowBytes());
    switch (code_) {
        case codeF32: std::memcpy(row, normalized, count * sizeof(float)); return 0;
        case codeF16:
            for (size_t i = 0; i < count; ++i) halves[i] = toHalf(normalized[i]);
            return largestOf(normalized, count) / f16Max;
        case codeBf16:
            for (size_t i = 0; i < count; ++i) halves[i] = toBf16(normalized[i]);
            return 0;
        case codeBinary:
            std::memset(row, 0, rowBytes());
            normalized = rotated(normalized, *rotation_, dimension_);
            for (size_t i = 0; i < dimension_; ++i)
                if (normalized[i] > (offset ? offset[i] : 0.0f)) row[i >> 3] = static_cast<char>(row[i >> 3] | (1 << (i & 7)));
            return 0;
        case codeI4: {
            std::memset(row, 0, rowBytes());
            const float inverse = 1.0f / scale_;
            for (size_t i = 0; i < count; ++i) {
                const float halves = i < dimension_ ? (normalized[i] - (offset ? offset[i] : 0.0f)) * inverse : 0.0f;
                const auto level = static_cast<int>(std::min(std::max((halves + 15.0f) * 0.5f, 0.0f), 15.0f) + 0.5f);
                char& both = row[i / perChunk(codeI4) * chunkBytes + (i & 63)];
                both = static_cast<char>(both | (i & 64 ? level << 4 : level));
            }
            return 0;
        }
        case codeI8: return encodeSteps(normalized, offset, count, scale_, stepsMax(codeI8), reinterpret_cast<int8_t*>(row));
        default: return encodeSteps(normalized, offset, count, scale_, stepsMax(codeI16), reinterpret_cast<int16_t*>(row));
    }
}

void Codec::decode(const Kernels& kernels, const char* row, float* out) const {
    if (product_) {
        product_->decode(row, out);
        std::fill(out + dimension_, out + paddedDimension(), 0.0f);
        return;
    }
    kernels.decode[code_](row, chunks_, scale_, offset_.empty() ? nullptr : offset_.data(), out);
    if (code_ == codeBinary || code_ == codeI4) std::fill(out + dimension_, out + paddedDimension(), 0.0f);
    if (rotation_) rotation_->applyInverse(out);
}

Affine Codec::rowAffine() const {
    // Bits that differ, as the cosine distance of rows whose components are alike in size.
    if (code_ == codeBinary) return {0.0f, 2.0f / static_cast<float>(dimension_)};
    const float unit = scale_ * scale_;
    // Levels are written twice as fine for l2, and half the squared distance of rows of length 1 is that of their cosine.
    if (code_ == codeI4 && comparison() == comparisonL2) return {0.0f, unit / (metric_ == metricCosine ? 8.0f : 4.0f)};
    // The padding of two rows adds one each.
    if (code_ == codeI4) return {unit * static_cast<float>(paddedDimension() - dimension_), -unit};
    if (metric_ == metricL2) return {0.0f, unit};
    return {metric_ == metricCosine ? 1.0f : 0.0f, -unit};
}

/** A row is its offset and, for each component, `scale` up or down; the product with the query is that of both parts. */
PreparedQuery Codec::encodePlanes(const float* normalized, const Kernels& kernels, char* query) const {
    normalized = rotated(normalized, *rotation_, dimension_);
    const float most = std::max(largestOf(normalized, dimension_), 1e-30f);
    const float step = 2 * most / static_cast<float>(queryLevels);
    std::memset(query, 0, queryPlanes * rowBytes());
    double ofOffset = 0, sum = 0;
    for (uint32_t i = 0; i < dimension_; ++i) {
        const int64_t level = std::min<int64_t>(static_cast<int64_t>((normalized[i] + most) / step + 0.5f), queryLevels);
        char* planes = query + i / perChunk(codeBinary) * queryPlanes * chunkBytes + (i % perChunk(codeBinary)) / 8;
        for (size_t plane = 0; plane < queryPlanes; ++plane)
            if ((level >> plane) & 1) planes[plane * chunkBytes] = static_cast<char>(planes[plane * chunkBytes] | (1 << (i & 7)));
        sum += normalized[i];
        if (!offset_.empty()) ofOffset += static_cast<double>(normalized[i]) * offset_[i];
    }
    // Of the bits that are set the components count twice, less all of them once.
    const double constant = 1 - ofOffset + scale_ * sum;
    return {kernels.gatherF32[codeBinary][comparison()], {static_cast<float>(constant), -scale_ * step}};
}

PreparedQuery Codec::encodeBytes(const float* normalized, const Kernels& kernels, char* query) const {
    const GatherKernel gather = kernels.gatherF32[codeI4][comparison()];
    const size_t count = paddedDimension();
    if (comparison() == comparisonDot) {
        const float queryScale = std::max(largestOf(normalized, dimension_) / stepsMax(codeI8), 1e-37f);
        encodeSteps(normalized, nullptr, count, queryScale, stepsMax(codeI8), reinterpret_cast<int8_t*>(query));
        return {gather, {0.0f, -queryScale * scale_}};
    }
    auto* bytes = reinterpret_cast<uint8_t*>(query);
    const float inverse = 2.0f / scale_;
    for (size_t i = 0; i < count; ++i) {
        // Padding is of the level of the rows' padding.
        const float quarters = i < dimension_ ? (normalized[i] - (offset_.empty() ? 0.0f : offset_[i])) * inverse : paddingQuarters;
        const float clipped = std::min(std::max(quarters, -static_cast<float>(nibbleQueryMax)), static_cast<float>(nibbleQueryMax));
        bytes[i] = static_cast<uint8_t>(clipped + nibbleBias + 0.5f);
    }
    return {gather, rowAffine()};
}

PreparedQuery Codec::encodeQuery(const float* normalized, const Kernels& kernels, char* query) const {
    if (product_) {
        const Affine affine = product_->encodeQuery(normalized, comparison(), query);
        // Half the squared distance of rows of length 1 is that of their cosine.
        const float part = metric_ == metricCosine ? 0.5f : 1.0f;
        return {kernels.gatherF32[code_][comparison()], {affine.constant * part, affine.factor * part}};
    }
    if (code_ == codeI4) return encodeBytes(normalized, kernels, query);
    if (code_ == codeBinary) return encodePlanes(normalized, kernels, query);
    const size_t count = paddedDimension();
    const float constant = metric_ == metricCosine ? 1.0f : 0.0f;
    const GatherKernel same = kernels.gather[code_][comparison()];
    if (code_ == codeBf16 && metric_ != metricL2) {
        encode(normalized, query);
        return {same, {constant, -1.0f}};
    }
    if (code_ == codeI8 && metric_ != metricL2) {
        // A query need not share the rows' scale in a dot product: with its own it uses all 8 bits and is never clipped.
        const float queryScale = std::max(largestOf(normalized, count) / stepsMax(codeI8), 1e-37f);
        encodeSteps(normalized, nullptr, count, queryScale, stepsMax(codeI8), reinterpret_cast<int8_t*>(query));
        return {same, {constant, -queryScale * scale_}};
    }
    // A query that the rows' steps cannot hold is compared as it is.
    if (code_ == codeI8 && encode(normalized, query) <= 1) return {same, rowAffine()};
    float* numbers = reinterpret_cast<float*>(query);
    if (metric_ == metricL2) {
        const float inverse = 1.0f / scale_;
        for (size_t i = 0; i < count; ++i) numbers[i] = (normalized[i] - (offset_.empty() ? 0.0f : offset_[i])) * inverse;
        return {kernels.gatherF32[code_][comparisonL2], rowAffine()};
    }
    std::memcpy(query, normalized, count * sizeof(float));
    return {kernels.gatherF32[code_][comparisonDot], {constant, -scale_}};
}

float exactDistance(const Kernels& kernels, Metric metric, const float* query, const float* row, size_t count) {
    ExactSums sums;
    kernels.exact(query, row, count, &sums);
    constexpr double most = std::numeric_limits<float>::max();
    if (metric == metricL2) return static_cast<float>(std::min(sums.l2, most));
    if (metric == metricDot) return static_cast<float>(std::min(std::max(-sums.dot, -most), most));
    // A row whose every number was rounded away has no direction.
    const double lengths = std::sqrt(sums.squaresA) * std::sqrt(sums.squaresB);
    return static_cast<float>(1.0 - (lengths > 0 ? std::min(std::max(sums.dot / lengths, -1.0), 1.0) : 0.0));
}

}  // namespace kith
