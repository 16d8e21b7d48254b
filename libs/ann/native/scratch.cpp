#include "scratch.h"
#include "kernels.h"

namespace kith {

char* Scratch::queryRow(size_t bytes) {
    if (query_.size() < bytes + chunkBytes) query_.resize(bytes + chunkBytes);
    const size_t address = reinterpret_cast<size_t>(query_.data());
    return query_.data() + ((address + chunkBytes - 1) / chunkBytes * chunkBytes - address);
}

void Scratch::prepareVisited(uint32_t rows) {
    const size_t words = (static_cast<size_t>(rows) + 63) / 64;
    if (visited.size() < words) visited.resize(words + words / 4, 0);
    touched.clear();
}

void Scratch::clearVisited() {
    for (uint32_t word : touched) visited[word] = 0;
    touched.clear();
}

}  // namespace kith
