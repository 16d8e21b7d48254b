#include "rotation.h"
#include <cmath>

namespace kith {
namespace {

constexpr uint32_t rounds = 2;

/** SplitMix64: the same signs for ever, since they are part of what codes mean. */
uint64_t mixed(uint64_t state) {
    state += 0x9e3779b97f4a7c15u;
    state = (state ^ (state >> 30)) * 0xbf58476d1ce4e5b9u;
    state = (state ^ (state >> 27)) * 0x94d049bb133111ebu;
    return state ^ (state >> 31);
}

}  // namespace

Rotation::Rotation(uint32_t dimension) : dimension_(dimension), signs_(static_cast<size_t>(rounds) * dimension) {
    while (block_ * 2 <= dimension) block_ *= 2;
    scale_ = 1.0f / std::sqrt(static_cast<float>(block_));
    for (size_t i = 0; i < signs_.size(); ++i) signs_[i] = mixed(i) & 1 ? 1.0f : -1.0f;
}

void Rotation::transform(float* block) const {
    for (uint32_t half = 1; half < block_; half *= 2) {
        for (uint32_t from = 0; from < block_; from += 2 * half) {
            float* low = block + from;
            float* high = low + half;
            for (uint32_t i = 0; i < half; ++i) {
                const float sum = low[i] + high[i], difference = low[i] - high[i];
                low[i] = sum;
                high[i] = difference;
            }
        }
    }
    for (uint32_t i = 0; i < block_; ++i) block[i] *= scale_;
}

void Rotation::apply(float* vector) const {
    for (uint32_t round = 0; round < rounds; ++round) {
        const float* signs = signs_.data() + static_cast<size_t>(round) * dimension_;
        for (uint32_t i = 0; i < dimension_; ++i) vector[i] *= signs[i];
        transform(vector);
        if (block_ < dimension_) transform(vector + dimension_ - block_);
    }
}

void Rotation::applyInverse(float* vector) const {
    for (uint32_t round = rounds; round-- > 0;) {
        if (block_ < dimension_) transform(vector + dimension_ - block_);
        transform(vector);
        const float* signs = signs_.data() + static_cast<size_t>(round) * dimension_;
        for (uint32_t i = 0; i < dimension_; ++i) vector[i] *= signs[i];
    }
}

}  // namespace kith
