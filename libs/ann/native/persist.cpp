#include "persist.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include "crc32c.h"

namespace kith {
namespace {

constexpr size_t bufferBytes = size_t{1} << 20;

Failure ioFailure(const char* what, const std::string& path) {
    const int error = errno;
    Failure failure{Failure::io, static_cast<uint32_t>(error), std::string(what) + " " + path + ": " + std::strerror(error)};
    return failure;
}
Failure corrupt(const std::string& path, const std::string& what) { return {Failure::corrupt, 0, path + " " + what}; }

/** Writes a file under a temporary name and gives it its own name once it is on disk. */
class FileWriter {
public:
    FileWriter(std::string path, const volatile uint8_t* cancel) : path_(std::move(path)), temporary_(path_ + ".tmp"), cancel_(cancel) {
        descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (descriptor_ < 0) failure_ = ioFailure("cannot create", temporary_);
        buffer_.reserve(bufferBytes);
    }
    ~FileWriter() {
        if (descriptor_ >= 0) ::close(descriptor_);
        if (!finished_) ::unlink(temporary_.c_str());
    }
    bool write(const void* data, size_t bytes) {
        if (failure_) return false;
        const char* from = static_cast<const char*>(data);
        sum_.crc = crc32c(sum_.crc, from, bytes);
        sum_.bytes += bytes;
        if (buffer_.size() + bytes <= bufferBytes) {
            buffer_.insert(buffer_.end(), from, from + bytes);
            return true;
        }
        return flush() && put(from, bytes);
    }
    Failure finish(FileSum& sum) {
        if (!failure_ && flush()) {
            if (::fsync(descriptor_) != 0) failure_ = ioFailure("cannot sync", temporary_);
            else if (::close(descriptor_) != 0) { descriptor_ = -1; failure_ = ioFailure("cannot close", temporary_); }
            else {
                descriptor_ = -1;
                if (::rename(temporary_.c_str(), path_.c_str()) != 0) failure_ = ioFailure("cannot rename", temporary_);
                else finished_ = true;
            }
        }
        sum = sum_;
        return failure_;
    }

private:
    bool flush() {
        const bool written = put(buffer_.data(), buffer_.size());
        buffer_.clear();
        return written;
    }
    bool put(const char* from, size_t bytes) {
        while (bytes > 0) {
            if (cancel_ && *cancel_) {
                failure_ = {Failure::cancelled, 0, "the save was cancelled"};
                return false;
            }
            const ssize_t written = ::write(descriptor_, from, std::min<size_t>(bytes, size_t{8} << 20));
            if (written < 0) {
                if (errno == EINTR) continue;
                failure_ = ioFailure("cannot write", temporary_);
                return false;
            }
            from += written;
            bytes -= static_cast<size_t>(written);
        }
        return true;
    }

    std::string path_, temporary_;
    const volatile uint8_t* cancel_;
    int descriptor_ = -1;
    bool finished_ = false;
    std::vector<char> buffer_;
    FileSum sum_;
    Failure failure_;
};

class FileReader {
public:
    FileReader(std::string path, const FileSum& expected, const volatile uint8_t* cancel)
        : path_(std::move(path)), expected_(expected), cancel_(cancel) {
        descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
        if (descriptor_ < 0) {
            failure_ = errno == ENOENT ? corrupt(path_, "is missing") : ioFailure("cannot open", path_);
            return;
        }
        struct stat info;
        if (::fstat(descriptor_, &info) != 0) failure_ = ioFailure("cannot stat", path_);
        else if (static_cast<uint64_t>(info.st_size) != expected.bytes)
            failure_ = corrupt(path_, "has " + std::to_string(info.st_size) + " bytes instead of " + std::to_string(expected.bytes));
    }
    ~FileReader() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }
    const Failure& failure() const { return failure_; }
    bool read(void* to, size_t bytes) {
        char* at = static_cast<char*>(to);
        while (!failure_ && bytes > 0) {
            if (cancel_ && *cancel_) {
                failure_ = {Failure::cancelled, 0, "the load was cancelled"};
                break;
            }
            const ssize_t got = ::read(descriptor_, at, std::min<size_t>(bytes, size_t{4} << 20));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) failure_ = ioFailure("cannot read", path_);
            else if (got == 0) failure_ = corrupt(path_, "ends too early");
            else {
                crc_ = crc32c(crc_, at, static_cast<size_t>(got));
                at += got;
                bytes -= static_cast<size_t>(got);
            }
        }
        return !failure_;
    }
    /** After the last byte. */
    Failure verify() {
        if (!failure_ && crc_ != expected_.crc) failure_ = corrupt(path_, "does not match its checksum");
        return failure_;
    }
    /** Reads the whole file once for its checksum and goes back to the start. */
    Failure verifyAhead() {
        std::vector<char> buffer(bufferBytes);
        for (uint64_t left = expected_.bytes; left > 0 && !failure_;) {
            const size_t part = static_cast<size_t>(std::min<uint64_t>(left, bufferBytes));
            if (read(buffer.data(), part)) left -= part;
        }
        if (verify()) return failure_;
        crc_ = 0;
        if (::lseek(descriptor_, 0, SEEK_SET) != 0) failure_ = ioFailure("cannot rewind", path_);
        return failure_;
    }

private:
    std::string path_;
    FileSum expected_;
    const volatile uint8_t* cancel_;
    int descriptor_ = -1;
    uint32_t crc_ = 0;
    Failure failure_;
};

/** Feeds many small reads from few big ones. */
class BufferedReader {
public:
    BufferedReader(FileReader& reader, uint64_t bytes) : reader_(reader), left_(bytes), buffer_(bufferBytes) {}
    bool read(void* to, size_t bytes) {
        char* at = static_cast<char*>(to);
        while (bytes > 0) {
            if (position_ == filled_) {
                filled_ = static_cast<size_t>(std::min<uint64_t>(left_, bufferBytes));
                position_ = 0;
                if (filled_ == 0 || !reader_.read(buffer_.data(), filled_)) return false;
                left_ -= filled_;
            }
            const size_t part = std::min(bytes, filled_ - position_);
            std::memcpy(at, buffer_.data() + position_, part);
            at += part;
            position_ += part;
            bytes -= part;
        }
        return true;
    }
    bool atEnd() const { return left_ == 0 && position_ == filled_; }

private:
    FileReader& reader_;
    uint64_t left_;
    std::vector<char> buffer_;
    size_t position_ = 0, filled_ = 0;
};

uint32_t floatBits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

}  // namespace

std::string describe(const SavedIndex& saved) {
    char text[512];
    std::snprintf(text, sizeof text,
                  "{\"rowCount\":%u,\"aliveCount\":%u,\"graphRowCount\":%u,\"entryRow\":%u,\"checkedRowCount\":%u,\"mapped\":%s,\"calibrated\":%s,"
                  "\"offsets\":%s,\"scaleBits\":%u,\"rowsBytes\":%llu,\"rowsCrc\":%u,\"graphBytes\":%llu,\"graphCrc\":%u,"
                  "\"metaBytes\":%llu,\"metaCrc\":%u}",
                  saved.rowCount, saved.aliveCount, saved.graphRowCount, saved.entryRow, saved.checkedRowCount, saved.mapped ? "true" : "false",
                  saved.calibrated ? "true" : "false", saved.offsets ? "true" : "false", saved.scaleBits,
                  static_cast<unsigned long long>(saved.rows.bytes), saved.rows.crc,
                  static_cast<unsigned long long>(saved.graph.bytes), saved.graph.crc,
                  static_cast<unsigned long long>(saved.meta.bytes), saved.meta.crc);
    return text;
}

Snapshot::Snapshot(std::shared_ptr<Index> index) : index_(std::move(index)) {
    index_->pause();
    const Rows& rows = index_->rows();
    rowCount_ = rows.count();
    mapped_ = rows.mapped();
    calibrated_ = index_->calibrated();
    scale_ = index_->codec().scale();
    offset_ = index_->codec().offset();
    alive_ = rows.aliveSnapshot(rowCount_);
    if (!calibrated_) {
        sample_ = index_->sample();
        if (rowCount_ > 0) rowsCopy_.assign(rows.arena(), rows.arena() + rowCount_ * rows.rowBytes());
    }
}

Snapshot::~Snapshot() { resumeWriter(); }

void Snapshot::resumeWriter() {
    if (paused_) index_->resume();
    paused_ = false;
}

Failure Snapshot::write(const std::string& rowsPath, const std::string& graphPath, const std::string& metaPath,
                        const volatile uint8_t* cancel, SavedIndex& saved) {
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(rowsPath).parent_path(), error);
    if (error) {
        errno = error.value();
        return ioFailure("cannot create the folder of", rowsPath);
    }
    const Rows& rows = index_->rows();
    saved.rowCount = rowCount_;
    saved.mapped = mapped_;
    saved.calibrated = calibrated_;
    saved.offsets = !offset_.empty();
    saved.scaleBits = floatBits(scale_);
    for (uint64_t word : alive_) saved.aliveCount += static_cast<uint32_t>(__builtin_popcountll(word));

    FileWriter graph(graphPath, cancel);
    index_->whilePaused([&] {
        // The writer stands still since before the rows were counted, so the graph holds no row beyond them.
        saved.graphRowCount = index_->graphRows();
        saved.entryRow = static_cast<uint32_t>(index_->entry());
        saved.checkedRowCount = index_->checkedRows();
        // Fails where the file fails, which tells why. Released, because index_gt throws an error that nobody has taken.
        if (saved.graphRowCount > 0)
            index_->graph().save_to_stream([&](const void* data, size_t bytes) { return graph.write(data, bytes); }).error.release();
    });
    resumeWriter();
    Failure failure = graph.finish(saved.graph);
    if (failure) return failure;

    FileWriter vectors(rowsPath, cancel);
    const char* from = calibrated_ ? rows.arena() : rowsCopy_.data();
    const size_t bytes = static_cast<size_t>(rowCount_) * rows.rowBytes();
    for (size_t at = 0; at < bytes; at += bufferBytes)
        if (!vectors.write(from + at, std::min(bufferBytes, bytes - at))) break;
    failure = vectors.finish(saved.rows);
    if (failure) return failure;

    FileWriter meta(metaPath, cancel);
    meta.write(alive_.data(), alive_.size() * sizeof(uint64_t));
    if (mapped_) {
        for (uint32_t row = 0; row < rowCount_; ++row) {
            const uint32_t slot = rows.slotOf(row);
            if (!meta.write(&slot, sizeof slot)) break;
        }
    }
    meta.write(offset_.data(), offset_.size() * sizeof(float));
    if (!calibrated_) meta.write(sample_.data(), sample_.size() * sizeof(float));
    return meta.finish(saved.meta);
}

namespace {

Failure loadGraph(const std::string& path, const SavedIndex& saved, const volatile uint8_t* cancel, Index& index) {
    if (saved.graphRowCount == 0) return {};
    FileReader file(path, saved.graph, cancel);
    if (file.failure() || file.verifyAhead()) return file.failure();
    BufferedReader reader(file, saved.graph.bytes);
    auto result = index.graph().load_from_stream([&](void* to, size_t bytes) { return reader.read(to, bytes); });
    // Released, because index_gt throws an error that nobody has taken.
    if (result.error.release()) return file.failure() ? file.failure() : corrupt(path, "cannot be read as a graph");
    const Graph& graph = index.graph();
    if (!reader.atEnd() || graph.size() != saved.graphRowCount || graph.connectivity() != index.options().m ||
        saved.entryRow >= saved.graphRowCount || graph.level_of(saved.entryRow) != graph.max_level())
        return corrupt(path, "does not fit the manifest");
    return file.verify();
}

Failure loadMeta(const std::string& path, const SavedIndex& saved, const volatile uint8_t* cancel, Index& index,
                 std::vector<uint64_t>& alive, std::vector<uint32_t>& slots, std::vector<float>& sample) {
    FileReader meta(path, saved.meta, cancel);
    const size_t dimension = index.options().dimension;
    alive.resize((static_cast<size_t>(saved.rowCount) + 63) / 64);
    if (saved.mapped) slots.resize(saved.rowCount);
    std::vector<float> offset(saved.offsets ? dimension : 0);
    if (!saved.calibrated) sample.resize(saved.rowCount * dimension);
    const uint64_t expected = alive.size() * 8 + slots.size() * 4 + offset.size() * 4 + sample.size() * 4;
    if (!meta.failure() && expected != saved.meta.bytes) return corrupt(path, "does not fit the manifest");
    if (!meta.read(alive.data(), alive.size() * 8) || !meta.read(slots.data(), slots.size() * 4) ||
        !meta.read(offset.data(), offset.size() * 4) || !meta.read(sample.data(), sample.size() * 4) || meta.verify())
        return meta.failure();
    float scale;
    std::memcpy(&scale, &saved.scaleBits, sizeof scale);
    index.codecForLoading().restore(scale, std::move(offset));
    return {};
}

}  // namespace

Failure loadIndex(const std::string& rowsPath, const std::string& graphPath, const std::string& metaPath,
                  const SavedIndex& saved, const volatile uint8_t* cancel, Index& index, Scratch& scratch) {
    Rows& rows = index.rowsForLoading();
    if (saved.rows.bytes != static_cast<uint64_t>(saved.rowCount) * rows.rowBytes() || saved.graphRowCount > saved.rowCount)
        return corrupt(rowsPath, "does not fit the manifest");
    std::vector<uint64_t> alive;
    std::vector<uint32_t> slots;
    std::vector<float> sample;
    Failure failure = loadMeta(metaPath, saved, cancel, index, alive, slots, sample);
    if (failure) return failure;
    std::string refused = rows.reserveTotal(saved.rowCount);
    if (!refused.empty()) return {Failure::resources, 0, refused};
    FileReader vectors(rowsPath, saved.rows, cancel);
    if (saved.rowCount > 0) vectors.read(rows.rowForWriting(0), static_cast<size_t>(saved.rows.bytes));
    if (vectors.verify()) return vectors.failure();
    failure = loadGraph(graphPath, saved, cancel, index);
    if (failure) return failure;
    refused = rows.restore(saved.rowCount, alive, slots);
    if (!refused.empty()) return {Failure::resources, 0, refused};
    return index.adopt(saved.graphRowCount, saved.entryRow, saved.checkedRowCount, saved.calibrated, std::move(sample), scratch);
}

}  // namespace kith
