#include "region.h"
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

bool Region::commit(size_t bytes) {
    if (bytes <= committedBytes_) return true;
    if (bytes > reservedBytes_) return false;
    // Doubling steps keep small indexes small; big ones grow by whole huge pages.
    size_t target = std::max(bytes, committedBytes_ + std::min(std::max(committedBytes_, firstStepBytes), largestStepBytes));
    target = std::min(roundUp(target, target > hugePageBytes ? hugePageBytes : firstStepBytes), reservedBytes_);
    if (mprotect(base_ + committedBytes_, target - committedBytes_, PROT_READ | PROT_WRITE) != 0) return false;
#if defined(MADV_HUGEPAGE)
    // Below 2 MiB a huge page would waste most of itself.
    if (wantHugePages_ && target > hugePageBytes) {
        const size_t from = std::max(committedBytes_ / hugePageBytes * hugePageBytes, hugePageBytes);
        if (target > from && madvise(base_ + from, target - from, MADV_HUGEPAGE) == 0) hugePages_ = true;
    }
#endif
    committedBytes_ = target;
    return true;
}

void Region::release() {
    if (mapping_) munmap(mapping_, mappingBytes_);
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
