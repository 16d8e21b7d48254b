#include "insert.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>
#include "beam.h"

namespace kith {
namespace {

uint64_t mix(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
    return value ^ (value >> 31);
}

/** The level of a row: geometric, each level having 1/M of the rows of the one below. The same in every build. */
uint32_t levelOf(uint32_t row, size_t m) {
    // In (0, 1]: the 53 bits that a double can hold.
    const double uniform = static_cast<double>((mix((row + 1) * 0x9e3779b97f4a7c15ull) >> 11) + 1) * 0x1p-53;
    return static_cast<uint32_t>(-std::log(uniform) / std::log(static_cast<double>(m)));
}

uint64_t headOf(const char* row) {
    uint64_t head;
    std::memcpy(&head, row, sizeof head);
    return head;
}

/** The new row as the query of a beam. */
struct RowQuery {
    const RowDistances& distances;
    uint32_t row;
    void measure(const uint32_t* rows, size_t count, float* out) const { distances.from(row, rows, count, out); }
    bool cancelled() const { return false; }
};

}  // namespace

RowDistances::RowDistances(const Index& index)
    : vectors_(index.vectors()), pair_(vectors_->pair()), gather_(vectors_->gather()), arena_(vectors_->arena()),
      rowBytes_(vectors_->codec().rowBytes()), chunks_(vectors_->codec().chunks()), affine_(vectors_->codec().rowAffine()),
      tieUnit_(index.options().metric == metricCosine ? 1.0f : 1e-20f) {}

float RowDistances::settle(float raw, uint32_t a, uint32_t b) const {
    const float distance = sane(affine_.constant + affine_.factor * raw);
    if (headOf(at(a)) != headOf(at(b)) || a == b || std::memcmp(at(a), at(b), rowBytes_) != 0) return distance;
    const uint64_t low = std::min(a, b), high = std::max(a, b);
    const uint64_t mixed = ((high << 32) | low) * 0x9e3779b97f4a7c15ull;
    const float fraction = static_cast<float>(((mixed ^ (mixed >> 29)) * 0xbf58476d1ce4e5b9ull) >> 40) * 0x1p-24f;
    return distance - fraction * 1e-6f * std::max(std::fabs(distance), tieUnit_);
}

float RowDistances::between(uint32_t a, uint32_t b) const { return settle(pair_(at(a), at(b), chunks_), a, b); }

void RowDistances::from(uint32_t row, const uint32_t* rows, size_t count, float* distances) const {
    gather_(at(row), arena_, rows, count, chunks_, distances);
    for (size_t i = 0; i < count; ++i) distances[i] = settle(distances[i], row, rows[i]);
}

bool measureLengths(const Index& index, uint32_t rows, Lengths& lengths) {
    if (!lengths.reserve(rows)) return false;
    const RowDistances distances(index);
    for (uint32_t row = 0; row < rows; ++row) lengths.set(row, distances.squaredLength(row));
    return true;
}

Insertion::Insertion(Index& index, LinkRepair& repair, Lengths* lengths, Scratch& scratch)
    : index_(index), graph_(index.graph()), repair_(repair), lengths_(lengths), scratch_(scratch), distances_(index) {
    around_.reserve(graph_.config().connectivity_base + 1);
    measured_.resize(graph_.config().connectivity_base);
}

bool Insertion::add() {
    const auto row = static_cast<uint32_t>(graph_.size());
    const uint32_t level = levelOf(row, graph_.config().connectivity);
    if (lengths_) {
        if (!lengths_->reserve(row + 1)) return false;
        lengths_->set(row, distances_.squaredLength(row));
    }
    const uint64_t entry = row == 0 ? 0 : index_.entry();
    const auto top = static_cast<uint32_t>(entry >> 32);
    const uint32_t levels = row == 0 ? 0 : std::min(level, top) + 1;
    if (levels > chosen_.size()) chosen_.resize(levels);
    if (row > 0) {
        RowQuery query{distances_, row};
        Beam<RowQuery> beam(graph_, row, scratch_, query);
        const size_t ef = std::max<size_t>(index_.options().efConstruction, graph_.config().connectivity_base + 1);
        Scratch::Candidate start = beam.descend(entry, level);
        for (uint32_t at = levels; at-- > 0;) {
            std::vector<Scratch::Candidate>& pool = scratch_.pool;
            beam.sorted(start, at, ef);
            start = pool[0];
            const size_t kept = choose(row, pool.data(), pool.size(), graph_.config().connectivity);
            chosen_[at].assign(pool.begin(), pool.begin() + static_cast<std::ptrdiff_t>(kept));
        }
    }
    repair_.startAdd();
    if (!appendNode(graph_, level)) return false;
    for (uint32_t at = levels; at-- > 0;) link(at, row, chosen_[at]);
    repair_.endAdd(row);
    if (row == 0 || level > top) setEntry(graph_, row, level);
    return true;
}

/** Links the row to those chosen for it, and these to the row. */
void Insertion::link(uint32_t level, uint32_t row, const std::vector<Scratch::Candidate>& chosen) {
    Links own(graph_, row, level);
    for (const Scratch::Candidate& near : chosen) {
        own.append(near.row);
        if (level == 0) repair_.linked(near.row);
    }
    for (const Scratch::Candidate& near : chosen) linkBack(level, near, row);
}

/** Links `from` to the row, at the cost of others where its list is full. */
void Insertion::linkBack(uint32_t level, Scratch::Candidate from, uint32_t row) {
    Links links(graph_, from.row, level);
    const uint32_t count = links.size();
    const size_t most = level > 0 ? graph_.config().connectivity : graph_.config().connectivity_base;
    if (count < most) {
        links.append(row);
        if (level == 0) repair_.linked(row);
        return;
    }
    distances_.from(from.row, links.rows(), count, measured_.data());
    around_.clear();
    around_.push_back({from.distance, row});
    for (uint32_t i = 0; i < count; ++i) around_.push_back({measured_[i], links[i]});
    std::sort(around_.begin(), around_.end());
    const size_t kept = choose(from.row, around_.data(), around_.size(), most);
    // A search that reads the list meanwhile sees old links, new ones, or both.
    for (size_t i = 0; i < kept; ++i) links.replace(static_cast<uint32_t>(i), around_[i].row);
    links.resize(static_cast<uint32_t>(kept));
    if (level > 0) return;
    for (size_t i = 0; i < kept; ++i)
        if (around_[i].row == row) repair_.linked(row);
    for (size_t i = kept; i < around_.size(); ++i)
        if (around_[i].row != row) repair_.unlinked(around_[i].row);
}

/**
 * Of items in the order of their distance from a row, those that no one kept before shadows: that are nearer to the row than to any
 * of these, for dot by direction (lengths.h). `most` at the most, and all when they are fewer. They come first afterwards, and
 * their number is returned.
 */
size_t Insertion::choose(uint32_t from, Scratch::Candidate* items, size_t count, size_t most) const {
    if (count < most) return count;
    const float own = lengthOf(from);
    size_t kept = 1;
    for (size_t i = 1; i < count && kept < most; ++i) {
        bool good = true;
        for (size_t other = 0; other < kept && good; ++other)
            good = !(distances_.between(items[i].row, items[other].row) * own < items[i].distance * lengthOf(items[other].row));
        if (good) std::swap(items[kept++], items[i]);
    }
    return kept;
}

}  // namespace kith
