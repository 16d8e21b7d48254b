#include "matrices.h"
#include <algorithm>
#include <cmath>
#include <cstring>

namespace kith {
namespace {

constexpr float i8Steps = 127.0f;
constexpr size_t leastBytes = size_t{1} << 20;
constexpr const char* outOfMatrixMemory = "no memory for more matrices; free some, or give the process more";

Code codeOf(Datatype datatype) {
    switch (datatype) {
        case datatypeF16: return codeF16;
        case datatypeBf16: return codeBf16;
        case datatypeI8: return codeI8;
        default: return codeF32;
    }
}

/** A region that is reserved at its first use. */
void commit(Region& region, size_t bytes, size_t wish, bool hugePages) {
    if (!region.data() && !region.reserve(wish, leastBytes, hugePages))
        throw Refusal(Failure::resources, "no address space for matrices; lift the limit on virtual memory (ulimit -v)");
    if (!region.commit(bytes)) throw Refusal(Failure::resources, outOfMatrixMemory);
}

/** In a file: what is known of a matrix beside its rows. */
struct SavedPlace {
    uint32_t slot;
    uint32_t rows;
};

}  // namespace

Matrices::Matrices(const MatrixOptions& options, const Kernels& kernels)
    : codec_(options.dimension, options.metric, codeOf(options.datatype)), kernels_(&kernels), normalized_(codec_.paddedDimension()) {
    if (options.encoding.repetitions > 0)
        encoding_ = std::make_unique<FixedEncoding>(options.encoding, options.dimension, codec_.paddedDimension());
}

void Matrices::reserve(uint64_t rows, uint64_t count) {
    commit(codes_, rows * codec_.rowBytes(), reservationBytes(), true);
    if (codec_.code() == codeI8) commit(scales_, rows * 2 * sizeof(float), reservationBytes(), false);
    commit(places_, count * sizeof(Place), size_t{1} << 32, false);
}

void Matrices::write(uint64_t row, const float* vector) {
    char* to = codes_.data() + row * codec_.rowBytes();
    codec_.normalize(vector, normalized_.data());
    if (codec_.code() != codeI8) {
        // Beyond the largest half a component is clamped; routers refuse it.
        codec_.encode(normalized_.data(), to);
        return;
    }
    // Every row has a scale of its own: a matrix has rows of many lengths, and no row is clipped.
    float largest = 0;
    double squares = 0;
    for (size_t i = 0; i < codec_.paddedDimension(); ++i) largest = std::max(largest, std::fabs(normalized_[i]));
    const float scale = std::max(largest / i8Steps, 1e-37f);
    int8_t* codes = reinterpret_cast<int8_t*>(to);
    for (size_t i = 0; i < codec_.paddedDimension(); ++i) {
        const float steps = std::min(std::max(normalized_[i] / scale, -i8Steps), i8Steps);
        // Adding and taking away 1.5 · 2^23 rounds to the nearest whole number.
        codes[i] = static_cast<int8_t>((steps + 12582912.0f) - 12582912.0f);
        squares += static_cast<double>(codes[i]) * codes[i];
    }
    float* scales = reinterpret_cast<float*>(scales_.data()) + 2 * row;
    scales[0] = scale;
    scales[1] = static_cast<float>(squares * scale * scale);
}

Failure Matrices::add(const uint32_t* slots, const uint32_t* rowCounts, uint32_t count, const float* vectors) {
    const size_t dimension = codec_.dimension();
    uint64_t rows = 0;
    for (uint32_t i = 0; i < count; ++i) {
        if (rowCounts[i] == 0 || rowCounts[i] > matrixRowsMax) return {Failure::invalid, i, "a matrix has no row, or too many"};
        for (uint32_t row = 0; row < rowCounts[i]; ++row)
            if (checkVector(vectors + (rows + row) * dimension, codec_.dimension(), codec_.metric()) != VectorFault::none)
                return {Failure::invalid, i, "a row is not finite, zero or out of range"};
        rows += rowCounts[i];
    }
    const uint32_t before = count_.load(std::memory_order_relaxed);
    if (uint64_t{before} + count >= noMatrix) return {Failure::resources, 0, "there are too many matrices; split the shard"};
    reserve(rows_ + rows, uint64_t{before} + count);
    uint32_t placed = 0;
    const Failure failure = guarded([&]() -> Failure {
        alive_.reserve(alive_.size() + count);
        for (; placed < count; ++placed)
            if (!alive_.emplace(slots[placed], before + placed).second) return {Failure::duplicateSlot, placed, {}};
        return {};
    });
    if (failure) {
        for (uint32_t undone = 0; undone < placed; ++undone) alive_.erase(slots[undone]);
        return failure;
    }
    uint64_t first = rows_;
    const float* vector = vectors;
    for (uint32_t i = 0; i < count; ++i) {
        Place* place = new (&placeAt(before + i)) Place{first, slots[i], rowCounts[i], {0}, 0};
        for (uint32_t row = 0; row < place->rows; ++row, vector += dimension) write(first++, vector);
    }
    rows_ = first;
    aliveRows_ += rows;
    ++change_;
    count_.store(before + count, std::memory_order_release);
    return {};
}

void Matrices::remove(const uint32_t* slots, size_t count) {
    ++change_;
    for (size_t i = 0; i < count; ++i) {
        const auto found = alive_.find(slots[i]);
        if (found == alive_.end()) continue;
        Place& place = placeAt(found->second);
        // A search that was handed in at an earlier change still sees it.
        place.died.store(change_, std::memory_order_release);
        aliveRows_ -= place.rows;
        alive_.erase(found);
    }
}

uint32_t Matrices::find(uint32_t slot) const {
    const auto found = alive_.find(slot);
    return found == alive_.end() ? noMatrix : found->second;
}

Matrices::Stats Matrices::stats() const {
    Stats stats;
    stats.count = count();
    stats.alive = static_cast<uint32_t>(alive_.size());
    stats.rows = rows_;
    stats.aliveRows = aliveRows_;
    // The table from slots to matrices takes about 40 bytes an entry with libstdc++.
    stats.bytes = rows_ * (codec_.rowBytes() + (codec_.code() == codeI8 ? 2 * sizeof(float) : 0)) + stats.count * sizeof(Place) + alive_.size() * 40;
    return stats;
}

const float* Matrices::decode(uint64_t row, float* out) const {
    const char* code = this->row(row);
    if (codec_.code() == codeF32) return reinterpret_cast<const float*>(code);
    kernels_->decode[codec_.code()](code, codec_.chunks(), codec_.code() == codeI8 ? scaleOf(row) : 1.0f, nullptr, out);
    return out;
}

Failure Matrices::save(const std::string& path, uint32_t count, uint32_t change, const FileKey& key, const volatile uint8_t* cancel, FileSum& sum) const {
    FileWriter file(path, cancel, key.of(matricesFileNumber));
    std::vector<uint32_t> kept;
    for (uint32_t at = 0; at < count; ++at)
        if (alive(at, change)) kept.push_back(at);
    const uint64_t keptCount = kept.size();
    file.write(&keptCount, sizeof keptCount);
    for (const uint32_t at : kept) {
        const SavedPlace saved{place(at).slot, place(at).rows};
        file.write(&saved, sizeof saved);
    }
    for (const uint32_t at : kept) {
        file.writeAll(row(place(at).first), place(at).rows * codec_.rowBytes());
        if (codec_.code() == codeI8) file.write(scales_.data() + place(at).first * 2 * sizeof(float), place(at).rows * 2 * sizeof(float));
    }
    return file.finish(sum);
}

Failure Matrices::load(const std::string& path, const FileSum& sum, const FileKey& key, const volatile uint8_t* cancel) {
    FileReader file(path, sum, cancel, key.of(matricesFileNumber));
    if (file.failure()) return file.failure();
    // Nothing is believed before the checksum is right.
    if (const Failure& failure = file.verifyAhead()) return failure;
    const auto wrong = [&]() -> Failure { return file.failure() ? file.failure() : corrupt(path, "holds no matrices"); };
    uint64_t count = 0;
    if (!file.read(&count, sizeof count) || count >= noMatrix || count > sum.bytes / sizeof(SavedPlace)) return wrong();
    std::vector<SavedPlace> saved(count);
    if (count > 0 && !file.read(saved.data(), count * sizeof(SavedPlace))) return wrong();
    uint64_t rows = 0;
    for (const SavedPlace& each : saved) {
        if (each.rows == 0 || each.rows > matrixRowsMax) return wrong();
        rows += each.rows;
    }
    if (rows > sum.bytes / codec_.rowBytes()) return wrong();
    reserve(rows, count);
    for (uint32_t at = 0; at < count; ++at) {
        if (!alive_.emplace(saved[at].slot, at).second) return wrong();
        new (&placeAt(at)) Place{rows_, saved[at].slot, saved[at].rows, {0}, 0};
        if (!file.read(codes_.data() + rows_ * codec_.rowBytes(), saved[at].rows * codec_.rowBytes())) return wrong();
        if (codec_.code() == codeI8 && !file.read(scales_.data() + rows_ * 2 * sizeof(float), saved[at].rows * 2 * sizeof(float))) return wrong();
        rows_ += saved[at].rows;
    }
    aliveRows_ = rows_;
    change_ = 1;
    count_.store(static_cast<uint32_t>(count), std::memory_order_release);
    return {};
}

}  // namespace kith
