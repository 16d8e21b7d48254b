// The scores that leave the index.
//
// While a search looks for rows it compares codes, and often a query that is rounded like them. What it gives is computed in f64
// from the query as it was given, and from each row as the datatype keeps it, or as it was given where an i8 code had to clip it.
// So a score is off by no more than what the datatype rounds off a row. For components of size x, where s is the step of an i8
// index, about the largest |x - middle| / 127 (of i16 codes, which are taken where that is too coarse, 1/64 of it):
//
//     f32    nothing (a relative 2^-24 for cosine, whose rows are kept at length 1)
//     f16    a relative 2^-11 of each component, absolutely 2^-25; components up to 65504
//     bf16   a relative 2^-9 of each component
//     i8     s / 2 of each component
//     i4     about a sixteenth of what most components reach, and what lies beyond that
//     pq16.. what the centroid of two, four or eight components leaves of them
//     binary everything but the side of the mean that each component is on
//
// Where the rows are kept as they were given beside their codes, scores come from these, and are off by nothing (as f32).
//
// A dot product then moves by at most |q||d|, and a squared l2 distance by 2 √l2 |d| + |d|², where |d| is the length of those
// errors.
#pragma once
#include "context.h"

namespace kith {

/** How many rows must be found for k results: more where codes or queries are coarse, so that the order of the last places is right. */
size_t scoredRows(const SearchContext& context);

/** Fills the outcome's hits. Rows that are clipped by far are taken in, for their codes may have kept them out. */
void score(SearchContext& context, TopK& top);

}  // namespace kith
