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
template <bool passesCopies> struct RowQuery {
    const RowDistances& distances;
    uint32_t row;
    const Copies& copies;
    bool enters(uint32_t to) const { return !passesCopies || !copies.has(to); }
    void measure(const uint32_t* rows, size_t count, float* out) const { distances.from(row, rows, count, out); }
    bool cancelled() const { return false; }
    [[gnu::always_inline]] void prefetch(uint32_t to) const { distances.prefetch(to); }
};

}  // namespace

RowDistances::RowDistances(const Index& index)
    : vectors_(index.linkVectors()), pair_(vectors_->pair()), gather_(vectors_->gather()), arena_(vectors_->arena()),
      rowBytes_(vectors_->codec().rowBytes()), chunks_(vectors_->codec().chunks()), affine_(vectors_->codec().rowAffine()),
      tieUnit_(index.options().metric == metricCosine ? 1.0f : 1e-20f) {}

bool RowDistances::same(uint32_t a, uint32_t b) const {
    return headOf(at(a)) == headOf(at(b)) && std::memcmp(at(a), at(b), rowBytes_) == 0;
}

float RowDistances::settle(float raw, uint32_t a, uint32_t b) const {
    const float distance = sane(affine_.constant + affine_.factor * raw);
    if (a == b || !same(a, b)) return distance;
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
    : index_(index), graph_(index.graph()), copies_(index.copies()), repair_(repair), lengths_(lengths), scratch_(scratch), distances_(index) {
    around_.reserve(graph_.config().connectivity_base + 1);
    measured_.resize(graph_.config().connectivity_base);
}

bool Insertion::add() {
    const auto row = static_cast<uint32_t>(graph_.size());
    const uint32_t level = levelOf(row, graph_.config().connectivity);
    if (!copies_.reserve(row + 1)) return false;
    if (lengths_) {
        if (!lengths_->reserve(row + 1)) return false;
        lengths_->set(row, distances_.squaredLength(row));
    }
    const uint64_t entry = row == 0 ? 0 : index_.entry();
    const auto top = static_cast<uint32_t>(entry >> 32);
    const uint32_t levels = row == 0 ? 0 : std::min(level, top) + 1;
    if (levels > chosen_.size()) chosen_.resize(levels);
    if (row > 0) {
        const uint32_t first = copies_.any() ? chooseLinks<true>(row, entry, level, levels) : chooseLinks<false>(row, entry, level, levels);
        if (first != noRow) return addCopy(first, row);
    }
    repair_.startAdd();
    if (!appendNode(graph_, level)) return false;
    for (uint32_t at = levels; at-- > 0;) link(at, row, chosen_[at]);
    repair_.endAdd(row);
    if (row == 0 || level > top) setEntry(graph_, row, level);
    return true;
}

/**
 * Fills `chosen_` for the levels below `levels`. Returns the row that the new one is a copy of, or noRow. Graphs without copies do not
 * look for them at every link.
 */
template <bool passesCopies> uint32_t Insertion::chooseLinks(uint32_t row, uint64_t entry, uint32_t level, uint32_t levels) {
    RowQuery<passesCopies> query{distances_, row, copies_};
    Beam<RowQuery<passesCopies>> beam(graph_, row, scratch_, query);
    const size_t ef = std::max<size_t>(index_.options().efConstruction, graph_.config().connectivity_base + 1);
    std::vector<Scratch::Candidate>& pool = scratch_.pool;
    Scratch::Candidate start = beam.descend(entry, level);
    for (uint32_t at = levels; at-- > 0;) {
        beam.sorted(start, at, ef);
        start = pool[0];
        if (at == 0)
            if (const uint32_t first = firstOf(row); first != noRow) return first;
        const size_t kept = choose(row, pool.data(), pool.size(), graph_.config().connectivity);
        chosen_[at].assign(pool.begin(), pool.begin() + static_cast<std::ptrdiff_t>(kept));
    }
    return noRow;
}

/** Of the rows in the pool, one that the row is a copy of, or noRow. Rows that are clipped are not alike because their codes are. */
uint32_t Insertion::firstOf(uint32_t row) const {
    const float own = distances_.between(row, row);
    const float tolerance = 1e-5f * std::max(std::fabs(own), distances_.tieUnit());
    for (const Scratch::Candidate& near : scratch_.pool) {
        if (near.distance - own > tolerance) break;
        if (near.distance - own >= -tolerance && distances_.same(near.row, row) && !distances_.isClipped(row)) return near.row;
    }
    return noRow;
}

/** Hangs a copy on the first of its kind. */
bool Insertion::addCopy(uint32_t first, uint32_t row) {
    repair_.startAdd();
    if (!appendNode(graph_, 0)) return false;
    copies_.add(graph_, row);
    Links own(graph_, row, 0), links(graph_, first, 0);
    const uint32_t count = links.size();
    uint32_t at = 0;
    while (at < count && !copies_.has(links[at])) ++at;
    if (at < count) {
        // The copy before loses a link and gains one.
        own.append(links[at]);
        links.replace(at, row);
    } else if (count < graph_.config().connectivity_base) {
        links.append(row);
    } else {
        measured_.resize(count);
        distances_.from(first, links.rows(), count, measured_.data());
        at = static_cast<uint32_t>(std::max_element(measured_.begin(), measured_.begin() + count) - measured_.begin());
        const uint32_t farthest = links[at];
        links.replace(at, row);
        repair_.unlinked(farthest);
    }
    repair_.linked(row);
    repair_.endAdd();
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
    uint32_t copies = 0;
    for (uint32_t i = 0; i < count; ++i) {
        // A link to copies keeps its place, whatever the others are.
        if (copies_.has(links[i])) links.replace(copies++, links[i]);
        else around_.push_back({measured_[i], links[i]});
    }
    std::sort(around_.begin(), around_.end());
    const size_t kept = choose(from.row, around_.data(), around_.size(), most - copies);
    // A search that reads the list meanwhile sees old links, new ones, or both.
    for (size_t i = 0; i < kept; ++i) links.replace(copies + static_cast<uint32_t>(i), around_[i].row);
    links.resize(copies + static_cast<uint32_t>(kept));
    if (level > 0) return;
    for (size_t i = 0; i < kept; ++i)
        if (around_[i].row == row) repair_.linked(row);
    for (size_t i = kept; i < around_.size(); ++i)
        if (around_[i].row != row) repair_.unlinked(around_[i].row);
}

/**
 * Of items in the order of their distance from a row, those that no one kept before shadows: that are nearer to the row than to any
 * of these, for dot by direction as well (lengths.h). `most` at the most, and all when they are fewer. They come first afterwards, and
 * their number is returned.
 */
size_t Insertion::choose(uint32_t from, Scratch::Candidate* items, size_t count, size_t most) const {
    if (count < most) return count;
    const auto keep = [&](auto&& shadows) {
        size_t kept = 1;
        for (size_t i = 1; i < count && kept < most; ++i) {
            bool good = true;
            for (size_t other = 0; other < kept && good; ++other) good = !shadows(items[other], items[i]);
            if (good) std::swap(items[kept++], items[i]);
        }
        return kept;
    };
    using Item = const Scratch::Candidate&;
    if (!lengths_) return keep([&](Item kept, Item item) { return distances_.between(item.row, kept.row) < item.distance; });
    const float own = lengths_->of(from);
    return keep([&](Item kept, Item item) {
        const float between = distances_.between(item.row, kept.row);
        return between < item.distance && between * own < item.distance * lengths_->of(kept.row);
    });
}

}  // namespace kith
