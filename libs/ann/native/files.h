// Files of a saved index: written under another name until they are whole, read with their size and checksum held against the manifest.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <memory>
#include <vector>
#include "block_cipher.h"
#include "failure.h"

namespace kith {

struct FileSum {
    uint64_t bytes = 0;
    uint32_t crc = 0;
};

constexpr size_t fileBufferBytes = size_t{1} << 20;

/** The failure of the last system call. */
Failure ioFailure(const char* what, const std::string& path);
Failure corrupt(const std::string& path, const std::string& what);

/** Writes a file under a temporary name and gives it its own name once it is on disk. With a key it is encrypted, block by block; the sum is that of the content. */
class FileWriter {
public:
    FileWriter(std::string path, const volatile uint8_t* cancel, const FileKey& key = {});
    ~FileWriter();
    FileWriter(const FileWriter&) = delete;
    FileWriter& operator=(const FileWriter&) = delete;
    bool write(const void* data, size_t bytes);
    /** Large memory that is written as it is, in parts. */
    bool writeAll(const char* from, size_t bytes);
    Failure finish(FileSum& sum);

private:
    bool flush();
    bool put(const char* from, size_t bytes);
    bool sealed(const char* from, size_t bytes);

    std::string path_, temporary_;
    std::unique_ptr<BlockCipher> cipher_;
    std::vector<char> sealed_;
    const volatile uint8_t* cancel_;
    int descriptor_ = -1;
    bool finished_ = false;
    std::vector<char> buffer_;
    FileSum sum_;
    Failure failure_;
};

class FileReader {
public:
    FileReader(std::string path, const FileSum& expected, const volatile uint8_t* cancel, const FileKey& key = {});
    ~FileReader();
    FileReader(const FileReader&) = delete;
    FileReader& operator=(const FileReader&) = delete;
    const Failure& failure() const { return failure_; }
    bool read(void* to, size_t bytes);
    /** After the last byte. */
    const Failure& verify();
    /** Reads the whole file once for its checksum and goes back to the start. */
    const Failure& verifyAhead();

private:
    size_t fetch(char* to, size_t bytes);
    bool fetchAll(char* to, size_t bytes);
    bool openBlock();

    std::string path_;
    FileSum expected_;
    std::unique_ptr<BlockCipher> cipher_;
    /** Of the encrypted file: the block at hand, how far it is read, and where the next one begins in the content. */
    std::vector<char> sealed_, block_;
    size_t blockAt_ = 0;
    uint64_t nextAt_ = 0;
    const volatile uint8_t* cancel_;
    int descriptor_ = -1;
    uint32_t crc_ = 0;
    Failure failure_;
};

/** Feeds many small reads from few big ones. */
class BufferedReader {
public:
    BufferedReader(FileReader& reader, uint64_t bytes) : reader_(reader), left_(bytes), buffer_(fileBufferBytes) {}
    bool read(void* to, size_t bytes);
    bool atEnd() const { return left_ == 0 && position_ == filled_; }

private:
    FileReader& reader_;
    uint64_t left_;
    std::vector<char> buffer_;
    size_t position_ = 0, filled_ = 0;
};

}  // namespace kith
