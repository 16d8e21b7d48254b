// Walks through the graph.
#pragma once
#include <cstdint>
#include "graph.h"

namespace kith {

class Index;
class Scratch;
struct SearchContext;

/** Fills scratch.pool by the graph; false when the caller must scan instead (or the search was cancelled). */
bool searchGraph(SearchContext& context, const Graph& graph);

/**
 * For the writer: fills scratch.pool with the nearest that a walk to the row's own vector finds among the first `rows` rows of
 * the graph, nearest first. False when it has not found the row although that is nearer than others in the pool.
 */
bool walkToRow(Index& index, uint32_t row, uint32_t rows, uint32_t ef, Scratch& scratch);

}  // namespace kith
