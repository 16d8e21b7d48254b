// How a vector of f32 becomes a stored row and back, and how raw kernel values become distances.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>
#include "kernels.h"

namespace kith {

enum Metric : uint8_t { metricCosine = 0, metricDot = 1, metricL2 = 2 };

/** What is wrong with a vector. */
enum class VectorFault : uint8_t { none = 0, notFinite = 1, zero = 2 };

/** distance = constant + factor · raw. */
struct Affine {
    float constant;
    float factor;
};

class Codec {
public:
    Codec(uint32_t dimension, Metric metric, Datatype datatype);

    uint32_t dimension() const { return dimension_; }
    size_t chunks() const { return chunks_; }
    size_t rowBytes() const { return chunks_ * chunkBytes; }
    Comparison comparison() const { return metric_ == metricL2 ? comparisonL2 : comparisonDot; }
    Datatype datatype() const { return datatype_; }

    VectorFault check(const float* vector) const;
    /** Writes one row (64-byte aligned, padding included). The vector has passed `check`. */
    void encodeRow(const float* vector, char* row) const;
    /** Writes a query in the row format and says how raw values against it become distances. */
    Affine encodeQuery(const float* vector, char* row) const;
    /** How raw values between two rows become distances. */
    Affine rowAffine() const;
    void decodeRow(const char* row, float* vector) const;

    /**
     * Fits the i8 scale (and, for l2, an offset per dimension, which costs nothing there because it cancels) to
     * `count` vectors: the offset and clipping point of least mean squared error. Vectors come as the caller gave
     * them; for cosine they are normalised first.
     */
    void calibrate(const float* vectors, size_t count);
    /** The largest value of |x − offset| that the present scale represents, or 0 when not calibrated. */
    float range() const { return scale_ * 127.0f; }
    /** Largest |x − offset| over the vector as it would be stored. */
    float reach(const float* vector) const;

    float scale() const { return scale_; }
    const std::vector<float>& offset() const { return offset_; }
    void restore(float scale, std::vector<float> offset) { scale_ = scale; offset_ = std::move(offset); }

private:
    double inverseNorm(const float* vector) const;
    void encodeI8(const float* vector, double factor, float inverseScale, bool offsets, char* row) const;

    uint32_t dimension_;
    Metric metric_;
    Datatype datatype_;
    size_t chunks_;
    float scale_ = 0;
    std::vector<float> offset_;
};

}  // namespace kith
