import { expect, test } from "vitest";
import { describeLog } from "../log.conformance.js";
import { FakeLog } from "./fake-log.js";
import { memoryDatabase } from "./memory-database.js";

describeLog("fake", async () => {
  const database = memoryDatabase();
  let log: FakeLog;
  return {
    open: async () => {
      log = await FakeLog.open(database);
      return log;
    },
    outage: {
      begin: async () => {
        log.available = false;
      },
      end: async () => {
        log.available = true;
      },
    },
    dispose: async () => undefined,
  };
});

test("a log that does not know its last records says an earlier end, and goes on from the true one", async () => {
  const log = await FakeLog.open();
  const name = { collectionId: "c", shard: 0 };
  await log.create(name);
  await log.fill(name, 3);
  log.unknownRecords = 2;
  expect(await log.state(name)).toMatchObject({ firstSequence: 1, lastSequence: 1 });
  expect(await log.append(name, new Uint8Array(0), { messageId: "a" })).toEqual({ sequence: 4, duplicate: false });
  log.unknownRecords = 9;
  expect(await log.state(name)).toMatchObject({ firstSequence: 1, lastSequence: 0 });
  await log.close();
});
