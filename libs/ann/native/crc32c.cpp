#include "crc32c.h"
#include <cstring>
#if defined(__x86_64__)
#include <cpuid.h>
#include <nmmintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif
#endif

namespace kith {
namespace {

struct Tables {
    uint32_t at[8][256];
    Tables() {
        for (uint32_t i = 0; i < 256; ++i) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0x82f63b78u : 0u);
            at[0][i] = value;
        }
        for (uint32_t i = 0; i < 256; ++i)
            for (int table = 1; table < 8; ++table) at[table][i] = (at[table - 1][i] >> 8) ^ at[0][at[table - 1][i] & 0xff];
    }
};

/** Eight bytes a step from tables (slicing by 8). */
uint32_t portable(uint32_t crc, const unsigned char* data, size_t bytes) {
    static const Tables tables;
    for (; bytes >= 8; bytes -= 8, data += 8) {
        uint32_t low, high;
        std::memcpy(&low, data, 4);
        std::memcpy(&high, data + 4, 4);
        low ^= crc;
        crc = tables.at[7][low & 0xff] ^ tables.at[6][(low >> 8) & 0xff] ^ tables.at[5][(low >> 16) & 0xff] ^
              tables.at[4][low >> 24] ^ tables.at[3][high & 0xff] ^ tables.at[2][(high >> 8) & 0xff] ^
              tables.at[1][(high >> 16) & 0xff] ^ tables.at[0][high >> 24];
    }
    for (; bytes > 0; --bytes, ++data) crc = (crc >> 8) ^ tables.at[0][(crc ^ *data) & 0xff];
    return crc;
}

#if defined(__x86_64__)
// For clang the instruction is a feature of its own, which sse4.2 does not bring along in an attribute; some GCCs do not know it.
#if defined(__clang__)
__attribute__((target("sse4.2,crc32")))
#else
__attribute__((target("sse4.2")))
#endif
uint32_t hardware(uint32_t crc, const unsigned char* data, size_t bytes) {
    uint64_t value = crc;
    for (; bytes >= 8; bytes -= 8, data += 8) {
        uint64_t word;
        std::memcpy(&word, data, 8);
        value = _mm_crc32_u64(value, word);
    }
    crc = static_cast<uint32_t>(value);
    for (; bytes > 0; --bytes, ++data) crc = _mm_crc32_u8(crc, *data);
    return crc;
}
bool hasHardware() {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & (1u << 20));
}
#elif defined(__aarch64__)
#if defined(__clang__)
__attribute__((target("crc")))
#else
__attribute__((target("+crc")))
#endif
uint32_t hardware(uint32_t crc, const unsigned char* data, size_t bytes) {
    for (; bytes >= 8; bytes -= 8, data += 8) {
        uint64_t word;
        std::memcpy(&word, data, 8);
        crc = __crc32cd(crc, word);
    }
    for (; bytes > 0; --bytes, ++data) crc = __crc32cb(crc, *data);
    return crc;
}
bool hasHardware() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & (1u << 7);  // HWCAP_CRC32
#elif defined(__APPLE__)
    return true;
#else
    return false;
#endif
}
#else
uint32_t hardware(uint32_t crc, const unsigned char* data, size_t bytes) { return portable(crc, data, bytes); }
bool hasHardware() { return false; }
#endif

}  // namespace

uint32_t crc32c(uint32_t crc, const void* data, size_t bytes) {
    static const bool fast = hasHardware();
    const unsigned char* start = static_cast<const unsigned char*>(data);
    return ~(fast ? hardware(~crc, start, bytes) : portable(~crc, start, bytes));
}

}  // namespace kith
