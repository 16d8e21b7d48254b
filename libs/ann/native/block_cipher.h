// AES-256-GCM over the blocks of one file, by the OpenSSL that Node.js is built with and gives to add-ons.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace kith {

/** Of the files of one save, and which of them it is: no two files are encrypted with the same key and number. */
struct FileKey {
    bool given = false;
    std::array<uint8_t, 32> key{};
    uint8_t number = 0;

    FileKey of(uint8_t file) const {
        FileKey own = *this;
        own.number = file;
        return own;
    }
};

/** Numbers of files within a save. */
constexpr uint8_t rowsFileNumber = 1, graphFileNumber = 2, metaFileNumber = 3, postingsFileNumber = 4, matricesFileNumber = 5, givenFileNumber = 6;

constexpr size_t cipherTagBytes = 16;

/** Encrypts and decrypts blocks. The nonce is the file's number and the block's: with a key for each save none comes twice, and no block opens in another place. */
class BlockCipher {
public:
    /** Throws a Refusal where Node.js gives no OpenSSL. */
    explicit BlockCipher(const FileKey& key);
    ~BlockCipher();
    BlockCipher(const BlockCipher&) = delete;
    BlockCipher& operator=(const BlockCipher&) = delete;
    /** Next block; `to` has `bytes` and a tag. */
    bool seal(const char* from, size_t bytes, char* to);
    /** Next block; `from` has `bytes` and a tag. False where it was changed or is another block. */
    bool open(const char* from, size_t bytes, char* to);
    void rewind() { block_ = 0; }

private:
    std::array<uint8_t, 12> nonce();

    void* context_ = nullptr;
    FileKey key_;
    uint64_t block_ = 0;
};

}  // namespace kith
