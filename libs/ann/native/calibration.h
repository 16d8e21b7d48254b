// Which code an i8 index writes its rows with, and with what scale.
//
// Rows are kept in f32 until the graph begins (a scan of so few is exact and costs little). Then a codec is fitted to a sample of
// them: an offset for each component where that cancels (l2), and one scale for all components, since the kernels add up whole
// numbers. The scale holds 99.5 % of the rows. Those that it does not hold are kept as they were given, too, so that no score comes
// from a clipped row; once they are more than a fiftieth of the rows, the data have changed, and a new generation of rows is
// written with a codec that is fitted again.
//
// Eight bits are not always enough: where one component is hundreds of times larger than the others, or half of the rows eight
// times longer, the step that holds the large is too coarse for the small. So the recall that the codes would give is measured on
// the sample, and the narrowest code is taken that gives 0.945, and 0.92 for those queries whose neighbours are nearest: i8, i16
// (with room for rows four times longer), or f32. Later rows may be too fine for the codes without being clipped. So new rows are
// kept as they were given until the writer has measured them; where the codes do not do, none of them is lost to those.
//
// recall@10 of an exact scan, 10,000 rows of 64 gaussian components, l2: stationary 0.98 (i8); one early row 1000 times longer 0.98
// (i8); one component of 3000 0.98 (i8); one component 300 times larger in all rows 0.97 (i16); later rows 8 times longer 0.98
// (i16); later rows shifted by 10 0.95 (i8).
#pragma once
#include <cstdint>
#include <vector>
#include "codec.h"
#include "vectors.h"

namespace kith {

/** Rows below which a codec cannot be fitted well enough. */
constexpr uint32_t calibrationRows = 256;

/** How many rows a sample should have, of so many components. */
uint32_t sampleRows(uint32_t dimension);

/**
 * The codec for rows like those of the sample, whose vectors are normalized f32. Recall is measured for its first `queries` rows,
 * which are as they were given; others may have been rounded by an earlier code. Throws where there is no memory.
 */
Codec calibrate(const Vectors& sample, uint32_t count, uint32_t queries);

/**
 * The binary codec for rows like those of the sample: the offset of each rotated component is its mean, and the scale how far components are from it on the
 * average. It is fitted once: rows are found by it roughly, and put in order by what was given.
 */
Codec binaryCodec(const Vectors& sample, uint32_t count);

/**
 * The i4 codec for rows like those of the sample: offsets as those of i8, and the step with which the squares of what is rounded off and clipped add up to the
 * least. It is fitted once, as the binary one is.
 */
Codec nibbleCodec(const Vectors& sample, uint32_t count);

/**
 * The codec of product codes for rows like those of the sample. It is fitted again while it was fitted to few rows and there are more, and where rows have come that
 * it leaves much of (`Product::encode`).
 */
Codec productCodec(const Vectors& sample, uint32_t count, Code code);

/** Whether there are so many more rows than product codes were fitted to that they are better fitted again. */
bool productIsEarly(const Product& product, uint32_t rows);

/** Whether the code resolves rows like the first `count` of the sample. */
bool resolves(const Codec& codec, const Vectors& sample, uint32_t count);

/** Whether so many rows that the codec clipped, of so many in all since it was fitted, ask for another one. */
bool calibrationIsStale(uint32_t clipped, uint32_t rows);

/** The newest rows, as they were given, until it is known that the code resolves them. One thread at a time. */
class RecentRows {
public:
    /** So many are measured at a time. Of fewer the neighbours are so far away that codes resolve them which do not resolve many. */
    static constexpr uint32_t least = 256, sampled = 512;

    explicit RecentRows(uint32_t dimension) : dimension_(dimension) {}
    uint32_t count() const { return count_; }
    uint32_t first() const { return first_; }
    const float* at(uint32_t i) const { return vectors_.data() + static_cast<size_t>(i) * dimension_; }
    /** Null for rows that are not among them. */
    const float* find(uint32_t row) const { return row >= first_ && row - first_ < count_ ? at(row - first_) : nullptr; }
    /** Takes rows from `first` on, which follow those that it has. Throws where there is no memory. */
    void append(uint32_t first, const float* vectors, uint32_t count);
    /** Forgets the oldest. */
    void drop(uint32_t count);
    /** Fills a sample with up to `sampled` of them. Returns how many. */
    uint32_t sample(Vectors& sample) const;

private:
    /** Where the writer does not come to measure them, no more than these are kept. */
    static constexpr uint32_t most = 1u << 16;
    uint32_t dimension_;
    std::vector<float> vectors_;
    uint32_t first_ = 0, count_ = 0;
};

}  // namespace kith
