// index_gt's own search over the graph, which bench/ann compares with ours.
#pragma once
#include <cstdint>

namespace kith {

class Index;
class Scratch;

/** Fills the slots of the k nearest of one query of `dimension` numbers. All rows are in the graph, and no slots are mapped. */
void searchByUsearch(Index& index, const float* query, uint32_t k, uint32_t ef, Scratch& scratch, uint32_t* slots);

}  // namespace kith
