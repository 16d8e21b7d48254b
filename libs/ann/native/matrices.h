// Matrices of vectors by slot: what late interaction compares. A query is a matrix as well; its distance to another one is the sum, over its rows, of the
// distance to the nearest row of the other (MaxSim: with similarities, the sum of the largest).
//
// Rows are only ever appended, those of one matrix next to each other, and matrices that were removed are left behind in a next build. A search takes the number
// of matrices and that of the last change when it is handed in, and sees exactly that state.
#pragma once
#include <atomic>
#include <memory>
#include <unordered_map>
#include <vector>
#include "codec.h"
#include "failure.h"
#include "fixed_encoding.h"
#include "files.h"
#include "region.h"
#include "search.h"

namespace kith {

/** Rows of one matrix, of a query too. */
constexpr uint32_t matrixRowsMax = 2048;
constexpr uint32_t noMatrix = 0xffffffffu;

struct MatrixOptions {
    uint32_t dimension = 0;
    Metric metric = metricCosine;
    Datatype datatype = datatypeF32;
    FixedEncoding::Shape encoding;
};

class Matrices {
public:
    Matrices(const MatrixOptions& options, const Kernels& kernels);

    struct Place {
        uint64_t first;
        uint32_t slot;
        uint32_t rows;
        /** The change that removed it; 0 while it is alive. */
        std::atomic<uint32_t> died;
        uint32_t reserved;
    };

    // The caller's thread only.
    /** `vectors`: all rows of all matrices, one behind the other. All or nothing. */
    Failure add(const uint32_t* slots, const uint32_t* rowCounts, uint32_t count, const float* vectors);
    void remove(const uint32_t* slots, size_t count);
    /** noMatrix where the slot has none that is alive. */
    uint32_t find(uint32_t slot) const;
    struct Stats {
        uint32_t count = 0, alive = 0;
        uint64_t rows = 0, aliveRows = 0;
        size_t bytes = 0;
    };
    Stats stats() const;
    uint32_t change() const { return change_; }
    uint32_t count() const { return count_.load(std::memory_order_acquire); }

    // Any thread, of matrices below a `count` of before.
    const Place& place(uint32_t at) const { return reinterpret_cast<const Place*>(places_.data())[at]; }
    bool alive(uint32_t at, uint32_t change) const {
        const uint32_t died = place(at).died.load(std::memory_order_acquire);
        return died == 0 || died > change;
    }
    const char* row(uint64_t row) const { return codes_.data() + row * codec_.rowBytes(); }
    /** What a step of an i8 row is worth. (Its squared length, which lies beside it in files as well, is not needed any more.) */
    float scaleOf(uint64_t row) const { return reinterpret_cast<const float*>(scales_.data())[2 * row]; }
    /** The row as it is kept, into `out` (codec().paddedDimension() numbers); returns where it is. */
    const float* decode(uint64_t row, float* out) const;
    const Codec& codec() const { return codec_; }
    const Kernels& kernels() const { return *kernels_; }
    const FixedEncoding* encoding() const { return encoding_.get(); }

    /** The matrices that were alive at that change. */
    Failure save(const std::string& path, uint32_t count, uint32_t change, const FileKey& key, const volatile uint8_t* cancel, FileSum& sum) const;
    Failure load(const std::string& path, const FileSum& sum, const FileKey& key, const volatile uint8_t* cancel);

private:
    Place& placeAt(uint32_t at) { return reinterpret_cast<Place*>(places_.data())[at]; }
    void reserve(uint64_t rows, uint64_t count);
    void write(uint64_t row, const float* vector);

    const Codec codec_;
    const Kernels* kernels_;
    std::unique_ptr<FixedEncoding> encoding_;
    Region codes_, scales_, places_;
    std::atomic<uint32_t> count_{0};
    uint64_t rows_ = 0, aliveRows_ = 0;
    /** Of the last addition or removal. */
    uint32_t change_ = 0;
    std::unordered_map<uint32_t, uint32_t> alive_;
    std::vector<float> normalized_;
};

}  // namespace kith
