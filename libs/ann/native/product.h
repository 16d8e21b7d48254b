// Product quantization (Jégou, Douze and Schmid, 2011): the components of a row are taken in groups of 2, 4 or 8, and of each group the nearest of
// 16 centroids is written, in four bits. A query is written as tables: of each group, how far it is from each centroid, in one byte. What a row is
// from the query is then a sum over the tables, which a shuffle of bytes looks up for 16 rows at once (kernels_product.h).
//
// Rows are not compared with each other by these codes: they are linked by the vectors as they were given, which are always kept beside them. So links do not
// depend on centroids, and these may be fitted again whenever rows have come, or have come to differ from those that they were fitted to.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>
#include "kernels.h"
#include "rotation.h"

namespace kith {

class Product {
public:
    /** Rows that centroids are fitted to, at most: more say no more of 16 of them. */
    static constexpr uint32_t trainingRows = 4096;

    /** Numbers of a state for such rows. */
    static size_t stateNumbers(uint32_t dimension, Code code);
    /** `state`: as `state()` gave it, of a codec for rows of the same dimension. */
    Product(uint32_t dimension, Code code, std::vector<float> state);
    /**
     * Fits centroids to `count` rows of `dimension` numbers each, `stride` from one to the next: 16 means of every group (Lloyd), of the components as they are or
     * after a rotation. The same rows give the same centroids.
     */
    static Product fit(const float* rows, size_t stride, uint32_t count, uint32_t dimension, Code code, bool rotated);

    const std::vector<float>& state() const { return state_; }
    /** Rows that it was fitted to. */
    uint32_t fittedRows() const { return static_cast<uint32_t>(state_[fittedAt]); }

    /** Writes a row of `rowBytes`. Returns how many times what it leaves of the vector is what nearly all rows leave. */
    float encode(const float* vector, char* row, size_t rowBytes) const;
    /** Fills `dimension` numbers. */
    void decode(const char* row, float* out) const;
    /** Writes a query, aligned to 64 bytes, in `queryBytes()`. Returns how raw values become squared distances of the components, or products with the sign turned round. */
    Affine encodeQuery(const float* vector, Comparison comparison, char* query) const;
    size_t queryBytes() const { return productQueryBytes(groups_); }

private:
    static constexpr size_t limitAt = 0, fittedAt = 1, rotatedAt = 2, headNumbers = 3;

    /** Of a group: for each of its components the 16 numbers of the centroids. */
    const float* centroids(size_t group) const { return state_.data() + headNumbers + group * width_ * productLevels; }
    /** Padded with zeros to whole groups, and rotated; in memory of the thread, until its next call. */
    const float* prepared(const float* vector) const;

    uint32_t dimension_;
    size_t width_, groups_;
    std::vector<float> state_;
    bool rotated_;
    Rotation rotation_;
};

}  // namespace kith
