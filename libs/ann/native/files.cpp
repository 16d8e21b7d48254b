#include "files.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>
#include <cstring>
#include "crc32c.h"

namespace kith {

Failure ioFailure(const char* what, const std::string& path) {
    const int error = errno;
    return {Failure::io, static_cast<uint32_t>(error), std::string(what) + " " + path + ": " + std::strerror(error)};
}

Failure corrupt(const std::string& path, const std::string& what) { return {Failure::corrupt, 0, path + " " + what}; }

FileWriter::FileWriter(std::string path, const volatile uint8_t* cancel) : path_(std::move(path)), temporary_(path_ + ".tmp"), cancel_(cancel) {
    buffer_.reserve(fileBufferBytes);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (descriptor_ < 0) failure_ = ioFailure("cannot create", temporary_);
}

FileWriter::~FileWriter() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!finished_) ::unlink(temporary_.c_str());
}

bool FileWriter::write(const void* data, size_t bytes) {
    if (failure_) return false;
    const char* from = static_cast<const char*>(data);
    sum_.crc = crc32c(sum_.crc, from, bytes);
    sum_.bytes += bytes;
    if (buffer_.size() + bytes <= fileBufferBytes) {
        buffer_.insert(buffer_.end(), from, from + bytes);
        return true;
    }
    return flush() && put(from, bytes);
}

bool FileWriter::writeAll(const char* from, size_t bytes) {
    for (size_t at = 0; at < bytes; at += fileBufferBytes)
        if (!write(from + at, std::min(fileBufferBytes, bytes - at))) return false;
    return true;
}

Failure FileWriter::finish(FileSum& sum) {
    if (!failure_ && flush()) {
        if (::fsync(descriptor_) != 0) failure_ = ioFailure("cannot sync", temporary_);
        else {
            const int closed = ::close(descriptor_);
            descriptor_ = -1;
            if (closed != 0) failure_ = ioFailure("cannot close", temporary_);
            else if (::rename(temporary_.c_str(), path_.c_str()) != 0) failure_ = ioFailure("cannot rename", temporary_);
            else finished_ = true;
        }
    }
    sum = sum_;
    return failure_;
}

bool FileWriter::flush() {
    const bool written = put(buffer_.data(), buffer_.size());
    buffer_.clear();
    return written;
}

bool FileWriter::put(const char* from, size_t bytes) {
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

FileReader::FileReader(std::string path, const FileSum& expected, const volatile uint8_t* cancel)
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

FileReader::~FileReader() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

bool FileReader::read(void* to, size_t bytes) {
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

const Failure& FileReader::verify() {
    if (!failure_ && crc_ != expected_.crc) failure_ = corrupt(path_, "does not match its checksum");
    return failure_;
}

const Failure& FileReader::verifyAhead() {
    std::vector<char> buffer(fileBufferBytes);
    for (uint64_t left = expected_.bytes; left > 0 && !failure_;) {
        const size_t part = static_cast<size_t>(std::min<uint64_t>(left, fileBufferBytes));
        if (read(buffer.data(), part)) left -= part;
    }
    if (verify()) return failure_;
    crc_ = 0;
    if (::lseek(descriptor_, 0, SEEK_SET) != 0) failure_ = ioFailure("cannot rewind", path_);
    return failure_;
}

bool BufferedReader::read(void* to, size_t bytes) {
    char* at = static_cast<char*>(to);
    while (bytes > 0) {
        if (position_ == filled_) {
            filled_ = static_cast<size_t>(std::min<uint64_t>(left_, fileBufferBytes));
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

}  // namespace kith
