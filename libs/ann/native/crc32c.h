// CRC-32C (Castagnoli), the checksum of every file of a saved index.
#pragma once
#include <cstddef>
#include <cstdint>

namespace kith {

/** Continues `crc` (0 at the start) over more bytes. */
uint32_t crc32c(uint32_t crc, const void* data, size_t bytes);

}  // namespace kith
