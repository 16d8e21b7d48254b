#include <errno.h>
#include <algorithm>
#include <cstring>
#include <filesystem>
#include "saved_index.h"

namespace kith {

Snapshot::Snapshot(std::shared_ptr<Index> index, uint32_t savedRows, uint32_t generation, uint32_t savedGiven) : index_(std::move(index)) {
    const Rows& rows = index_->rows();
    // As a search does it: the entry is among the graph's rows, those among all rows, and these in the vectors.
    entry_ = index_->entry();
    graphRows_ = index_->graphRows();
    checkedRows_ = std::min(index_->checkedRows(), graphRows_);
    rowCount_ = rows.count();
    mapped_ = rows.mapped();
    vectors_ = index_->vectors();
    firstRow_ = vectors_->generation() == generation && savedRows <= rowCount_ ? savedRows : 0;
    firstGiven_ = std::min(savedGiven, rowCount_);
    clippedCount_ = vectors_->clipped().countBelow(rowCount_);
    alive_ = rows.aliveSnapshot(rowCount_);
    if (rowCount_ % 64 != 0 && !alive_.empty()) alive_.back() &= (uint64_t{1} << (rowCount_ % 64)) - 1;
}

Failure Snapshot::write(const std::string& rowsPath, const std::string& givenPath, const std::string& graphPath, const std::string& metaPath,
                        const FileKey& key, const volatile uint8_t* cancel, SavedIndex& saved) {
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(graphPath).parent_path(), error);
    if (error) {
        errno = error.value();
        return ioFailure("cannot create the folder of", graphPath);
    }
    const Codec& codec = vectors_->codec();
    saved.rowCount = rowCount_;
    for (uint64_t word : alive_) saved.aliveCount += static_cast<uint32_t>(__builtin_popcountll(word));
    saved.graphRowCount = graphRows_;
    saved.entryRow = static_cast<uint32_t>(entry_);
    saved.checkedRowCount = checkedRows_;
    saved.mapped = mapped_;
    saved.code = codec.code();
    saved.generation = vectors_->generation();
    saved.offsets = !codec.offset().empty();
    const float scale = codec.scale();
    std::memcpy(&saved.scaleBits, &scale, sizeof scale);
    saved.clippedCount = clippedCount_;

    Failure failure = writeGraph(graphPath, key.of(graphFileNumber), cancel, saved.graph);
    if (failure) return failure;
    failure = writeRows(*vectors_, firstRow_, rowsPath, key.of(rowsFileNumber), cancel, saved.rows);
    if (failure) return failure;
    if (const Vectors* given = index_->given()) {
        failure = writeRows(*given, firstGiven_, givenPath, key.of(givenFileNumber), cancel, saved.given);
        if (firstGiven_ < rowCount_) given->letGo(rowCount_);
    }
    if (failure) return failure;
    return writeMeta(metaPath, key.of(metaFileNumber), cancel, saved.meta);
}

/** Writes the rows from `first` on, where there are any. */
Failure Snapshot::writeRows(const Vectors& vectors, uint32_t first, const std::string& path, const FileKey& key,
                            const volatile uint8_t* cancel, std::vector<RowsFile>& files) const {
    if (rowCount_ <= first) return {};
    FileWriter file(path, cancel, key);
    file.writeAll(vectors.row(first), static_cast<size_t>(rowCount_ - first) * vectors.codec().rowBytes());
    files.push_back({path, rowCount_ - first, {}, {}});
    return file.finish(files.back().sum);
}

/**
 * usearch's file of a graph: a header, the levels, the nodes. The writer goes on meanwhile: a list may be written half old and
 * half new, as a search may see it, and links to rows beyond the snapshot are left out.
 */
Failure Snapshot::writeGraph(const std::string& path, const FileKey& key, const volatile uint8_t* cancel, FileSum& sum) const {
    FileWriter file(path, cancel, key);
    if (graphRows_ == 0) return file.finish(sum);
    const Graph& graph = index_->graph();
    const auto& config = graph.config();
    unum::usearch::index_serialized_header_t header;
    header.size = graphRows_;
    header.connectivity = config.connectivity;
    header.connectivity_base = config.connectivity_base;
    header.max_level = entry_ >> 32;
    header.entry_slot = static_cast<uint32_t>(entry_);
    file.write(&header, sizeof header);
    for (uint32_t row = 0; row < graphRows_; ++row) {
        const auto level = static_cast<int16_t>(graph.level_of(row));
        file.write(&level, sizeof level);
    }
    std::vector<uint32_t> words;
    for (uint32_t row = 0; row < graphRows_; ++row) {
        const auto key = static_cast<uint32_t>(graph.at(row).key);
        const auto level = static_cast<int16_t>(graph.level_of(row));
        words.clear();
        for (uint32_t at = 0; at <= static_cast<uint32_t>(level); ++at) {
            const size_t most = at == 0 ? config.connectivity_base : config.connectivity;
            const size_t start = words.size();
            words.resize(start + 1 + most, 0);
            const Links links(graph, row, at);
            uint32_t kept = 0;
            for (uint32_t i = 0, count = std::min<uint32_t>(links.size(), static_cast<uint32_t>(most)); i < count; ++i)
                if (const uint32_t to = links[i]; to < graphRows_) words[start + 1 + kept++] = to;
            words[start] = kept;
        }
        if (!file.write(&key, sizeof key) || !file.write(&level, sizeof level) || !file.write(words.data(), words.size() * sizeof(uint32_t)))
            break;
    }
    return file.finish(sum);
}

Failure Snapshot::writeMeta(const std::string& path, const FileKey& key, const volatile uint8_t* cancel, FileSum& sum) const {
    FileWriter file(path, cancel, key);
    file.write(alive_.data(), alive_.size() * sizeof(uint64_t));
    if (mapped_) {
        for (uint32_t row = 0; row < rowCount_; ++row) {
            const uint32_t slot = index_->rows().slotOf(row);
            if (!file.write(&slot, sizeof slot)) break;
        }
    }
    const Codec& codec = vectors_->codec();
    if (!codec.offset().empty()) file.write(codec.offset().data(), codec.dimension() * sizeof(float));
    if (const Product* product = codec.product()) file.write(product->state().data(), product->state().size() * sizeof(float));
    for (uint32_t i = 0; i < clippedCount_; ++i) {
        const uint32_t row = vectors_->clipped().rowAt(i);
        file.write(&row, sizeof row);
    }
    for (uint32_t i = 0; i < clippedCount_; ++i)
        if (!file.write(vectors_->clipped().vectorAt(i), codec.dimension() * sizeof(float))) break;
    return file.finish(sum);
}

}  // namespace kith
