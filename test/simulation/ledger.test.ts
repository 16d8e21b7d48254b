import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { systemRuntime } from "../../libs/base/index.js";
import { openEmbeddedLog } from "../../libs/log/index.js";
import { Ledger } from "./nats.js";

/** What happened is written down once: seed 282 once had a trim that came twice, and 7 records with it. */
test("two who read a log at the same time write down each record once", async () => {
  const directory = await mkdtemp(join(tmpdir(), "kith-ledger-"));
  const log = await openEmbeddedLog({ directory, ...systemRuntime });
  try {
    const name = { collectionId: "c", shard: 1 };
    await log.create(name);
    const ledger = new Ledger();
    ledger.note(name, 0);
    const records = Array.from({ length: 7 }, (_, n) => Buffer.from(`record ${n}`));
    for (const [n, record] of records.entries()) await log.append(name, record, { messageId: `${n}` });
    await Promise.all([ledger.read(log), ledger.read(log, name)]);
    expect(ledger.logs.get("c/1")?.records.map(String)).toEqual(records.map(String));
    await log.append(name, Buffer.from("record 7"), { messageId: "7" });
    await ledger.read(log, name);
    expect(ledger.logs.get("c/1")?.records).toHaveLength(8);
    expect(ledger.violations).toEqual([]);
  } finally {
    await log.close();
    await rm(directory, { recursive: true, force: true });
  }
});
