import type { FileHandle } from "node:fs/promises";
import type { ColumnMetaData, PageHeader, RowGroup } from "hyparquet";

/** Rows that are made at once; what a file names more of in one group would fill memory with rows that it need not hold. */
const rowsMax = 8_388_608;
/** Values that the pages of a read name together: each costs some bytes of memory, and none in the file where all are equal. */
const valuesMax = 134_217_728;
/** Pages of one column in a group: the smallest that writers make have some kilobytes. */
const pagesMax = 1_000_000;
/** First bytes of a page that are looked at for its header, and as many as one may have. */
const headBytes = 16 * 1024;
const headBytesMax = 4 * 1024 * 1024;

export interface PageBounds {
  /** What the pages of a read may unpack to, in bytes. */
  unpackedMaxBytes: number;
  /** Size of the file, in bytes. */
  sizeBytes: number;
  /** Rows of a read, where it takes by the index of the pages those alone that have them; undefined: it takes all. */
  sliceRows: number | undefined;
}

interface Page {
  at: number;
  isDictionary: boolean;
  unpackedBytes: number;
  values: number;
}

/**
 * Looks at the headers of all pages of a group before anything is unpacked: throws where they, or the table of contents, name more than may be read at
 * once, or places beyond the file. What reads them allocates what they name.
 */
export async function checkPages(file: FileHandle, group: RowGroup, rows: number, bounds: PageBounds): Promise<void> {
  if (rows > rowsMax) throw new RangeError(`${rows} rows are named, and at most ${rowsMax} are read at once`);
  const sums = { unpackedBytes: 0, values: 0 };
  for (const { meta_data: column, offset_index_offset: at, offset_index_length: length } of group.columns) {
    if (column === undefined) continue;
    const pages = await pagesOf(file, rangeOf(column, bounds.sizeBytes));
    const ofRead =
      bounds.sliceRows === undefined
        ? pages
        : largestRead(pages, await indexOf(file, Number(at), Number(length), bounds.sizeBytes), bounds.sliceRows);
    for (const page of ofRead) {
      sums.unpackedBytes += page.unpackedBytes;
      sums.values += page.values;
      checkSums(page.at, sums.unpackedBytes, sums.values, bounds);
    }
  }
}

async function pagesOf(file: FileHandle, { from, to }: { from: number; to: number }): Promise<Page[]> {
  const { parquetHeader } = await import("hyparquet/src/column.js");
  const pages: Page[] = [];
  for (let at = from; at < to - 1; ) {
    const { header, headerBytes } = await headerAt(file, at, to, parquetHeader);
    const { type, uncompressed_page_size: unpackedBytes, compressed_page_size: packedBytes } = header;
    const named = header.data_page_header ?? header.data_page_header_v2 ?? header.dictionary_page_header;
    const values = Number(named?.num_values ?? 0);
    if (!isCount(unpackedBytes) || !isCount(packedBytes) || !isCount(values)) {
      throw new RangeError(
        `the page at byte ${at} names ${unpackedBytes} bytes, ${packedBytes} packed ones, ${values} values`,
      );
    }
    if (pages.length === pagesMax) throw new RangeError(`there are more than ${pagesMax} pages up to byte ${at}`);
    pages.push({ at, isDictionary: type === "DICTIONARY_PAGE", unpackedBytes, values });
    at += headerBytes + packedBytes;
  }
  return pages;
}

/** Of all runs of pages that have so many rows in a row, and the dictionary, the one that unpacks to most. */
function largestRead(pages: readonly Page[], index: readonly { at: number; row: number }[], rows: number): Page[] {
  const data = pages.filter(({ isDictionary }) => !isDictionary);
  // An index that names other places would have anything read as a page, and as many of them.
  const isTheirs =
    index.length === data.length &&
    index.every(({ at, row }, i) => at === data[i]?.at && row > (index[i - 1]?.row ?? -1));
  if (!isTheirs)
    throw new RangeError("the index of pages does not name the pages that there are, in the order of their rows");
  let largest = { from: 0, to: 0, unpackedBytes: 0 };
  let [to, unpackedBytes] = [0, 0];
  for (let from = 0; from < data.length; from++) {
    // A read may begin at the last row of the first page.
    const end = (index[from + 1]?.row ?? Infinity) - 1 + rows;
    for (; to < data.length && (to === from || (index[to]?.row ?? 0) < end); to++) {
      unpackedBytes += data[to]?.unpackedBytes ?? 0;
    }
    if (unpackedBytes > largest.unpackedBytes) largest = { from, to, unpackedBytes };
    unpackedBytes -= data[from]?.unpackedBytes ?? 0;
  }
  return [...pages.filter(({ isDictionary }) => isDictionary), ...data.slice(largest.from, largest.to)];
}

function checkSums(at: number, unpackedBytes: number, values: number, { unpackedMaxBytes }: PageBounds): void {
  if (unpackedBytes > unpackedMaxBytes) {
    throw new RangeError(
      `pages up to the one at byte ${at} unpack to ${unpackedBytes} bytes, and at most ${unpackedMaxBytes} are read at once`,
    );
  }
  if (values <= valuesMax) return;
  throw new RangeError(
    `pages up to the one at byte ${at} name ${values} values, and at most ${valuesMax} are read at once`,
  );
}

/** Where the pages of a column are. */
function rangeOf(column: ColumnMetaData, sizeBytes: number): { from: number; to: number } {
  const { dictionary_page_offset: dictionary, data_page_offset: data, total_compressed_size: length } = column;
  const from = Number(dictionary || data);
  const to = from + Number(length);
  if (isCount(from) && from <= to && to <= sizeBytes) return { from, to };
  throw new RangeError(
    `the pages of "${column.path_in_schema.join(".")}" are named at bytes ${from} to ${to} of ${sizeBytes}`,
  );
}

async function headerAt(
  file: FileHandle,
  at: number,
  to: number,
  parse: (reader: { view: DataView; offset: number }) => PageHeader,
): Promise<{ header: PageHeader; headerBytes: number }> {
  for (let length = headBytes; ; length *= 16) {
    const bytes = await bytesAt(file, at, Math.min(length, to - at));
    const reader = { view: new DataView(bytes.buffer, bytes.byteOffset, bytes.length), offset: 0 };
    try {
      return { header: parse(reader), headerBytes: reader.offset };
    } catch (error) {
      // It may go on behind these bytes.
      if (length >= to - at || length >= headBytesMax) throw error;
    }
  }
}

async function bytesAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  const { bytesRead } = await file.read(bytes, 0, length, at);
  if (bytesRead < length) throw new RangeError(`the file ends at byte ${at + bytesRead}`);
  return bytes;
}

async function indexOf(
  file: FileHandle,
  from: number,
  length: number,
  sizeBytes: number,
): Promise<{ at: number; row: number }[]> {
  if (!isCount(from) || !isCount(length) || from + length > sizeBytes) {
    throw new RangeError(`the index of pages is named at bytes ${from} to ${from + length} of ${sizeBytes}`);
  }
  const { readOffsetIndex } = await import("hyparquet/src/indexes.js");
  const bytes = await bytesAt(file, from, length);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return readOffsetIndex({ view, offset: 0 }).page_locations.map(({ offset, first_row_index: row }) => ({
    at: Number(offset),
    row: Number(row),
  }));
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
