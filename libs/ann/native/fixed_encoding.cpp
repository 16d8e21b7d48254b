#include "fixed_encoding.h"
#include <algorithm>
#include <cmath>

namespace kith {
namespace {

constexpr uint64_t encodingSeed = 0x6b69746866646531u;

/** SplitMix64: good enough for directions, and the same everywhere. */
class Chance {
public:
    explicit Chance(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t value = (state_ += 0x9e3779b97f4a7c15u);
        value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
        value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
        return value ^ (value >> 31);
    }
    /** Close to normal: the sum of twelve even ones (Irwin, Hall), without functions that differ between machines. */
    float normal() {
        double sum = -6;
        for (int i = 0; i < 12; ++i) sum += static_cast<double>(next() >> 11) * 0x1p-53;
        return static_cast<float>(sum);
    }
    float sign() { return next() >> 63 ? 1.0f : -1.0f; }

private:
    uint64_t state_;
};

/** In a fixed order of additions, which the compiler may do sixteen at a time. */
float product(const float* a, const float* b, size_t count) {
    float sums[16] = {};
    size_t i = 0;
    for (; i + 16 <= count; i += 16)
        for (size_t lane = 0; lane < 16; ++lane) sums[lane] += a[i + lane] * b[i + lane];
    float sum = 0;
    for (; i < count; ++i) sum += a[i] * b[i];
    for (const float each : sums) sum += each;
    return sum;
}

uint32_t bitCount(uint32_t word) {
    uint32_t bits = 0;
    for (; word; word &= word - 1) ++bits;
    return bits;
}

}  // namespace

FixedEncoding::FixedEncoding(const Shape& shape, uint32_t dimension, size_t stride)
    : shape_(shape), dimension_(dimension), stride_(stride), width_(dimension + (shape.isL2 ? 1 : 0)) {
    Chance chance(encodingSeed);
    planes_.resize(size_t{shape.repetitions} * shape.planes * dimension);
    for (float& each : planes_) each = chance.normal();
    projections_.resize(size_t{shape.repetitions} * shape.projected * width_);
    const float unit = 1.0f / std::sqrt(static_cast<float>(shape.projected));
    for (float& each : projections_) each = chance.sign() * unit;
    // Where all components have a place there is nothing to project.
    if (shape.projected < width_) return;
    std::fill(projections_.begin(), projections_.end(), 0.0f);
    for (size_t r = 0; r < shape.repetitions; ++r)
        for (size_t i = 0; i < width_; ++i) projections_[(r * shape.projected + i) * width_ + i] = 1.0f;
}

void FixedEncoding::encode(const float* rows, uint32_t count, bool isQuery, float* out) const {
    std::vector<uint32_t> partOf(count), counts(parts());
    std::vector<float> sums(parts() * width_), squares(count);
    if (shape_.isL2)
        for (uint32_t row = 0; row < count; ++row) squares[row] = product(rows + row * stride_, rows + row * stride_, dimension_);
    const auto add = [&](float* to, uint32_t row) {
        const float* from = rows + row * stride_;
        const float factor = shape_.isL2 && isQuery ? 2.0f : 1.0f;
        for (uint32_t i = 0; i < dimension_; ++i) to[i] += factor * from[i];
        if (shape_.isL2) to[dimension_] += isQuery ? -1.0f : squares[row];
    };
    for (uint32_t r = 0; r < shape_.repetitions; ++r) {
        std::fill(counts.begin(), counts.end(), 0u);
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (uint32_t row = 0; row < count; ++row) {
            uint32_t part = 0;
            for (uint32_t p = 0; p < shape_.planes; ++p) {
                const float* plane = planes_.data() + (size_t{r} * shape_.planes + p) * dimension_;
                if (product(rows + row * stride_, plane, dimension_) > 0) part |= 1u << p;
            }
            partOf[row] = part;
            ++counts[part];
            add(sums.data() + part * width_, row);
        }
        for (uint32_t part = 0; part < parts(); ++part) {
            float* sum = sums.data() + part * width_;
            if (!isQuery && counts[part] > 0) {
                const float inverse = 1.0f / static_cast<float>(counts[part]);
                for (size_t i = 0; i < width_; ++i) sum[i] *= inverse;
            } else if (!isQuery) {
                uint32_t nearest = 0, least = 33;
                for (uint32_t row = 0; row < count; ++row) {
                    const uint32_t distance = bitCount(partOf[row] ^ part);
                    if (distance >= least) continue;
                    least = distance;
                    nearest = row;
                }
                add(sum, nearest);
            }
            float* to = out + (size_t{r} * parts() + part) * shape_.projected;
            for (uint32_t i = 0; i < shape_.projected; ++i)
                to[i] = product(sum, projections_.data() + (size_t{r} * shape_.projected + i) * width_, width_);
        }
    }
}

}  // namespace kith
