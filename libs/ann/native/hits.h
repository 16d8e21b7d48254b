// What a search finds, and the k nearest of it.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace kith {

struct Hit {
    float distance;
    uint32_t slot;
    uint32_t row;
    bool operator<(const Hit& other) const {
        return distance < other.distance || (distance == other.distance && slot < other.slot);
    }
};

/** The k nearest hits so far, as a heap with the farthest on top. Ties go to the smaller slot. */
class TopK {
public:
    TopK(std::vector<Hit>& heap, size_t k) : heap_(heap), k_(k) { heap_.clear(); }
    float worst() const { return heap_.size() < k_ ? std::numeric_limits<float>::infinity() : heap_.front().distance; }
    void offer(Hit hit) {
        if (heap_.size() < k_) {
            heap_.push_back(hit);
            std::push_heap(heap_.begin(), heap_.end());
        } else if (hit < heap_.front()) {
            std::pop_heap(heap_.begin(), heap_.end());
            heap_.back() = hit;
            std::push_heap(heap_.begin(), heap_.end());
        }
    }
    std::vector<Hit>& heap() { return heap_; }

private:
    std::vector<Hit>& heap_;
    size_t k_;
};

}  // namespace kith
