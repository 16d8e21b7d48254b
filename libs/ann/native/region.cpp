#include "region.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif
#include <algorithm>
#include <cstdio>
#include <cstring>

namespace kith {
namespace {
constexpr size_t hugePageBytes = size_t{2} << 20;
constexpr size_t firstStepBytes = size_t{256} << 10;
constexpr size_t largestStepBytes = size_t{64} << 20;

size_t roundUp(size_t value, size_t step) { return (value + step - 1) / step * step; }
}  // namespace

Region::~Region() { release(); }

bool Region::reserve(size_t wishBytes, size_t minBytes, bool hugePages) {
    for (size_t bytes = roundUp(wishBytes, hugePageBytes); bytes >= std::max(minBytes, hugePageBytes); bytes /= 2) {
        bytes = roundUp(bytes, hugePageBytes);
        const size_t total = bytes + hugePageBytes;
        void* address = mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (address == MAP_FAILED) {
            if (bytes == hugePageBytes) break;
            continue;
        }
        mapping_ = static_cast<char*>(address);
        mappingBytes_ = total;
        base_ = reinterpret_cast<char*>(roundUp(reinterpret_cast<size_t>(address), hugePageBytes));
        reservedBytes_ = bytes;
        wantHugePages_ = hugePages && systemHugePages();
        return true;
    }
    return false;
}

namespace {

/** A file that is gone with its last use, however this process ends. -1 where there is none to be had. */
int openNameless(const std::string& folder) {
#if defined(O_TMPFILE)
    const int file = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (file >= 0) return file;
#endif
    // Not every file system has files without names.
    std::string path = folder + "/vectors-XXXXXX";
    const int named = mkstemp(&path[0]);
    if (named >= 0) unlink(path.c_str());
    return named;
}

/** Room on the disk: a page that has none when it is written ends the process. */
bool lengthen(int file, size_t from, size_t to) {
#if defined(__linux__)
    return posix_fallocate(file, static_cast<off_t>(from), static_cast<off_t>(to - from)) == 0;
#else
    (void)from;
    return ftruncate(file, static_cast<off_t>(to)) == 0;
#endif
}

}  // namespace

bool Region::reserveInFile(size_t wishBytes, size_t minBytes, const std::string& folder) {
    const int file = openNameless(folder);
    if (file < 0) return false;
    if (!reserve(wishBytes, minBytes, false)) {
        close(file);
        return false;
    }
    file_ = file;
    return true;
}

bool Region::commit(size_t bytes) {
    if (bytes <= committedBytes_) return true;
    if (bytes > reservedBytes_) return false;
    // Doubling steps keep small indexes small; big ones grow by whole huge pages.
    size_t target = std::max(bytes, committedBytes_ + std::min(std::max(committedBytes_, firstStepBytes), largestStepBytes));
    target = std::min(roundUp(target, target > hugePageBytes ? hugePageBytes : firstStepBytes), reservedBytes_);
    char* const from = base_ + committedBytes_;
    const size_t more = target - committedBytes_;
    if (file_ >= 0) {
        if (!lengthen(file_, committedBytes_, target)) return false;
        if (mmap(from, more, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, file_, static_cast<off_t>(committedBytes_)) == MAP_FAILED) return false;
        // Rows are read one here and one there.
        madvise(from, more, MADV_RANDOM);
        committedBytes_ = target;
        return true;
    }
    if (mprotect(from, more, PROT_READ | PROT_WRITE) != 0) return false;
#if defined(MADV_HUGEPAGE)
    // Below 2 MiB a huge page would waste most of itself.
    if (wantHugePages_ && target > hugePageBytes) {
        const size_t first = std::max(committedBytes_ / hugePageBytes * hugePageBytes, hugePageBytes);
        if (target > first && madvise(base_ + first, target - first, MADV_HUGEPAGE) == 0) hugePages_ = true;
    }
#endif
    committedBytes_ = target;
    return true;
}

void Region::letGo(size_t bytes) const {
    // Of a shared mapping it loses nothing: what was written is in the file.
    if (file_ >= 0 && bytes > 0) madvise(base_.load(std::memory_order_relaxed), bytes, MADV_DONTNEED);
}

void Region::release() {
    if (mapping_) munmap(mapping_, mappingBytes_);
    if (file_ >= 0) close(file_);
    file_ = -1;
    mapping_ = base_ = nullptr;
    mappingBytes_ = reservedBytes_ = committedBytes_ = 0;
    hugePages_ = false;
}

size_t reservationBytes() {
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    const size_t memory = pages > 0 && size > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(size) : size_t{8} << 30;
    return std::min(memory, size_t{64} << 30);
}

void returnFreedMemory() {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

void returnLargePieces() {
#if defined(__GLIBC__)
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
#endif
}

bool systemHugePages() {
    static const bool allowed = [] {
        FILE* file = std::fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
        if (!file) return false;
        char text[128] = {};
        const size_t length = std::fread(text, 1, sizeof text - 1, file);
        std::fclose(file);
        return length > 0 && std::strstr(text, "[never]") == nullptr;
    }();
    return allowed;
}

}  // namespace kith
