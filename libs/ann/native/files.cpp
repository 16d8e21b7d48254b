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

FileWriter::FileWriter(std::string path, const volatile uint8_t* cancel, const FileKey& key)
    : path_(std::move(path)), temporary_(path_ + ".tmp"), cipher_(key.given ? std::make_unique<BlockCipher>(key) : nullptr), cancel_(cancel) {
    buffer_.reserve(fileBufferBytes);
    if (cipher_) sealed_.resize(fileBufferBytes + cipherTagBytes);
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
    if (cipher_) return sealed(from, bytes);
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

/** All blocks but the last are full. */
bool FileWriter::sealed(const char* from, size_t bytes) {
    while (bytes > 0) {
        const size_t part = std::min(bytes, fileBufferBytes - buffer_.size());
        buffer_.insert(buffer_.end(), from, from + part);
        from += part;
        bytes -= part;
        if (buffer_.size() == fileBufferBytes && !flush()) return false;
    }
    return true;
}

bool FileWriter::flush() {
    if (cipher_) {
        const size_t bytes = buffer_.size();
        if (bytes == 0) return true;
        if (!cipher_->seal(buffer_.data(), bytes, sealed_.data())) {
            failure_ = {Failure::internal, 0, "cannot encrypt " + temporary_};
            return false;
        }
        buffer_.clear();
        return put(sealed_.data(), bytes + cipherTagBytes);
    }
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

FileReader::FileReader(std::string path, const FileSum& expected, const volatile uint8_t* cancel, const FileKey& key)
    : path_(std::move(path)), expected_(expected), cipher_(key.given ? std::make_unique<BlockCipher>(key) : nullptr), cancel_(cancel) {
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) {
        failure_ = errno == ENOENT ? corrupt(path_, "is missing") : ioFailure("cannot open", path_);
        return;
    }
    const uint64_t blocks = cipher_ ? (expected.bytes + fileBufferBytes - 1) / fileBufferBytes : 0;
    const uint64_t stored = expected.bytes + blocks * cipherTagBytes;
    struct stat info;
    if (::fstat(descriptor_, &info) != 0) failure_ = ioFailure("cannot stat", path_);
    else if (static_cast<uint64_t>(info.st_size) != stored)
        failure_ = corrupt(path_, "has " + std::to_string(info.st_size) + " bytes instead of " + std::to_string(stored));
}

FileReader::~FileReader() {
    if (descriptor_ >= 0) ::close(descriptor_);
}

/** Up to so many bytes of the file; 0 after a failure, of which the end is one. */
size_t FileReader::fetch(char* to, size_t bytes) {
    for (;;) {
        if (cancel_ && *cancel_) {
            failure_ = {Failure::cancelled, 0, "the load was cancelled"};
            return 0;
        }
        const ssize_t got = ::read(descriptor_, to, std::min<size_t>(bytes, size_t{4} << 20));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) failure_ = ioFailure("cannot read", path_);
        else if (got == 0) failure_ = corrupt(path_, "ends too early");
        return got < 0 ? 0 : static_cast<size_t>(got);
    }
}

bool FileReader::fetchAll(char* to, size_t bytes) {
    while (!failure_ && bytes > 0) {
        const size_t got = fetch(to, bytes);
        to += got;
        bytes -= got;
    }
    return !failure_;
}

/** Decrypts the next block. */
bool FileReader::openBlock() {
    const auto bytes = static_cast<size_t>(std::min<uint64_t>(expected_.bytes - nextAt_, fileBufferBytes));
    if (bytes == 0) failure_ = corrupt(path_, "ends too early");
    sealed_.resize(bytes + cipherTagBytes);
    block_.resize(bytes);
    blockAt_ = 0;
    if (failure_ || !fetchAll(sealed_.data(), sealed_.size())) return false;
    nextAt_ += bytes;
    if (!cipher_->open(sealed_.data(), bytes, block_.data())) failure_ = corrupt(path_, "was changed: it does not decrypt");
    return !failure_;
}

bool FileReader::read(void* to, size_t bytes) {
    char* at = static_cast<char*>(to);
    while (!failure_ && bytes > 0) {
        size_t got = 0;
        if (!cipher_) got = fetch(at, bytes);
        else if (blockAt_ < block_.size() || openBlock()) {
            got = std::min(bytes, block_.size() - blockAt_);
            std::memcpy(at, block_.data() + blockAt_, got);
            blockAt_ += got;
        }
        crc_ = crc32c(crc_, at, got);
        at += got;
        bytes -= got;
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
    block_.clear();
    blockAt_ = 0;
    nextAt_ = 0;
    if (cipher_) cipher_->rewind();
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
