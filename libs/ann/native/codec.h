// How a vector of f32 becomes a stored row and back, and how raw kernel values become distances.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>
#include "kernels.h"
#include "product.h"
#include "rotation.h"

namespace kith {

enum Metric : uint8_t { metricCosine = 0, metricDot = 1, metricL2 = 2 };

/** What the caller wants a component to be kept as. i8 chooses the code that the data need (calibration.h). */
enum Datatype : uint8_t { datatypeF32 = 0, datatypeF16 = 1, datatypeBf16 = 2, datatypeI8 = 3, datatypeBinary = 4, datatypeI4 = 5, datatypePq16 = 6, datatypePq32 = 7, datatypePq64 = 8 };

/** Whether the codes depend on the data: rows are kept in f32 until there are enough to fit them to. */
constexpr bool isFitted(Datatype datatype) { return datatype >= datatypeI8; }
constexpr bool isProduct(Datatype datatype) { return datatype >= datatypePq16; }
/** Of those, which are always fitted to the data. */
constexpr Code productCode(Datatype datatype) { return datatype == datatypePq16 ? codeProduct16 : datatype == datatypePq32 ? codeProduct32 : codeProduct64; }

/** What is wrong with a vector. */
enum class VectorFault : uint8_t { none = 0, notFinite = 1, zero = 2, outOfRange = 3 };

/** The largest component of an f16 code. */
constexpr float f16Max = 65504.0f;
/** The longest query of l2 and dot: its distances to rows as long are below the largest f32 (3.4e38). Where a row is longer they saturate. */
constexpr double lengthMax = 9e18;

/** A query as it is compared with rows: by which kernel, and what its raw values mean. */
struct PreparedQuery {
    GatherKernel gather;
    Affine affine;
};

class Codec {
public:
    /** `scale` and `offset` (of `dimension` numbers, or none) are those of i8, i16, i4 (half a step) and binary codes (of rotated components). */
    Codec(uint32_t dimension, Metric metric, Code code, float scale = 1.0f, std::vector<float> offset = {});
    /** Of product codes. */
    Codec(uint32_t dimension, Metric metric, Code code, Product product);

    uint32_t dimension() const { return dimension_; }
    Metric metric() const { return metric_; }
    Code code() const { return code_; }
    size_t chunks() const { return chunks_; }
    size_t rowBytes() const { return chunks_ * chunkBytes; }
    /** Components of a row with its padding: what a decoded row has, and a query of f32. */
    size_t paddedDimension() const { return chunks_ * perChunk(code_); }
    /**
     * Rows of length 1 are as far apart as their cosine says: i4 codes are compared so, since an offset cancels there, and product codes, whose centroids are of other
     * lengths (recall@100 of the ten nearest of 11,678 sentences of 768 components, a scan of pq32: 0.993 by products, 0.998 by distances).
     */
    Comparison comparison() const {
        return metric_ == metricL2 || ((code_ == codeI4 || isProduct(code_)) && metric_ == metricCosine) ? comparisonL2 : comparisonDot;
    }
    float scale() const { return scale_; }
    /** By component, padded with zeros; empty where there is none. */
    const std::vector<float>& offset() const { return offset_; }

    /** Fills `out` (`paddedDimension` numbers) with the vector as it would best be stored: for cosine of length 1. */
    void normalize(const float* vector, float* out) const;
    /**
     * Writes one row (64-byte aligned, padding included) of a normalized vector. Returns how many times its largest component is
     * what the code can hold: above 1 it was clipped.
     */
    float encode(const float* normalized, char* row) const;
    size_t queryBytes() const { return product_ ? product_->queryBytes() : paddedDimension() * sizeof(float); }
    /** Writes a query (`queryBytes`) from a normalized vector. */
    PreparedQuery encodeQuery(const float* normalized, const Kernels& kernels, char* query) const;
    /** How raw values between two rows become distances. Not of product codes. */
    Affine rowAffine() const;
    /** Fills `out` with `paddedDimension` numbers. */
    void decode(const Kernels& kernels, const char* row, float* out) const;
    /** Of binary codes; null for others. */
    const Rotation* rotation() const { return rotation_.get(); }
    /** Of product codes; null for others. */
    const Product* product() const { return product_.get(); }

private:
    PreparedQuery encodeBytes(const float* normalized, const Kernels& kernels, char* query) const;
    PreparedQuery encodePlanes(const float* normalized, const Kernels& kernels, char* query) const;

    uint32_t dimension_;
    Metric metric_;
    Code code_;
    size_t chunks_;
    float scale_;
    std::vector<float> offset_;
    /** Shared by copies of the codec. */
    std::shared_ptr<const Rotation> rotation_;
    std::shared_ptr<const Product> product_;
};

/** In f64. */
double squaredLength(const float* vector, size_t count);

/** Whether a vector is finite, not zero for cosine, and in the range above. */
VectorFault checkVector(const float* vector, uint32_t dimension, Metric metric);

/**
 * The distance that leaves the index: in f64, of a query and a row as it was given or decoded, both of `count` numbers (a multiple
 * of 16). Beyond the largest f32 it saturates.
 */
float exactDistance(const Kernels& kernels, Metric metric, const float* query, const float* row, size_t count);

}  // namespace kith
