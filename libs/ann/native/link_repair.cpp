#include "link_repair.h"

namespace kith {
namespace {

/** Rows with so few links are taken for suspect in a loaded graph, whose file may be older than the marks. */
constexpr uint32_t suspectWhenLoaded = 3;

}  // namespace

bool LinkRepair::reserve(uint32_t rows) {
    if (!counts_.data() && !counts_.reserve(static_cast<size_t>(rowsMax) * sizeof(uint32_t), size_t{64} << 20, false)) return false;
    return counts_.commit(static_cast<size_t>(rows) * sizeof(uint32_t));
}

void LinkRepair::endAdd(uint32_t row) {
    if (row != noRow && counts()[row] < linksMin_) underLinked_.push_back(row);
    for (uint32_t each : underLinked_) mark(each);
}

void LinkRepair::adopt(uint32_t rows, const Copies& copies) {
    underLinked_.clear();
    countAll(rows, counts());
    for (uint32_t row = 0; row < rows; ++row) {
        if (copies.has(row)) continue;
        if (counts()[row] <= suspectWhenLoaded) mark(row);
        if (counts()[row] < linksMin_) underLinked_.push_back(row);
    }
}

bool LinkRepair::link(uint32_t from, uint32_t to) {
    Links links(graph_, from, 0);
    if (from == to || links.has(to)) return from != to;
    if (links.size() >= graph_.config().connectivity_base) return false;
    links.append(to);
    ++counts()[to];
    return true;
}

bool LinkRepair::linkInstead(uint32_t from, uint32_t to, const Measure& measure) {
    Links links(graph_, from, 0);
    const uint32_t count = links.size();
    if (!evicts_ || from == to || links.has(to) || count < graph_.config().connectivity_base) return false;
    // Links come in no order: the list was sorted when it was full last, and got others since.
    measured_.resize(count);
    measure(from, links.rows(), count, measured_.data());
    uint32_t farthest = count;
    for (uint32_t i = 0; i < count; ++i) {
        if (counts()[links[i]] > linksMin_ && (farthest == count || measured_[i] > measured_[farthest])) farthest = i;
    }
    if (farthest == count) return false;
    --counts()[links[farthest]];
    links.replace(farthest, to);
    ++counts()[to];
    return true;
}

void LinkRepair::countAll(uint32_t rows, uint32_t* counts) const {
    for (uint32_t row = 0; row < rows; ++row) {
        const Links links(graph_, row, 0);
        for (uint32_t i = 0; i < links.size(); ++i)
            if (links[i] < rows) ++counts[links[i]];
    }
}

uint32_t LinkRepair::miscounted(uint32_t rows) const {
    std::vector<uint32_t> recount(rows, 0);
    countAll(rows, recount.data());
    uint32_t different = 0;
    for (uint32_t row = 0; row < rows; ++row) different += recount[row] != incoming(row);
    return different;
}

uint32_t LinkRepair::nextSuspect(uint32_t row, uint32_t end) const {
    while (row < end && !isSuspect(row)) ++row;
    return row;
}

}  // namespace kith
