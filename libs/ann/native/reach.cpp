#include "reach.h"

namespace kith {
namespace {

/** Rows with so few links are taken for frail in a loaded graph, whose file may be older than the marks. */
constexpr uint32_t frailWhenLoaded = 3;

}  // namespace

bool Reach::reserve(uint32_t rows) {
    if (!counts_.data() && !counts_.reserve(static_cast<size_t>(rowsMax) * sizeof(uint32_t), size_t{64} << 20, false)) return false;
    return counts_.commit(static_cast<size_t>(rows) * sizeof(uint32_t));
}

void Reach::added(uint32_t row) {
    weak_.clear();
    const BaseLinks own(graph_, row);
    // Only the lists of the new row's neighbours have changed: those that were full are in the journal as they were
    // before, the others have the new row at their end.
    for (uint32_t i = 0; i < own.size(); ++i) {
        const uint32_t from = own[i];
        ++counts()[from];
        const uint32_t* before = journal_.find(from);
        if (!before) {
            ++counts()[row];
            continue;
        }
        const BaseLinks now(graph_, from);
        if (now.has(row)) ++counts()[row];
        for (uint32_t at = 1; at <= before[0]; ++at) {
            if (now.has(before[at])) continue;
            if (--counts()[before[at]] < frailBelow_) weak_.push_back(before[at]);
        }
    }
    if (counts()[row] < frailBelow_) weak_.push_back(row);
    for (uint32_t each : weak_) mark(each);
}

void Reach::adopt(uint32_t rows) {
    weak_.clear();
    countAll(rows, counts());
    for (uint32_t row = 0; row < rows; ++row) {
        if (counts()[row] <= frailWhenLoaded) mark(row);
        if (counts()[row] < frailBelow_) weak_.push_back(row);
    }
}

bool Reach::link(uint32_t from, uint32_t to) {
    BaseLinks links(graph_, from);
    if (from == to || links.has(to)) return from != to;
    if (links.size() < graph_.config().connectivity_base) {
        links.append(to);
    } else {
        // The farthest are at the end.
        uint32_t at = links.size();
        while (at > 0 && counts()[links[at - 1]] <= frailBelow_) --at;
        if (at == 0) return false;
        --counts()[links[at - 1]];
        links.replace(at - 1, to);
    }
    ++counts()[to];
    return true;
}

void Reach::countAll(uint32_t rows, uint32_t* counts) const {
    for (uint32_t row = 0; row < rows; ++row) {
        const BaseLinks links(graph_, row);
        for (uint32_t i = 0; i < links.size(); ++i)
            if (links[i] < rows) ++counts[links[i]];
    }
}

uint32_t Reach::miscounted(uint32_t rows) const {
    std::vector<uint32_t> recount(rows, 0);
    countAll(rows, recount.data());
    uint32_t different = 0;
    for (uint32_t row = 0; row < rows; ++row) different += recount[row] != incoming(row);
    return different;
}

uint32_t Reach::nextFrail(uint32_t row, uint32_t end) const {
    while (row < end && !frail(row)) ++row;
    return row;
}

}  // namespace kith
