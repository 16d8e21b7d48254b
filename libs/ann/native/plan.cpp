#include "plan.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include "beam.h"
#include "scan.h"

namespace kith {
namespace {

/** What a row costs, by its bytes: fitted to the table in plan.h. */
constexpr double walkedNs = 22, walkedNsPerByte = 0.024;
constexpr double scannedNs = 7, scannedNsPerByte = 0.024;
/** To find the row of a slot, where rows carry slots of their own. */
constexpr double mappedNs = 10;
/** To look at 64 slots of a filter. */
constexpr double wordNs = 1;
/** Rows that a walk measures for each place of its beam, by links of a node at the base level. */
constexpr double measuredPerLink = 0.5;
/** A walk may measure so many times the rows that it was thought to. */
constexpr double walkedMost = 4;
/** Or cost this part of the scan that it was thought to spare, if that is more, and never more than so many times the scan. */
constexpr double scanLeast = 0.5, scanMost = 1.5;

/** To read the links of a row that is not allowed, and to look each up in the filter. */
constexpr double detourNs = 25;
/** Of the rows two links away, those that a step meets first. */
constexpr double freshPart = 0.2;
/** Steps of a walk by two hops, for each place of its beam. */
constexpr double stepsPerPlace = 1.05;
/** Fewer allowed rows than this within two links of another do not hold together. */
constexpr double twoHopRowsLeast = 40;

/** Of the places beyond k, a filtered search has at least this part. */
constexpr double beamLeast = 0.45;
/** Of a walk by two hops: fitted to the table in plan.h. */
constexpr double hopsPlaces = 0.35, sparsePlaces = 0.6, sparsePerPart = 1.5;

struct TwoHops {
    double ns, rows;
};

TwoHops twoHopsCost(double part, double ef, double links, double rowNs) {
    const double met = links * links * part;
    if (met < twoHopRowsLeast) return {std::numeric_limits<double>::infinity(), 0};
    const double fresh = met * freshPart, most = Beam<SearchContext>::twoHopRows;
    const double measured = std::min(fresh, most), detours = links * (1 - part) * std::min(1.0, most / fresh);
    const double steps = ef * stepsPerPlace;
    return {steps * (measured * rowNs + detours * detourNs), steps * measured};
}

}  // namespace

// A beam of k + (ef - k) * part allowed rows has about ef - k rows of any kind beyond the wanted ones, which is what an unfiltered search looks at.
// By two hops, the more rows are allowed, the fewer of those two links away a step measures: fitted to the table in plan.h.
size_t filteredBeam(bool twoHops, size_t k, size_t ef, double part) {
    if (ef <= k) return ef;
    const double places = twoHops ? std::min(std::max(hopsPlaces + part, sparsePlaces - sparsePerPart * part), 1.0) : std::clamp(part, beamLeast, 1.0);
    return k + static_cast<size_t>(std::ceil(static_cast<double>(ef - k) * places));
}

double scanCostNs(size_t rows, size_t rowBytes) {
    return (scannedNs + scannedNsPerByte * static_cast<double>(rowBytes)) * static_cast<double>(rows);
}

WalkPlan planWalk(const SearchContext& context, size_t ef, size_t links) {
    const double graphRows = context.graphRows, bytes = static_cast<double>(context.chunks * chunkBytes);
    const size_t allowed = allowedRows(context);
    const double part = std::max<double>(static_cast<double>(allowed), 1) / std::max<double>(context.rowLimit, 1);
    const bool filtered = context.request.filtered;
    const size_t walkEf = filtered ? filteredBeam(false, context.request.k, ef, part) : ef, twoHopsEf = filteredBeam(true, context.request.k, ef, part);
    const double wanted = static_cast<double>(walkEf) / std::min(part, 1.0) * measuredPerLink * static_cast<double>(links);
    // The more of the graph it has seen, the more often a walk comes by rows that it has measured.
    const double walked = graphRows * -std::expm1(-wanted / graphRows);
    const double rowNs = walkedNs + walkedNsPerByte * bytes;
    const double scanNs = scanCostNs(allowed, context.chunks * chunkBytes) + (context.mapped ? mappedNs : 0) * static_cast<double>(allowed) +
                          wordNs * static_cast<double>(context.rowLimit) / 64;
    const double scanRows = scanNs / rowNs;
    const double walkedMax = std::min(std::max(walked * walkedMost, scanRows * scanLeast), scanRows * scanMost);
    const TwoHops two = filtered ? twoHopsCost(std::min(part, 1.0), static_cast<double>(twoHopsEf), static_cast<double>(links), rowNs)
                                 : TwoHops{std::numeric_limits<double>::infinity(), 0};
    const double twoHopsMax = std::max(two.rows * walkedMost, scanRows * scanLeast);
    return {allowed, walked * rowNs, scanNs, two.ns, static_cast<size_t>(walkedMax), static_cast<size_t>(twoHopsMax), std::min(part, 1.0)};
}

}  // namespace kith
