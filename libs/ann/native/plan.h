// Whether a search that may not return every row walks through the graph or scans, decided before it begins.
//
// A walk that counts allowed rows alone goes on until it has `ef` of them: about as far as an unfiltered one with a beam of
// ef / (part of the rows that is allowed). A scan measures the allowed rows and no others. So few allowed rows are scanned, many are
// walked to, and where the lines cross depends on what a row costs either way. Where the allowed rows are far from the query a
// walk may meet all others first: it is given up at a multiple of its estimate, and at one of the cost of the scan.
//
// Measured on one core with AVX-512, clustered data, M 16, ns a row:
//
//     rows, dimension, datatype (bytes of a row)    walked    scanned, of 1 % / 10 % / all
//     100,000 × 128 f32 (512)                         78        54 / 33 / 26
//     40,000 × 768 i8 (768)                           86        83 / 68 / 41
//     40,000 × 768 f32 (3072)                        205       150 / 142 / 170
//
// A walk by two hops (beam.h) measures allowed rows alone, and reads the links of the others. 100,000 × 128 f32 of real descriptors, ef 64,
// CPU of a search by a walk, a scan and a walk by two hops, microseconds on a busy core, with recall@10:
//
//     allowed       walk             scan            two hops
//     20 %          431 (0.9995)     -               266 (0.985)
//     10 %          (about 700)      408             240 (0.992)
//     5 %           -                231             200 (0.984)
//     2 %           -                 74             198 (0.938)
//
// Where the allowed rows are 20 of 200 clusters, those farthest from the query, it finds its way into one of them and not to the others
// (recall 0.74): so it is taken only where the surroundings of the query have about as many allowed rows as the whole.
//
// Places of the beam with which a filtered search of k = 10 finds as much as an unfiltered one with 64 (recall 0.971), the same data, 300 queries, and
// the rows that it measures (unfiltered 1,050): 80 % allowed 54 (1,100), 50 % 40 (1,205), and by two hops 30 % 52 (1,350), 20 % 48 (1,180), 10 % 40 (870).
// With all 64 it finds more (0.990 of 50 %) for up to half as much work again. See `filteredBeam`.
//
// Rows that a walk measures, unfiltered: 8 to 19 for each place of its beam, fewer when it has met most of the graph. 100,000 rows of
// 128 f32, ef 64, microseconds of a search before and after: 2 % allowed 345 / 118, 10 % 662 / 328, 30 % 225 / 216; those 2 % that
// are farthest from the query 13,000 / 94, the farthest 30 % 9,400 / 2,330.
#pragma once
#include <cstddef>
#include "context.h"

namespace kith {

/** A walk by two hops is the less certain one: it must cost less than this part of the other. */
constexpr double hopsMost = 0.7;

struct WalkPlan {
    /** Rows that may be returned: alive, and allowed by the filter. Where rows carry slots of their own, at most so many. */
    size_t allowedRows;
    /** Infinite for two hops where these are no choice. */
    double walkNs, scanNs, twoHopsNs;
    /** A walk that has measured more rows than this is given up. */
    size_t walkedMax, twoHopsMax;
    /** The part of the rows that is allowed. */
    double part;

    bool walks() const { return walkNs < scanNs; }
    bool hops() const { return twoHopsNs < scanNs && twoHopsNs < walkNs * hopsMost; }
};

/** What a scan of so many rows costs. */
double scanCostNs(size_t rows, size_t rowBytes);

/**
 * Of the allowed rows, the surroundings of a query must have this many times the part that the whole has, for two hops. They are so few that chance alone
 * leaves one in eight queries below half of it where 10 % are allowed (binomial, 48 rows), and one in thirty below this.
 */
constexpr double nearPart = 0.3;

/**
 * Allowed rows in the beam of a filtered search that is to find as much as an unfiltered one with a beam of `ef`, at least k, finds.
 * `part`: of the rows around the query, what is allowed; where that differs from the part of all rows, the greater of both.
 */
size_t filteredBeam(bool twoHops, size_t k, size_t ef, double part);

/** For a search that is to find as much as an unfiltered one with a beam of `ef`. */
WalkPlan planWalk(const SearchContext& context, size_t ef, size_t links);

}  // namespace kith
