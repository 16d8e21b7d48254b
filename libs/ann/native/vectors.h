// The vectors of the rows, all written by one codec: a generation. Rows are only ever appended. An i8 index writes its rows again
// with another codec when the data ask for it (calibration.h); searches under way go on with the generation that they began with.
#pragma once
#include <array>
#include <atomic>
#include <string>
#include <utility>
#include <vector>
#include "codec.h"
#include "region.h"

namespace kith {

/**
 * The rows that the codec had to clip, as they would best be stored: few, and appended in the order of the rows. Those that are
 * clipped by far, unless there are many of them, are listed once more: searches measure them all, since their codes say little.
 */
class ClippedRows {
public:
    static constexpr uint32_t farMax = 256;

    explicit ClippedRows(size_t dimension) : dimension_(dimension) {}
    uint32_t count() const { return count_.load(std::memory_order_acquire); }
    /** Room for so many more. False when there is no memory. */
    bool reserve(uint32_t more);
    /** `excess`: see Codec::encode. */
    void append(uint32_t row, const float* vector, float excess);
    /** How many there are in `far`. */
    uint32_t farCount() const;
    uint32_t farAt(uint32_t i) const { return far_[i].load(std::memory_order_relaxed); }
    /** Null for a row that was not clipped. */
    const float* find(uint32_t row) const;
    uint32_t rowAt(uint32_t i) const { return reinterpret_cast<const uint32_t*>(rows_.data())[i]; }
    const float* vectorAt(uint32_t i) const { return reinterpret_cast<const float*>(vectors_.data()) + i * dimension_; }
    /** How many of them are below a row. */
    uint32_t countBelow(uint32_t row) const;
    size_t bytes() const { return count() * (sizeof(uint32_t) + dimension_ * sizeof(float)); }

private:
    const size_t dimension_;
    Region rows_;
    Region vectors_;
    std::atomic<uint32_t> count_{0};
    /** Places among the clipped ones. */
    std::array<std::atomic<uint32_t>, farMax> far_{};
    std::atomic<uint32_t> farCount_{0};
};

/** Asks for a row that will be measured soon. Of long ones the kernels ask for the rest: those of a whole step would push each other out of the first cache. */
[[gnu::always_inline]] inline void prefetchRow(const char* row, size_t chunks) {
    constexpr size_t wholeMost = 16;
    const size_t lines = chunks <= wholeMost ? chunks : 2;
    for (size_t line = 0; line < lines; ++line) __builtin_prefetch(row + line * chunkBytes);
}

class Vectors {
public:
    /** `folder`: where the rows are kept in a file, and empty for memory. */
    Vectors(const Kernels& kernels, Codec codec, uint32_t generation, std::string folder = {});

    const Codec& codec() const { return codec_; }
    /** Counts up when the rows are written again. */
    uint32_t generation() const { return generation_; }
    const char* arena() const { return arena_.data(); }
    const char* row(uint32_t row) const { return arena_.data() + static_cast<size_t>(row) * codec_.rowBytes(); }
    char* rowForWriting(uint32_t row) { return arena_.data() + static_cast<size_t>(row) * codec_.rowBytes(); }
    const ClippedRows& clipped() const { return clipped_; }
    bool hugePages() const { return arena_.hugePages(); }
    /** Takes the first rows out of the memory of the process, where they are in a file: after what has gone through all of them. */
    void letGo(uint32_t rows) const { arena_.letGo(static_cast<size_t>(rows) * codec_.rowBytes()); }
    GatherKernel gather() const { return kernels_->gather[codec_.code()][codec_.comparison()]; }
    PairKernel pair() const { return kernels_->pair[codec_.code()][codec_.comparison()]; }
    const Kernels& kernels() const { return *kernels_; }

    // One thread at a time.
    /** Room for so many rows in all. Throws where there is no memory. */
    void reserve(uint32_t total);
    /** Writes the rows from `first` on, `count` vectors as the caller gave them. Throws where there is no memory for those that are clipped. */
    void write(uint32_t first, const float* vectors, uint32_t count);
    /** The same for one vector that is normalized already. */
    void writeNormalized(uint32_t row, const float* normalized);

    /** For loading: the rows that were clipped, and `dimension` numbers of each. False where there is no memory. */
    bool restoreClipped(const std::vector<uint32_t>& rows, const std::vector<float>& vectors);

    /** The row as it was given where it was clipped, else decoded, into `out` (`paddedDimension` numbers). Returns where it is. */
    const float* decode(uint32_t row, float* out) const;

private:
    const Kernels* kernels_;
    const Codec codec_;
    const uint32_t generation_;
    const std::string folder_;
    Region arena_;
    ClippedRows clipped_;
    std::vector<float> normalized_;
    std::vector<std::pair<uint32_t, float>> clippedNow_;
};

}  // namespace kith
