// A rotation that every index with as many components has in common.
//
// The sign of a component says most where all components are alike in size and depend little on each other. A random rotation makes them so. It is made of
// changes of sign and Hadamard transforms, which take d log d additions instead of d², and is its own inverse backwards.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kith {

class Rotation {
public:
    explicit Rotation(uint32_t dimension);

    /** In place; lengths and distances stay. */
    void apply(float* vector) const;
    void applyInverse(float* vector) const;

private:
    void transform(float* block) const;

    uint32_t dimension_;
    /** Components of a transform: the largest power of two that there are. It is taken of the first ones and of the last ones, so that all take part. */
    uint32_t block_ = 1;
    float scale_ = 1;
    /** 1 or -1, by round and component. */
    std::vector<float> signs_;
};

}  // namespace kith
