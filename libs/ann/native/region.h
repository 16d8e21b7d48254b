// A growing array that never moves: address space is reserved once and made usable in big steps.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace kith {

class Region {
public:
    Region() = default;
    ~Region();
    Region(const Region&) = delete;
    Region& operator=(const Region&) = delete;

    /** Reserves address space (no memory). Halves the wish until the system agrees; false where even `minBytes` fail. */
    bool reserve(size_t wishBytes, size_t minBytes, bool hugePages);
    /** As `reserve`, for what is kept in a file without a name in this folder: memory that the system may take back, and read again. */
    bool reserveInFile(size_t wishBytes, size_t minBytes, const std::string& folder);
    /** Makes the first `bytes` readable and writable (zeroed at first use). False when memory or the reservation is used up. */
    bool commit(size_t bytes);
    void release();
    /**
     * Takes the pages of the first `bytes` of a file out of the process: the system keeps as many of them as it has room for, and whoever reads one maps it again.
     * Nothing where it is no file. Beside readers and writers.
     */
    void letGo(size_t bytes) const;
    bool isInFile() const { return file_ >= 0; }

    /** Null before `reserve`, which may run beside readers: they must not follow it before they know that it has ended. */
    char* data() const { return base_.load(std::memory_order_relaxed); }
    size_t reservedBytes() const { return reservedBytes_; }
    size_t committedBytes() const { return committedBytes_; }
    bool hugePages() const { return hugePages_; }

private:
    char* mapping_ = nullptr;
    size_t mappingBytes_ = 0;
    std::atomic<char*> base_{nullptr};
    size_t reservedBytes_ = 0;
    size_t committedBytes_ = 0;
    int file_ = -1;
    bool wantHugePages_ = false;
    bool hugePages_ = false;
};

/**
 * What one growing array may reserve: the machine's memory, at most 64 GiB. Address space is 128 TiB, so hundreds of
 * indexes can each reserve that much; a shard beyond it should be split.
 */
size_t reservationBytes();
/**
 * Gives freed memory of the whole process back to the system. glibc keeps what lies between pieces in use: after a bulk
 * load of a million points of 128 dimensions 110 MB, a sixth of the indexes. Nothing elsewhere.
 */
void returnFreedMemory();
/**
 * Lets large pieces of memory go back to the system when they are freed. glibc raises the size from which they do to that of the largest one freed
 * so far: of 30 answers of 24 MB 300 MB stayed with the process. Nothing elsewhere.
 */
void returnLargePieces();
/** Whether the system gives huge pages to memory that asks for them. */
bool systemHugePages();

}  // namespace kith
