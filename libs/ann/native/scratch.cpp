#include "scratch.h"
#include "kernels.h"

namespace kith {

char* Scratch::queryRow(size_t bytes) {
    if (query_.size() < bytes + chunkBytes) query_.resize(bytes + chunkBytes);
    const size_t address = reinterpret_cast<size_t>(query_.data());
    return query_.data() + ((address + chunkBytes - 1) / chunkBytes * chunkBytes - address);
}

VisitedRows::VisitedRows(Scratch& scratch, uint32_t rows, size_t step) : scratch_(scratch), step_(step) {
    const size_t words = (static_cast<size_t>(rows) + 63) / 64;
    if (scratch.visited.size() < words) scratch.visited.resize(words + words / 4, 0);
    words_ = scratch.visited.data();
    touched_ = scratch.touched.data();
}

VisitedRows::~VisitedRows() {
    for (size_t i = 0; i < count_; ++i) words_[touched_[i]] = 0;
}

void VisitedRows::grow() {
    scratch_.touched.resize(2 * (count_ + step_));
    touched_ = scratch_.touched.data();
}

}  // namespace kith
