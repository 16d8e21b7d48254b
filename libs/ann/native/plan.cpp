#include "plan.h"
#include <algorithm>
#include <cmath>
#include "scan.h"

namespace kith {
namespace {

/** What a row costs, by its bytes: fitted to the table in plan.h. */
constexpr double walkedNs = 52, walkedNsPerByte = 0.05;
constexpr double scannedNs = 14, scannedNsPerByte = 0.043;
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

}  // namespace

double scanCostNs(size_t rows, size_t rowBytes) {
    return (scannedNs + scannedNsPerByte * static_cast<double>(rowBytes)) * static_cast<double>(rows);
}

WalkPlan planWalk(const SearchContext& context, size_t ef, size_t links) {
    const double graphRows = context.graphRows, bytes = static_cast<double>(context.chunks * chunkBytes);
    const size_t allowed = allowedRows(context);
    const double part = std::max<double>(static_cast<double>(allowed), 1) / std::max<double>(context.rowLimit, 1);
    const double wanted = static_cast<double>(ef) / std::min(part, 1.0) * measuredPerLink * static_cast<double>(links);
    // The more of the graph it has seen, the more often a walk comes by rows that it has measured.
    const double walked = graphRows * -std::expm1(-wanted / graphRows);
    const double rowNs = walkedNs + walkedNsPerByte * bytes;
    const double scanNs = scanCostNs(allowed, context.chunks * chunkBytes) + (context.mapped ? mappedNs : 0) * static_cast<double>(allowed) +
                          wordNs * static_cast<double>(context.rowLimit) / 64;
    const double scanRows = scanNs / rowNs;
    const double walkedMax = std::min(std::max(walked * walkedMost, scanRows * scanLeast), scanRows * scanMost);
    return {allowed, walked * rowNs, scanNs, static_cast<size_t>(walkedMax)};
}

}  // namespace kith
