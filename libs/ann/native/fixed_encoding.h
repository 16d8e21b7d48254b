// One vector for a whole matrix, whose dot product with that of a query is about what MaxSim gives: the fixed dimensional encodings of MUVERA (Dhulipala et
// al. 2024, https://arxiv.org/abs/2405.19504). Hyperplanes drawn by chance split the space into parts. For each part a query adds up its rows there, and a document takes
// the mean of its own, or where it has none its row of the nearest part: so their product pairs each row of the query with rows of the document that are
// near to it. Each part is projected to few dimensions, and all of it is repeated with other hyperplanes.
//
// Squared distances are taken as products by two more components: 2<q, d> - |d|^2 is what differs between documents.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kith {

class FixedEncoding {
public:
    struct Shape {
        /** 0: no encodings. */
        uint32_t repetitions = 0;
        /** Hyperplanes of each: 2^planes parts. */
        uint32_t planes = 0;
        /** Dimensions of a part. */
        uint32_t projected = 0;
        bool isL2 = false;
    };
    /** The same for the same shape, wherever it is made. `stride`: numbers from one row to the next. */
    FixedEncoding(const Shape& shape, uint32_t dimension, size_t stride);

    size_t dimension() const { return size_t{shape_.repetitions} * parts() * shape_.projected; }
    /** Fills `out` (`dimension()` numbers) from rows of f32. */
    void encode(const float* rows, uint32_t count, bool isQuery, float* out) const;

private:
    size_t parts() const { return size_t{1} << shape_.planes; }

    const Shape shape_;
    const uint32_t dimension_;
    const size_t stride_;
    /** Components of a row with the one that squared distances add. */
    const size_t width_;
    std::vector<float> planes_, projections_;
};

}  // namespace kith
