import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { SeededRandom } from "../base/index.js";
import { eventually, ManualClock } from "../base/testing.js";
import { silentLogger } from "../telemetry/index.js";
import { type AuditEntry, AuditLog, type AuditLogOptions } from "./audit-log.js";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "kith-audit-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const entry: AuditEntry = {
  ...{ caller: "key 1", path: "/kith.v1.Points/Upsert", asked: "docs", collection: "docs", outcome: "OK" },
  ...{ traceId: "", source: "127.0.0.1:1" },
};

function opened(options: Partial<AuditLogOptions> = {}): Promise<AuditLog> {
  const defaults = {
    readSample: () => 0.1,
    maxBytes: 1e6,
    files: 3,
    clock: new ManualClock(),
    random: new SeededRandom(1),
  };
  return AuditLog.open({ ...defaults, file: join(folder, "audit"), logger: silentLogger, ...options });
}

async function lines(file = "audit"): Promise<Record<string, unknown>[]> {
  const text = await readFile(join(folder, file), "utf8");
  return text.split("\n").flatMap((line) => (line === "" ? [] : [JSON.parse(line) as Record<string, unknown>]));
}

test("writes and refusals are kept, and a part of the reads", async () => {
  const log = await opened();
  const read = { ...entry, path: "/kith.v1.Points/Query" };
  log.note(entry);
  log.note({ ...read, outcome: "PERMISSION_DENIED", asked: "alias", collection: "" });
  log.note({ ...entry, path: "/kith.v1.Keys/Create", asked: "", collection: "", traceId: "ab" });
  for (let i = 0; i < 1_000; i++) log.note(read);
  await log.close();
  const [first, second, third, ...reads] = await lines();
  const time = "2026-01-01T00:00:00.000Z";
  const call = "kith.v1.Points/Upsert";
  expect(first).toEqual({
    time,
    caller: "key 1",
    verb: "write",
    call,
    collection: "docs",
    outcome: "OK",
    source: "127.0.0.1:1",
  });
  expect(second).toMatchObject({ verb: "read", asked: "alias", outcome: "PERMISSION_DENIED" });
  expect(third).toMatchObject({ verb: "keys", trace: "ab" });
  expect(reads.length).toBeGreaterThan(50);
  expect(reads.length).toBeLessThan(150);
  expect(reads[0]).toMatchObject({ verb: "read", sample: 0.1 });
  expect((await stat(join(folder, "audit"))).mode & 0o777).toBe(0o600);
});

test("no text of a caller makes a line of its own", async () => {
  const log = await opened();
  const forged = 'x","outcome":"OK"}\n{"caller":"key 2"}\r\u2028\u2029\u0085\u202e\u001b[2J';
  log.note({ ...entry, caller: forged, asked: forged, collection: "", source: forged });
  await log.close();
  const text = await readFile(join(folder, "audit"), "utf8");
  expect(text.trimEnd()).not.toMatch(/[^\x20-\x7e]/);
  expect(await lines()).toMatchObject([{ caller: forged, outcome: "OK" }]);
});

test("a full file is renamed, and the oldest is deleted", async () => {
  const log = await opened({ maxBytes: 1_000 });
  for (let i = 0; i < 40; i++) {
    log.note({ ...entry, caller: `key ${i}` });
    // Each in a write of its own.
    if (i % 5 === 4) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await log.close();
  expect((await readdir(folder)).sort()).toEqual(["audit", "audit.1", "audit.2"]);
  const callers = [...(await lines("audit.2")), ...(await lines("audit.1")), ...(await lines())].map(
    ({ caller }) => caller,
  );
  expect(callers.at(-1)).toBe("key 39");
  expect(callers).toEqual([...callers].sort((a, b) => Number(String(a).slice(4)) - Number(String(b).slice(4))));
  expect(callers.length).toBeLessThan(40);
  const again = await opened({ maxBytes: 1_000 });
  again.note(entry);
  await again.close();
  await expect(opened({ file: join(folder, "no", "audit") })).rejects.toMatchObject({ code: "INVALID_CONFIG" });
});

test("a file that something else has renamed or deleted is made anew, and one that cannot be is tried again", async () => {
  let failures = 0;
  const logger = { ...silentLogger, error: () => void failures++ };
  const log = await opened({ maxBytes: 1_000, files: 2, logger });
  const noted = async (caller: string, file = "audit"): Promise<void> => {
    log.note({ ...entry, caller });
    await eventually(async () => expect((await lines(file)).at(-1)).toMatchObject({ caller }));
  };
  await noted("first");
  await rename(join(folder, "audit"), join(folder, "audit-of-yesterday"));
  await noted("second");
  expect((await lines("audit-of-yesterday")).map(({ caller }) => caller)).toEqual(["first"]);
  expect((await stat(join(folder, "audit"))).mode & 0o777).toBe(0o600);
  await rm(join(folder, "audit"));
  await noted("third");

  // In the way of the file that is full.
  await mkdir(join(folder, "audit.1", "a"), { recursive: true });
  const long = { ...entry, caller: "x".repeat(1_000) };
  log.note(long);
  await eventually(() => expect(failures).toBe(1));
  await rm(join(folder, "audit.1"), { recursive: true });
  await noted("fourth");
  await log.close();
});
