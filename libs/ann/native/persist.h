// An index in files: rows (the arena), graph (usearch's own serialisation), and meta (alive bits, slots, calibration).
#pragma once
#include <memory>
#include <string>
#include <vector>
#include "index.h"

namespace kith {

struct FileSum {
    uint64_t bytes = 0;
    uint32_t crc = 0;
};

/** What was saved: the sums of the files, and what is needed to read them again. */
struct SavedIndex {
    FileSum rows, graph, meta;
    uint32_t rowCount = 0;
    uint32_t aliveCount = 0;
    uint32_t graphRowCount = 0;
    uint32_t entryRow = 0;
    /** Rows of the graph when all of them were last looked at; 0 in files of versions that did not do that. */
    uint32_t checkedRowCount = 0;
    bool mapped = false;
    bool calibrated = true;
    bool offsets = false;
    /** Bits of the i8 scale. */
    uint32_t scaleBits = 0;
};

/** As JSON, by the names that addon.cpp reads back. */
std::string describe(const SavedIndex& saved);

/** The state of an index at one moment, taken on the caller's thread; written later on another. Pauses the writer. */
class Snapshot {
public:
    explicit Snapshot(std::shared_ptr<Index> index);
    ~Snapshot();
    Snapshot(const Snapshot&) = delete;
    Snapshot& operator=(const Snapshot&) = delete;

    /** Writes the three files (temporary name, fsync, rename). The writer goes on as soon as the graph is written. */
    Failure write(const std::string& rowsPath, const std::string& graphPath, const std::string& metaPath,
                  const volatile uint8_t* cancel, SavedIndex& saved);

private:
    void resumeWriter();

    std::shared_ptr<Index> index_;
    bool paused_ = true;
    uint32_t rowCount_;
    bool mapped_;
    bool calibrated_;
    float scale_;
    std::vector<float> offset_;
    std::vector<uint64_t> alive_;
    /** Copies of rows and originals, while i8 rows may still be encoded again. */
    std::vector<char> rowsCopy_;
    std::vector<float> sample_;
};

/** Reads an index back; every file must have the size and checksum given. */
Failure loadIndex(const std::string& rowsPath, const std::string& graphPath, const std::string& metaPath,
                  const SavedIndex& saved, const volatile uint8_t* cancel, Index& index, Scratch& scratch);

}  // namespace kith
