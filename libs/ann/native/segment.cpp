// How the rows of a term are written, read and merged.
//
// A block of texts holds up to 128 postings as variable-length bytes, seven bits each. A posting is the distance to the row before, and how often the term
// stands there: of one field its lowest bit says that it is once, else the count follows; of several, a byte says in which fields it stands, and the
// counts follow. Blocks of values are described in value_blocks.h.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include "postings.h"

namespace kith {
namespace {

inline uint32_t readVarint(const uint8_t*& at) {
    uint32_t value = *at & 127;
    for (uint32_t shift = 7; *at++ & 128; shift += 7) value |= static_cast<uint32_t>(*at & 127) << shift;
    return value;
}

/** Terms that one row of so many has get a column: a byte for each row, which four postings of six bytes outweigh. */
constexpr uint32_t columnPart = 4;
/** Segments with fewer rows are added up as they are. */
constexpr uint32_t columnRowsMin = valueRange / 2;

}  // namespace

void Segment::bury() {
    died.reset(new std::atomic<uint32_t>[rows]);
    for (uint32_t i = 0; i < rows; ++i) died[i].store(0, std::memory_order_relaxed);
}

size_t Segment::bytes() const {
    return data.size() + codes.size() + blocks.size() * sizeof(PostingBlock) + steps.size() * sizeof(float) +
           (columnTerms.size() + slots.size() + lengths.size() + terms.size() + counts.size() + firstBlock.size() + rows) * sizeof(uint32_t);
}

uint32_t Segment::find(uint32_t term) const {
    const auto found = std::lower_bound(terms.begin(), terms.end(), term);
    return found == terms.end() || *found != term ? noPosting : static_cast<uint32_t>(found - terms.begin());
}

uint32_t Segment::columnOf(uint32_t at) const {
    const auto found = std::lower_bound(columnTerms.begin(), columnTerms.end(), at);
    return found == columnTerms.end() || *found != at ? noPosting : static_cast<uint32_t>(found - columnTerms.begin());
}

void Segment::fillColumns() {
    if (rows < columnRowsMin) return;
    for (uint32_t at = 0; at < terms.size(); ++at)
        if (counts[at] >= rows / columnPart) columnTerms.push_back(at);
    const size_t width = size_t{ranges()} * valueRange;
    codes.resize(columnTerms.size() * width);
    steps.resize(columnTerms.size() * ranges());
    std::vector<float> column;
    for (size_t c = 0; c < columnTerms.size(); ++c) {
        column.assign(width, 0);
        const PostingReader reader(*this, columnTerms[c]);
        for (uint32_t block = 0; block < reader.blocks(); ++block)
            {
            const ValueBlock values = reader.values(block);
            values.each(0, values.count, [&](uint32_t row, float value) { column[row] = std::max(0.0f, value); });
        }
        for (size_t range = 0; range < ranges(); ++range) {
            const float* values = column.data() + range * valueRange;
            // Of normal floats, so that its products with weights are rounded as others are.
            const float most = *std::max_element(values, values + valueRange);
            float step = std::max(most / 255, std::numeric_limits<float>::min());
            if (255 * step < most) step = std::nextafter(step, INFINITY);
            steps[c * ranges() + range] = step;
            uint8_t* to = codes.data() + c * width + range * valueRange;
            for (uint32_t i = 0; i < valueRange; ++i) {
                auto code = static_cast<uint32_t>(values[i] / step);
                if (static_cast<float>(code) * step < values[i]) ++code;
                to[i] = static_cast<uint8_t>(std::min(code, 255u));
            }
        }
    }
}

PostingReader::PostingReader(const Segment& segment, uint32_t term)
    : segment_(&segment), blockFirst_(segment.firstBlock[term]), blockEnd_(segment.firstBlock[term + 1]), total_(segment.counts[term]) {}

ValueBlock PostingReader::values(uint32_t i) const {
    ValueBlock found;
    found.base = i == 0 ? 0 : last(i - 1) + 1;
    found.count = i + 1 == blocks() ? total_ - i * postingBlock : postingBlock;
    found.width = ValueBlock::widthOf(last(i) - found.base);
    found.values = segment_->data.data() + block(i).offset;
    found.distances = found.values + found.count * sizeof(float);
    return found;
}

uint32_t PostingReader::decode(uint32_t i, uint32_t* rows, uint32_t* counts, float* values) const {
    const uint8_t* at = segment_->data.data() + block(i).offset;
    const uint32_t count = i + 1 == blocks() ? total_ - i * postingBlock : postingBlock;
    const uint32_t fields = segment_->fields;
    uint32_t row = i == 0 ? 0 : block(i - 1).last + 1;
    if (fields == 1) {
        for (uint32_t p = 0; p < count; ++p) {
            const uint32_t word = readVarint(at);
            row += word >> 1;
            rows[p] = row++;
            counts[p] = word & 1 ? 1 : readVarint(at);
        }
    } else if (fields == 0) {
        this->values(i).each(0, count, [&](uint32_t found, float value) {
            *rows++ = found;
            *values++ = value;
        });
    } else {
        for (uint32_t p = 0; p < count; ++p) {
            row += readVarint(at);
            rows[p] = row++;
            const uint32_t in = *at++;
            for (uint32_t f = 0; f < fields; ++f) *counts++ = (in >> f) & 1 ? readVarint(at) : 0;
        }
    }
    return count;
}

void SegmentBuilder::varint(uint32_t value) {
    for (; value > 127; value >>= 7) segment_.data.push_back(static_cast<uint8_t>(value | 128));
    segment_.data.push_back(static_cast<uint8_t>(value));
}

void SegmentBuilder::flushValues() {
    std::vector<uint8_t>& data = segment_.data;
    const auto* bytes = reinterpret_cast<const uint8_t*>(values_);
    data.insert(data.end(), bytes, bytes + inBlock_ * sizeof(float));
    const uint32_t width = ValueBlock::widthOf(distances_[inBlock_ - 1]);
    for (uint32_t i = 0; i < inBlock_; ++i) {
        const uint8_t byte = static_cast<uint8_t>(distances_[i]);
        const uint16_t two = static_cast<uint16_t>(distances_[i]);
        const auto* from = width == 1 ? &byte : reinterpret_cast<const uint8_t*>(width == 2 ? static_cast<const void*>(&two) : &distances_[i]);
        data.insert(data.end(), from, from + width);
    }
    inBlock_ = 0;
}

void SegmentBuilder::begin(uint32_t term) {
    segment_.terms.push_back(term);
    segment_.firstBlock.push_back(static_cast<uint32_t>(segment_.blocks.size()));
    inBlock_ = next_ = count_ = 0;
}

void SegmentBuilder::add(uint32_t row, const uint32_t* counts, float value) {
    if (inBlock_ == 0) {
        if (segment_.data.size() > 0xf0000000u) throw Refusal(Failure::resources, "the postings of one shard exceed 4 GB; use more shards");
        segment_.blocks.push_back({row, static_cast<uint32_t>(segment_.data.size()), -INFINITY, INFINITY});
        base_ = next_;
    }
    PostingBlock& block = segment_.blocks.back();
    const uint32_t distance = row - next_;
    float worth = value;
    const uint32_t fields = options_.fields;
    if (fields == 0) {
        distances_[inBlock_] = row - base_;
        values_[inBlock_] = value;
    } else {
        const float x = frequency(options_, counts, segment_.lengths.data() + size_t{row} * fields, segment_.averages);
        worth = x / (options_.k1 + x);
        if (fields == 1) {
            varint(distance << 1 | (counts[0] == 1));
            if (counts[0] != 1) varint(counts[0]);
        } else {
            varint(distance);
            uint8_t in = 0;
            for (uint32_t f = 0; f < fields; ++f) in |= static_cast<uint8_t>((counts[f] != 0) << f);
            segment_.data.push_back(in);
            for (uint32_t f = 0; f < fields; ++f)
                if (counts[f]) varint(counts[f]);
        }
    }
    block.last = row;
    block.most = std::max(block.most, worth);
    block.least = std::min(block.least, worth);
    next_ = row + 1;
    ++count_;
    if (++inBlock_ < postingBlock) return;
    if (fields == 0) flushValues();
    inBlock_ = 0;
}

void SegmentBuilder::end() {
    if (options_.fields == 0 && inBlock_ > 0) flushValues();
    if (count_) {
        segment_.counts.push_back(count_);
    } else {
        segment_.terms.pop_back();
        segment_.firstBlock.pop_back();
    }
}

void SegmentBuilder::finish() {
    segment_.firstBlock.push_back(static_cast<uint32_t>(segment_.blocks.size()));
    segment_.data.shrink_to_fit();
    segment_.blocks.shrink_to_fit();
    if (options_.fields == 0) segment_.fillColumns();
}

std::shared_ptr<Segment> mergeSegments(const Segments& parts, const PostingsOptions& options, const float* averages, uint32_t change,
                                       std::vector<std::vector<uint32_t>>& moved) {
    auto merged = std::make_shared<Segment>();
    const uint32_t fields = options.fields;
    merged->fields = fields;
    std::copy(averages, averages + textFieldsMax, merged->averages);
    moved.resize(parts.size());
    size_t dataBytes = 0;
    for (size_t p = 0; p < parts.size(); ++p) {
        const Segment& part = *parts[p];
        dataBytes += part.data.size();
        moved[p].assign(part.rows, noPosting);
        for (uint32_t row = 0; row < part.rows; ++row) {
            const uint32_t died = part.died[row].load(std::memory_order_acquire);
            if (died != 0 && died <= change) continue;
            moved[p][row] = merged->rows++;
            merged->slots.push_back(part.slots[row]);
            const auto from = part.lengths.begin() + static_cast<std::ptrdiff_t>(size_t{row} * fields);
            merged->lengths.insert(merged->lengths.end(), from, from + fields);
        }
    }
    merged->data.reserve(dataBytes);
    merged->bury();
    SegmentBuilder builder(*merged, options);
    std::vector<uint32_t> at(parts.size(), 0), rows(postingBlock), counts(size_t{postingBlock} * std::max(1u, fields));
    std::vector<float> values(postingBlock);
    for (;;) {
        uint32_t term = noPosting;
        bool any = false;
        for (size_t p = 0; p < parts.size(); ++p) {
            if (at[p] == parts[p]->terms.size()) continue;
            term = any ? std::min(term, parts[p]->terms[at[p]]) : parts[p]->terms[at[p]];
            any = true;
        }
        if (!any) break;
        builder.begin(term);
        for (size_t p = 0; p < parts.size(); ++p) {
            if (at[p] == parts[p]->terms.size() || parts[p]->terms[at[p]] != term) continue;
            const PostingReader reader(*parts[p], at[p]++);
            for (uint32_t block = 0; block < reader.blocks(); ++block) {
                const uint32_t count = reader.decode(block, rows.data(), counts.data(), values.data());
                for (uint32_t i = 0; i < count; ++i) {
                    const uint32_t row = moved[p][rows[i]];
                    if (row != noPosting) builder.add(row, counts.data() + size_t{i} * fields, values[i]);
                }
            }
        }
        builder.end();
    }
    builder.finish();
    return merged;
}

}  // namespace kith
