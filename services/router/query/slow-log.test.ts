import { expect, test } from "vitest";
import { KithError, sleep } from "../../../libs/base/index.js";
import { ManualClock } from "../../../libs/base/testing.js";
import { filterFromJson, parseFilter } from "../../../libs/filter/index.js";
import { filterToWire, pb } from "../../../libs/wire/index.js";
import { SlowLog } from "./slow-log.js";
import { shapeOfGroups, shapeOfQuery, shapeOfRead } from "./shape.js";

async function took(
  log: SlowLog,
  clock: ManualClock,
  ms: number,
  collection: string,
  error?: KithError,
): Promise<void> {
  const query = { kind: "query", collection, shape: () => "s" };
  const running = log.watch(query, async () => {
    await sleep(clock, ms);
    if (error !== undefined) throw error;
  });
  running.catch(() => undefined);
  await clock.advance(ms);
  await running.catch(() => undefined);
}

test("what takes long is kept, newest first, in bounds; of many in one second it is counted how many there were", async () => {
  const clock = new ManualClock();
  const log = new SlowLog(clock, "n1", () => 100);
  await took(log, clock, 99, "fast");
  await took(log, clock, 100, "slow");
  await took(log, clock, 250, "failed", new KithError("DEADLINE_EXCEEDED", "late"));
  expect(log.list({ limit: 0 })).toMatchObject({
    queries: [
      { collection: "failed", tookUs: 250_000, errorCode: "DEADLINE_EXCEEDED", node: "n1" },
      { collection: "slow", tookUs: 100_000, errorCode: "", shape: "s", kind: "query" },
    ],
    skipped: 0,
    thresholdMs: 100,
  });
  expect(log.list({ limit: 1 }).queries).toHaveLength(1);
  await clock.advance(1_000 - (clock.nowMs() % 1_000));
  // All of them end in one second.
  const running = Array.from({ length: 15 }, () =>
    log.watch({ kind: "query", collection: "many", shape: () => "" }, () => sleep(clock, 200)),
  );
  await clock.advance(200);
  await Promise.all(running);
  expect(log.list({ limit: 0 })).toMatchObject({ queries: { length: 12 }, skipped: 5 });
  for (let i = 0; i < 300; i++) await took(log, clock, 1_000, "later");
  expect(log.list({ limit: 0 }).queries).toHaveLength(256);
});

test("a shape tells what was asked for, and no vector, id or value", () => {
  const filter = filterToWire(
    parseFilter(
      'year > 1990 and genre in (secret1, secret2) and not (title = "secret3" or has_id(4711)) and count(tags) >= 2',
    ),
  );
  const query = pb.QueryRequest.fromPartial({
    collection: "c",
    prefetch: [
      pb.Prefetch.fromPartial({
        query: { query: { $case: "nearest", value: {} } },
        limit: 20,
        using: "image",
        exact: true,
      }),
      pb.Prefetch.fromPartial({ query: { query: { $case: "orderBy", value: { key: "year" } } }, filter }),
    ],
    query: { query: { $case: "fusion", value: {} } },
    limit: 10,
    offset: 5,
  });
  const shape = shapeOfQuery(query);
  expect(shape).toBe(
    'fusion of [nearest "image" limit 20 exact, orderBy by year where all of (year range, genre match anyKeywords of 2, ' +
      "tags valuesCount) and none of (one of (title match keyword, id of 1))] limit 10 offset 5",
  );
  expect(shape).not.toMatch(/secret|4711|1990/);
  const nested = filterToWire(
    filterFromJson({ must: [{ nested: { key: "crew", filter: { must: [{ is_null: { key: "x" } }] } } }] }),
  );
  expect(shapeOfRead("count", nested)).toBe("count where all of (crew nested all of (x isNull))");
  expect(shapeOfRead("count", undefined)).toBe("count");
  const plain = pb.QueryRequest.fromPartial({ vector: [1, 2] as never, ef: 7 });
  expect(shapeOfGroups(pb.QueryGroupsRequest.fromPartial({ query: plain, groupBy: "a", limit: 2, groupSize: 3 }))).toBe(
    'nearest "" ef 7 grouped by a limit 2 x 3',
  );
});
