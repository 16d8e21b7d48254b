#include "vectors.h"
#include <algorithm>
#include <cstring>
#include "failure.h"
#include "rows.h"

namespace kith {
namespace {

/** A row whose largest component is so many times what the code holds is clipped by far. */
constexpr float farExcess = 1.5f;

}  // namespace

bool ClippedRows::reserve(uint32_t more) {
    if (more == 0) return true;
    constexpr size_t least = size_t{1} << 20;
    if (!rows_.data() && (!rows_.reserve(static_cast<size_t>(rowsMax) * sizeof(uint32_t), least, false) ||
                          !vectors_.reserve(reservationBytes(), least, false)))
        return false;
    const size_t total = static_cast<size_t>(count()) + more;
    return rows_.commit(total * sizeof(uint32_t)) && vectors_.commit(total * dimension_ * sizeof(float));
}

void ClippedRows::append(uint32_t row, const float* vector, float excess) {
    const uint32_t at = count_.load(std::memory_order_relaxed);
    reinterpret_cast<uint32_t*>(rows_.data())[at] = row;
    std::memcpy(vectors_.data() + at * dimension_ * sizeof(float), vector, dimension_ * sizeof(float));
    count_.store(at + 1, std::memory_order_release);
    if (excess < farExcess) return;
    const uint32_t far = farCount_.load(std::memory_order_relaxed);
    if (far < farMax) far_[far].store(at, std::memory_order_relaxed);
    farCount_.store(far + 1, std::memory_order_release);
}

uint32_t ClippedRows::farCount() const {
    const uint32_t far = farCount_.load(std::memory_order_acquire);
    return far <= farMax ? far : 0;
}

uint32_t ClippedRows::countBelow(uint32_t row) const {
    const uint32_t all = count();
    if (all == 0) return 0;
    const uint32_t* rows = reinterpret_cast<const uint32_t*>(rows_.data());
    return static_cast<uint32_t>(std::lower_bound(rows, rows + all, row) - rows);
}

const float* ClippedRows::find(uint32_t row) const {
    const uint32_t all = count(), at = countBelow(row);
    return at < all && rowAt(at) == row ? vectorAt(at) : nullptr;
}

Vectors::Vectors(const Kernels& kernels, Codec codec, uint32_t generation, std::string folder)
    : kernels_(&kernels), codec_(std::move(codec)), generation_(generation), folder_(std::move(folder)), clipped_(codec_.paddedDimension()),
      normalized_(codec_.paddedDimension()) {}

void Vectors::reserve(uint32_t total) {
    if (!arena_.data()) {
        const size_t wish = std::min(static_cast<size_t>(rowsMax) * codec_.rowBytes(), reservationBytes());
        if (!folder_.empty()) {
            // The disk is larger than the memory.
            const size_t most = std::min(static_cast<size_t>(rowsMax) * codec_.rowBytes(), 16 * reservationBytes());
            if (!arena_.reserveInFile(most, size_t{64} << 20, folder_))
                throw Refusal(Failure::resources, "no file for the vectors as they were given can be made in " + folder_);
        } else if (!arena_.reserve(wish, size_t{64} << 20, true))
            throw Refusal(Failure::resources, "no address space for the vectors; lift the limit on virtual memory (ulimit -v)");
    }
    if (arena_.commit(static_cast<size_t>(total) * codec_.rowBytes())) return;
    if (arena_.isInFile()) throw Refusal(Failure::resources, "no room on the disk for the vectors as they were given, in " + folder_);
    throw Refusal(Failure::resources, outOfRowMemory);
}

void Vectors::write(uint32_t first, const float* vectors, uint32_t count) {
    const size_t dimension = codec_.dimension();
    clippedNow_.clear();
    if (codec_.code() == codeF32) {
        for (uint32_t i = 0; i < count; ++i) codec_.normalize(vectors + i * dimension, reinterpret_cast<float*>(rowForWriting(first + i)));
        return;
    }
    for (uint32_t i = 0; i < count; ++i) {
        codec_.normalize(vectors + i * dimension, normalized_.data());
        const float excess = codec_.encode(normalized_.data(), rowForWriting(first + i));
        if (excess > 1) clippedNow_.push_back({i, excess});
    }
    if (clippedNow_.empty()) return;
    if (!clipped_.reserve(static_cast<uint32_t>(clippedNow_.size()))) throw Refusal(Failure::resources, outOfRowMemory);
    for (const auto& [i, excess] : clippedNow_) {
        codec_.normalize(vectors + i * dimension, normalized_.data());
        clipped_.append(first + i, normalized_.data(), excess);
    }
}

void Vectors::writeNormalized(uint32_t row, const float* normalized) {
    const float excess = codec_.encode(normalized, rowForWriting(row));
    if (!(excess > 1)) return;
    if (!clipped_.reserve(1)) throw Refusal(Failure::resources, outOfRowMemory);
    clipped_.append(row, normalized, excess);
}

bool Vectors::restoreClipped(const std::vector<uint32_t>& rows, const std::vector<float>& vectors) {
    if (!clipped_.reserve(static_cast<uint32_t>(rows.size()))) return false;
    std::vector<float> padded(codec_.paddedDimension(), 0.0f);
    std::vector<char> code(codec_.rowBytes() + chunkBytes);
    for (size_t i = 0; i < rows.size(); ++i) {
        std::memcpy(padded.data(), vectors.data() + i * codec_.dimension(), codec_.dimension() * sizeof(float));
        clipped_.append(rows[i], padded.data(), codec_.encode(padded.data(), code.data()));
    }
    return true;
}

const float* Vectors::decode(uint32_t row, float* out) const {
    if (codec_.code() == codeF32) return reinterpret_cast<const float*>(this->row(row));
    if (clipped_.count() > 0)
        if (const float* given = clipped_.find(row)) return given;
    codec_.decode(*kernels_, this->row(row), out);
    return out;
}

}  // namespace kith
