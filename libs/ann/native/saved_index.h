// An index in files: its rows, in one file or several that were appended one after the other, the graph in usearch's own format, and
// what belongs to rows besides (which are alive, their slots, and what an i8 codec needs).
#pragma once
#include <memory>
#include <string>
#include <vector>
#include "files.h"
#include "index.h"

namespace kith {

/** Some rows in a file of their own, which is never changed. */
struct RowsFile {
    std::string path;
    uint32_t rowCount = 0;
    FileSum sum;
    FileKey key = {};
};

/** What was saved: the sums of the files, and what is needed to read them again. */
struct SavedIndex {
    std::vector<RowsFile> rows;
    /** The rows as they were given, where that is kept. */
    std::vector<RowsFile> given;
    FileSum graph, meta;
    /** Of graph and meta. */
    FileKey key = {};
    uint32_t rowCount = 0;
    uint32_t aliveCount = 0;
    uint32_t graphRowCount = 0;
    uint32_t entryRow = 0;
    /** Rows of the graph when all of them were last looked at. */
    uint32_t checkedRowCount = 0;
    bool mapped = false;
    /** How the rows are written. */
    Code code = codeF32;
    /** Rows of one generation can be appended to those of the same. */
    uint32_t generation = 0;
    bool offsets = false;
    /** Bits of the scale of i8 and i16. */
    uint32_t scaleBits = 0;
    uint32_t clippedCount = 0;
    /** Of the first format: the rows are i8 codes of a calibration that was not final, and the file besides holds the originals. */
    bool originals = false;
};

/** The state of an index at one moment, taken on the caller's thread; written later on another, beside the writer. */
class Snapshot {
public:
    /** Rows below `savedRows` are in files already, if they are of this generation; and those below `savedGiven` as they were given. */
    Snapshot(std::shared_ptr<Index> index, uint32_t savedRows, uint32_t generation, uint32_t savedGiven);

    /** The first row that is not in a file yet. */
    uint32_t firstRow() const { return firstRow_; }
    /** Writes the files (temporary name, fsync, rename); none for rows where there are no new ones. */
    Failure write(const std::string& rowsPath, const std::string& givenPath, const std::string& graphPath, const std::string& metaPath,
                  const FileKey& key, const volatile uint8_t* cancel, SavedIndex& saved);

private:
    Failure writeRows(const Vectors& vectors, uint32_t first, const std::string& path, const FileKey& key, const volatile uint8_t* cancel,
                      std::vector<RowsFile>& files) const;
    Failure writeGraph(const std::string& path, const FileKey& key, const volatile uint8_t* cancel, FileSum& sum) const;
    Failure writeMeta(const std::string& path, const FileKey& key, const volatile uint8_t* cancel, FileSum& sum) const;

    std::shared_ptr<Index> index_;
    std::shared_ptr<const Vectors> vectors_;
    uint64_t entry_;
    uint32_t graphRows_;
    uint32_t rowCount_;
    uint32_t firstRow_;
    uint32_t firstGiven_;
    uint32_t clippedCount_;
    uint32_t checkedRows_;
    bool mapped_;
    std::vector<uint64_t> alive_;
};

/** Reads an index back; every file must have the size and checksum given. Throws where memory is missing. */
Failure loadIndex(const SavedIndex& saved, const std::string& graphPath, const std::string& metaPath, const volatile uint8_t* cancel,
                  Index& index, Scratch& scratch);

}  // namespace kith
