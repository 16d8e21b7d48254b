#include <algorithm>
#include <cstring>
#include "saved_index.h"

namespace kith {
namespace {

/** Elements of a vector from a file. */
template <class Element> bool readInto(FileReader& file, std::vector<Element>& to) { return file.read(to.data(), to.size() * sizeof(Element)); }

/** What the file besides the rows holds. */
struct Meta {
    std::vector<uint64_t> alive;
    std::vector<uint32_t> slots;
    std::vector<float> offset;
    /** Of product codes. */
    std::vector<float> product;
    std::vector<uint32_t> clippedRows;
    std::vector<float> clippedVectors;
    std::vector<float> originals;

    Meta(const SavedIndex& saved, size_t dimension)
        : alive((static_cast<size_t>(saved.rowCount) + 63) / 64), slots(saved.mapped ? saved.rowCount : 0), offset(saved.offsets ? dimension : 0),
          product(isProduct(saved.code) ? Product::stateNumbers(static_cast<uint32_t>(dimension), saved.code) : 0),
          clippedRows(saved.clippedCount), clippedVectors(saved.clippedCount * dimension),
          originals(saved.originals ? saved.rowCount * dimension : 0) {}
    uint64_t bytes() const {
        return alive.size() * 8 + 4 * (slots.size() + offset.size() + product.size() + clippedRows.size() + clippedVectors.size() + originals.size());
    }
    bool read(FileReader& file) {
        return readInto(file, alive) && readInto(file, slots) && readInto(file, offset) && readInto(file, product) && readInto(file, clippedRows) &&
               readInto(file, clippedVectors) && readInto(file, originals);
    }
};

Failure loadGraph(const std::string& path, const SavedIndex& saved, const volatile uint8_t* cancel, Index& index) {
    if (saved.graphRowCount == 0) return {};
    FileReader file(path, saved.graph, cancel, saved.key.of(graphFileNumber));
    if (file.failure() || file.verifyAhead()) return file.failure();
    BufferedReader reader(file, saved.graph.bytes);
    Graph& graph = index.graph();
    Failure failure;
    // index_gt lets no exception through. It asks for nothing where it got no memory for a node.
    auto result = graph.load_from_stream([&](void* to, size_t bytes) {
        failure = guarded([&]() -> Failure {
            if (!to || bytes == 0) return {Failure::resources, 0, outOfGraphMemory};
            return reader.read(to, bytes) ? Failure{} : file.failure() ? file.failure() : corrupt(path, "ends too early");
        });
        return !failure;
    });
    // Released, because index_gt throws an error that nobody has taken.
    const char* error = result.error.release();
    if (failure) return failure;
    if (error && std::strcmp(error, "Out of memory") == 0) return {Failure::resources, 0, outOfGraphMemory};
    if (error) return corrupt(path, std::string("cannot be read as a graph: ") + error);
    if (!reader.atEnd() || graph.size() != saved.graphRowCount || graph.connectivity() != index.options().m ||
        saved.entryRow >= saved.graphRowCount || graph.level_of(saved.entryRow) != graph.max_level())
        return corrupt(path, "does not fit the manifest");
    return file.verify();
}

/** Reads the rows of all files into the vectors, one after the other. */
Failure loadRows(const SavedIndex& saved, const std::vector<RowsFile>& files, const volatile uint8_t* cancel, Vectors& vectors, uint8_t number) {
    vectors.reserve(saved.rowCount);
    uint32_t row = 0;
    for (const RowsFile& part : files) {
        const size_t bytes = static_cast<size_t>(part.rowCount) * vectors.codec().rowBytes();
        if (part.sum.bytes != bytes || part.rowCount > saved.rowCount - row) return corrupt(part.path, "does not fit the manifest");
        FileReader file(part.path, part.sum, cancel, part.key.of(number));
        if (bytes > 0) file.read(vectors.rowForWriting(row), bytes);
        if (file.verify()) return file.failure();
        row += part.rowCount;
    }
    return row == saved.rowCount ? Failure{} : corrupt(files.empty() ? "the index" : files.back().path, "lacks rows of the manifest");
}

}  // namespace

Failure loadIndex(const SavedIndex& saved, const std::string& graphPath, const std::string& metaPath, const volatile uint8_t* cancel,
                  Index& index, Scratch& scratch) {
    const IndexOptions& options = index.options();
    const size_t dimension = options.dimension;
    if (saved.graphRowCount > saved.rowCount || saved.clippedCount > saved.rowCount || saved.code >= codeCount || saved.code == formerBinaryCode ||
        (isProduct(saved.code) && (!isProduct(options.datatype) || productCode(options.datatype) != saved.code || !index.given())))
        return corrupt(graphPath, "does not fit the manifest");
    Meta meta(saved, dimension);
    {
        FileReader file(metaPath, saved.meta, cancel, saved.key.of(metaFileNumber));
        if (!file.failure() && meta.bytes() != saved.meta.bytes) return corrupt(metaPath, "does not fit the manifest");
        if (!meta.read(file) || file.verify()) return file.failure();
    }
    float scale;
    std::memcpy(&scale, &saved.scaleBits, sizeof scale);
    if (!(scale > 0)) scale = 1;
    const Code code = saved.originals ? codeF32 : saved.code;
    Codec codec = isProduct(code) ? Codec(options.dimension, options.metric, code, Product(options.dimension, code, std::move(meta.product)))
                                  : Codec(options.dimension, options.metric, code, scale, std::move(meta.offset));
    Vectors& vectors = index.startVectors(std::move(codec), saved.generation);
    if (saved.originals) {
        vectors.reserve(saved.rowCount);
        vectors.write(0, meta.originals.data(), saved.rowCount);
    } else if (Failure failure = loadRows(saved, saved.rows, cancel, vectors, rowsFileNumber)) {
        return failure;
    }
    if (Vectors* given = index.givenForLoading()) {
        if (Failure failure = loadRows(saved, saved.given, cancel, *given, givenFileNumber)) return failure;
        given->letGo(saved.rowCount);
    }
    if (!vectors.restoreClipped(meta.clippedRows, meta.clippedVectors)) throw Refusal(Failure::resources, outOfRowMemory);
    if (Failure failure = loadGraph(graphPath, saved, cancel, index)) return failure;
    index.rowsForLoading().restore(saved.rowCount, meta.alive, meta.slots);
    index.adopt(saved.graphRowCount, saved.entryRow, saved.checkedRowCount, scratch);
    return {};
}

}  // namespace kith
