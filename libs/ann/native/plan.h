// Whether a search that may not return every row walks through the graph or scans, decided before it begins.
//
// A walk that counts allowed rows alone goes on until it has `ef` of them: about as far as an unfiltered one with a beam of
// ef / (part of the rows that is allowed). A scan measures the allowed rows and no others. So few allowed rows are scanned, many are
// walked to, and where the lines cross depends on what a row costs either way. Where the allowed rows are far from the query a
// walk may meet all others first: it is given up at a multiple of its estimate, and at one of the cost of the scan.
//
// Measured on one core with AVX-512 and other work beside, M 16, ns a row: 100,000 × 128 real descriptors, walked with i8 codes (128 bytes) 25 and f32 (512 bytes)
// 34, scanned in f32 13 (3 % allowed) to 19 (10 %, which no cache holds); 11,000 × 768 f32 (3,072 bytes) walked 97.
//
// A walk by two hops (beam.h) measures allowed rows alone, and reads the links of the others. 100,000 × 128 f32 of real descriptors, ef 64, CPU of a search in
// microseconds and recall@10; unfiltered 38 (0.967):
//
//     allowed       walk            scan           two hops
//     50 %          66 (0.968)      -              -
//     30 %          82 (0.979)      -              -
//     20 %          -               -              69 (0.964)
//     10 %          -               estimated 195  68 (0.970)
//     5 %           -               estimated 98   67 (0.963)
//     3 %           -               42             -
//
// Where the allowed rows are 20 of 200 clusters, those farthest from the query, it finds its way into one of them and not to the others
// (recall 0.74): so it is taken only where the surroundings of the query have about as many allowed rows as the whole.
//
// The places of the beam beyond k, as a part of those of an unfiltered search, with which a filtered one finds as much: by a walk the allowed part, and 0.45 at least.
// By two hops, of which the first ten steps are those that counted the surroundings, 0.3 / 0.4 / 0.5 of them find, of 5 % allowed, 0.943 / 0.955 / 0.963, of
// 10 % with 0.35 / 0.45 / 0.55 0.960 / 0.970 / 0.977, of 20 % with 0.45 / 0.55 / 0.65 0.956 / 0.964 / 0.971. See `filteredBeam`.
#pragma once
#include <algorithm>
#include <cstddef>
#include "context.h"

namespace kith {

/** A walk by two hops is the less certain one: it must cost less than this part of either other. */
constexpr double hopsMost = 0.7;
/** And a walk over a hole less than this part of a scan. */
constexpr double holeMost = 0.25;

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
    bool hops() const { return twoHopsNs < std::min(scanNs, walkNs) * hopsMost; }
    /** Whether a walk is tried where nothing is allowed around the query: nobody knows how wide the hole is. */
    bool walksOver() const { return walkNs < scanNs * holeMost; }
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
