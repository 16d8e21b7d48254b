import { describe, expect, it } from "vitest";
import type { CollectionHandle, PointInput, UpsertManyOptions, UpsertManyResult } from "../../../libs/client/index.js";
import type { DatasetBatch } from "../../../libs/datasets/index.js";
import { ImportRun, type RejectedRow } from "./run.js";

type UpsertMany = CollectionHandle["upsertMany"];

/** Settles runs of two points, in the order that the test says, and refuses ids that are negative. */
function fakeCollection(order: (runs: number) => number[], seen: PointInput<unknown>[]): { upsertMany: UpsertMany } {
  const upsertMany = async (
    source: Iterable<PointInput> | AsyncIterable<PointInput>,
    options: UpsertManyOptions = {},
  ): Promise<UpsertManyResult> => {
    for await (const point of source) seen.push(point);
    const runs = Math.ceil(seen.length / 2);
    const settled = new Set<number>();
    let upserted = 0;
    for (const run of order(runs)) {
      const firstIndex = run * 2;
      const points = seen.slice(firstIndex, firstIndex + 2);
      for (const [offset, { id }] of points.entries()) {
        if (id === "bad") options.onItemError?.({ index: firstIndex + offset, code: "ZERO_VECTOR", message: "zero" });
        else upserted++;
      }
      for (let i = 0; i < points.length; i++) settled.add(firstIndex + i);
      let resumeIndex = 0;
      while (settled.has(resumeIndex)) resumeIndex++;
      options.onProgress?.({ sent: settled.size, upserted, failed: 0, bytes: 0 });
      options.onBatch?.({ firstIndex, count: points.length, resumeIndex });
    }
    return { sent: seen.length, upserted, failed: 0, bytes: 0, errors: [], token: { collectionId: "", shards: {} } };
  };
  return { upsertMany: upsertMany as UpsertMany };
}

function batchOf(firstRow: number, endRow: number, rows: number[], ids?: (string | undefined)[]): DatasetBatch {
  const matrix = Float32Array.from(rows);
  return {
    rowCount: rows.length,
    columns: [{ name: "", dimension: 1, matrix }],
    firstRow,
    endRow,
    rowNumbers: rows,
    ...(ids && { ids }),
  };
}

async function* of(...batches: DatasetBatch[]): AsyncGenerator<DatasetBatch, void, undefined> {
  yield* batches;
}

function setUp(signal: AbortSignal = new AbortController().signal) {
  const rejected: RejectedRow[] = [];
  const rows: number[] = [];
  const seen: PointInput<unknown>[] = [];
  const options = {
    idOffset: 100,
    batchPoints: 2,
    inFlight: 4,
    ack: "applied" as const,
    mode: "upsert" as const,
    deadlineMs: 1000,
    signal,
    onRejected: (row: RejectedRow) => rejected.push(row),
    onSettled: (row: number) => rows.push(row),
  };
  return { rejected, rows, seen, options };
}

describe("an import", () => {
  it("gives rows without an id their row number and the offset", async () => {
    const { seen, options } = setUp();
    const run = new ImportRun(of(batchOf(0, 5, [0, 2, 4], ["a", undefined, undefined])), 0, options);
    const result = await run.run(fakeCollection((runs) => [...Array(runs).keys()], seen));
    expect(result.upserted).toBe(3);
    expect(seen.map(({ id, vector }) => [id, ...(vector ?? [])])).toEqual([
      ["a", 0],
      [102, 2],
      [104, 4],
    ]);
    expect(run.finished).toBe(true);
  });

  it("never reports a row as done before all rows above it are", async () => {
    // Rows 1 and 3 were bad lines; the second batch covers rows 5 to 9.
    const batches = [batchOf(0, 5, [0, 2, 4]), batchOf(5, 10, [5, 6, 9])];
    const { rows, seen, options } = setUp();
    await new ImportRun(of(...batches), 0, options).run(fakeCollection(() => [2, 0, 1], seen));
    // After points 4,5: nothing. After 0,1: up to row 4, the first that is open. After 2,3: everything.
    expect(rows).toEqual([0, 4, 10]);
  });

  it("names the row of the file of a refused point", async () => {
    const { rejected, seen, options } = setUp();
    const batches = [batchOf(0, 3, [0, 2], ["x", "y"]), batchOf(3, 8, [4, 7], ["z", "bad"])];
    await new ImportRun(of(...batches), 0, options).run(fakeCollection(() => [0, 1], seen));
    expect(rejected).toEqual([{ row: 7, id: "bad", code: "ZERO_VECTOR", message: "zero" }]);
  });

  it("reads no further after Ctrl-C, and what was read is settled", async () => {
    const controller = new AbortController();
    const { rows, seen, options } = setUp(controller.signal);
    async function* endless(): AsyncGenerator<DatasetBatch, void, undefined> {
      for (let row = 0; ; row += 2) {
        if (row === 4) controller.abort();
        yield batchOf(row, row + 2, [row, row + 1]);
      }
    }
    const run = new ImportRun(endless(), 0, options);
    await run.run(fakeCollection((runs) => [...Array(runs).keys()], seen));
    expect(run.finished).toBe(false);
    expect(seen).toHaveLength(6);
    expect(rows.at(-1)).toBe(6);
  });
});
