#include "codec.h"
#include <algorithm>
#include <cmath>
#include <cstring>

namespace kith {
namespace {

const size_t elementBytes[datatypeCount] = {4, 2, 2, 1};

uint32_t floatBits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
float bitsFloat(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

/** Round to nearest, ties to even; beyond the largest half (65504) the value is clamped. */
uint16_t toHalf(float value) {
    const uint32_t sign = (floatBits(value) >> 16) & 0x8000u;
    const float magnitude = std::fabs(value);
    if (magnitude >= 65504.0f) return static_cast<uint16_t>(sign | 0x7bffu);
    if (magnitude < 0x1p-14f) {
        // Subnormal: adding 0.5 leaves the value in units of 2^-24 in the low bits, rounded by the adder itself.
        return static_cast<uint16_t>(sign | (floatBits(magnitude + 0.5f) - floatBits(0.5f)));
    }
    const uint32_t bits = floatBits(magnitude);
    const uint32_t rounded = bits + 0xfffu + ((bits >> 13) & 1u) - (112u << 23);
    return static_cast<uint16_t>(sign | std::min(rounded >> 13, uint32_t{0x7bff}));
}
float fromHalf(uint16_t half) {
    const float magnitude = bitsFloat(static_cast<uint32_t>(half & 0x7fff) << 13) * 0x1p112f;
    return (half & 0x8000) ? -magnitude : magnitude;
}
uint16_t toBf16(float value) {
    const uint32_t bits = floatBits(value);
    const uint32_t rounded = bits + 0x7fffu + ((bits >> 16) & 1u);
    // A finite number must not round up to infinity.
    return static_cast<uint16_t>((rounded & 0x7f800000u) == 0x7f800000u ? bits >> 16 : rounded >> 16);
}

}  // namespace

Codec::Codec(uint32_t dimension, Metric metric, Datatype datatype)
    : dimension_(dimension), metric_(metric), datatype_(datatype),
      chunks_((dimension * elementBytes[datatype] + chunkBytes - 1) / chunkBytes) {}

VectorFault Codec::check(const float* vector) const {
    // x − x is 0 for finite numbers and NaN for all others, so one sum finds a bad element without branches.
    float fault = 0;
    bool nonZero = false;
    for (uint32_t i = 0; i < dimension_; ++i) {
        fault += vector[i] - vector[i];
        nonZero |= vector[i] != 0.0f;
    }
    if (!(fault == 0.0f)) return VectorFault::notFinite;
    return metric_ == metricCosine && !nonZero ? VectorFault::zero : VectorFault::none;
}

double Codec::inverseNorm(const float* vector) const {
    if (metric_ != metricCosine) return 1.0;
    double sum = 0;
    for (uint32_t i = 0; i < dimension_; ++i) sum += static_cast<double>(vector[i]) * vector[i];
    return 1.0 / std::sqrt(sum);
}

void Codec::encodeI8(const float* vector, double factor, float inverseScale, bool offsets, char* row) const {
    for (uint32_t i = 0; i < dimension_; ++i) {
        float value = static_cast<float>(vector[i] * factor);
        if (offsets) value -= offset_[i];
        row[i] = static_cast<char>(static_cast<int8_t>(std::lrintf(std::clamp(value * inverseScale, -127.0f, 127.0f))));
    }
}

void Codec::encodeRow(const float* vector, char* row) const {
    const double factor = inverseNorm(vector);
    const size_t used = dimension_ * elementBytes[datatype_];
    std::memset(row + used, 0, rowBytes() - used);
    if (datatype_ == datatypeF32) {
        if (metric_ != metricCosine) {
            std::memcpy(row, vector, used);
            return;
        }
        float* out = reinterpret_cast<float*>(row);
        for (uint32_t i = 0; i < dimension_; ++i) out[i] = static_cast<float>(vector[i] * factor);
    } else if (datatype_ == datatypeI8) {
        encodeI8(vector, factor, scale_ > 0 ? 1.0f / scale_ : 0.0f, !offset_.empty(), row);
    } else {
        uint16_t* out = reinterpret_cast<uint16_t*>(row);
        for (uint32_t i = 0; i < dimension_; ++i) {
            const float value = static_cast<float>(vector[i] * factor);
            out[i] = datatype_ == datatypeF16 ? toHalf(value) : toBf16(value);
        }
    }
}

Affine Codec::rowAffine() const {
    const float unit = datatype_ == datatypeI8 ? scale_ * scale_ : 1.0f;
    if (metric_ == metricL2) return {0.0f, unit};
    return {metric_ == metricCosine ? 1.0f : 0.0f, -unit};
}

Affine Codec::encodeQuery(const float* vector, char* row) const {
    if (datatype_ != datatypeI8 || metric_ == metricL2) {
        encodeRow(vector, row);
        return rowAffine();
    }
    // A query need not share the rows' scale in a dot product: with its own it uses all 8 bits and is never clamped.
    const double factor = inverseNorm(vector);
    float largest = 0;
    for (uint32_t i = 0; i < dimension_; ++i) largest = std::max(largest, std::fabs(static_cast<float>(vector[i] * factor)));
    const float queryScale = largest / 127.0f;
    std::memset(row + dimension_, 0, rowBytes() - dimension_);
    encodeI8(vector, factor, queryScale > 0 ? 1.0f / queryScale : 0.0f, false, row);
    return {metric_ == metricCosine ? 1.0f : 0.0f, -queryScale * scale_};
}

void Codec::decodeRow(const char* row, float* vector) const {
    for (uint32_t i = 0; i < dimension_; ++i) {
        switch (datatype_) {
            case datatypeF32: vector[i] = reinterpret_cast<const float*>(row)[i]; break;
            case datatypeF16: vector[i] = fromHalf(reinterpret_cast<const uint16_t*>(row)[i]); break;
            case datatypeBf16: vector[i] = bitsFloat(static_cast<uint32_t>(reinterpret_cast<const uint16_t*>(row)[i]) << 16); break;
            default: vector[i] = static_cast<float>(static_cast<int8_t>(row[i])) * scale_ + (offset_.empty() ? 0.0f : offset_[i]);
        }
    }
}

float Codec::reach(const float* vector) const {
    const double factor = inverseNorm(vector);
    float largest = 0;
    for (uint32_t i = 0; i < dimension_; ++i) {
        const float value = static_cast<float>(vector[i] * factor) - (offset_.empty() ? 0.0f : offset_[i]);
        largest = std::max(largest, std::fabs(value));
    }
    return largest;
}

namespace {

/** The clipping point of least mean squared error for values |x| in `values`, and that error. */
std::pair<float, double> bestClip(const std::vector<float>& values) {
    const float largest = *std::max_element(values.begin(), values.end());
    if (!(largest > 0)) return {0.0f, 0.0};
    constexpr size_t bins = 4096;
    std::vector<uint32_t> histogram(bins, 0);
    // The smaller one is taken before it becomes a whole number: beside numbers near the largest float, values may be infinite.
    for (float value : values) ++histogram[static_cast<size_t>(std::min(bins - 1.0f, value / largest * bins))];
    std::pair<float, double> best{largest, 0};
    bool first = true;
    for (int percent = 100; percent >= 30; percent -= 2) {
        const double clip = largest * percent / 100.0, step = clip / 127.0, rounding = step * step / 12.0;
        double error = 0;
        for (size_t bin = 0; bin < bins; ++bin) {
            if (!histogram[bin]) continue;
            const double excess = (static_cast<double>(bin) + 0.5) * largest / bins - clip;
            error += histogram[bin] * (excess > 0 ? excess * excess + rounding : rounding);
        }
        if (first || error < best.second) best = {static_cast<float>(clip), error};
        first = false;
    }
    return best;
}

}  // namespace

void Codec::calibrate(const float* vectors, size_t count) {
    // A few thousand vectors are enough to place one number; more would only hold up the caller.
    const size_t sample = std::min<size_t>(count, std::max<size_t>(256, (size_t{1} << 19) / dimension_));
    const size_t step = std::max<size_t>(1, count / std::max<size_t>(1, sample));
    std::vector<float> rows;
    rows.reserve(sample * dimension_);
    for (size_t r = 0; r < count && rows.size() < sample * dimension_; r += step) {
        const float* vector = vectors + r * dimension_;
        const double factor = inverseNorm(vector);
        for (uint32_t i = 0; i < dimension_; ++i) rows.push_back(static_cast<float>(vector[i] * factor));
    }
    const size_t rowCount = rows.size() / dimension_;
    std::vector<std::vector<float>> candidates;
    if (metric_ == metricL2) {
        std::vector<float> mean(dimension_), middle(dimension_);
        for (uint32_t i = 0; i < dimension_; ++i) {
            double sum = 0;
            float low = rows[i], high = rows[i];
            for (size_t r = 0; r < rowCount; ++r) {
                const float value = rows[r * dimension_ + i];
                sum += value;
                low = std::min(low, value);
                high = std::max(high, value);
            }
            mean[i] = static_cast<float>(sum / static_cast<double>(rowCount));
            middle[i] = low + (high - low) / 2;
        }
        candidates = {std::move(mean), std::move(middle)};
    } else {
        candidates = {{}};
    }
    float clip = 0;
    double least = -1;
    std::vector<float> values(rows.size());
    for (std::vector<float>& offset : candidates) {
        for (size_t i = 0; i < rows.size(); ++i)
            values[i] = std::fabs(rows[i] - (offset.empty() ? 0.0f : offset[i % dimension_]));
        const auto [bestPoint, error] = bestClip(values);
        if (least < 0 || error < least) {
            least = error;
            clip = bestPoint;
            offset_ = std::move(offset);
        }
    }
    // All values equal: any positive scale represents them.
    scale_ = clip > 0 ? clip / 127.0f : 1.0f / 127.0f;
}

}  // namespace kith
