import { randomBytes } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { type ErrorCode, KithError, sleep, systemClock } from "../base/index.js";
import { eventually } from "../base/testing.js";
import { valueBytesMax } from "./limits.js";
import type { Catalog, CatalogChange, CatalogWatch } from "./port.js";

/** One adapter's storage, opened as often as the suite wants. */
export interface CatalogHarness {
  open(): Promise<Catalog>;
  /** Makes the storage unavailable until `end`. */
  outage: { begin(): Promise<void>; end(): Promise<void> };
  /**
   * A second, independent client of the same storage that still works while the one under test is cut off, where the
   * adapter can have one: for changes made while a watcher is away.
   */
  cutOff?: { begin(): Promise<Catalog>; end(): Promise<void> };
  dispose(): Promise<void>;
}

export async function codeOf(promise: Promise<unknown>): Promise<ErrorCode | undefined> {
  try {
    await promise;
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(KithError);
    return (error as KithError).code;
  }
}

/** A watcher that keeps all it is told: "key=value" for a put, "-key" for a delete, "ready". */
class Recorder {
  readonly events: string[] = [];
  readonly revisions: number[] = [];
  readonly state = new Map<string, string>();
  readonly watch: CatalogWatch;

  constructor(catalog: Catalog, prefix: string, trimmed: string) {
    this.watch = catalog.watch(prefix, {
      onChange: (change: CatalogChange) => {
        if (change.kind === "put") {
          this.events.push(`${change.entry.key.slice(trimmed.length)}=${change.entry.value}`);
          this.revisions.push(change.entry.revision);
          this.state.set(change.entry.key.slice(trimmed.length), change.entry.value);
        } else {
          this.events.push(`-${change.key.slice(trimmed.length)}`);
          this.revisions.push(change.revision);
          this.state.delete(change.key.slice(trimmed.length));
        }
      },
      onReady: () => this.events.push("ready"),
    });
  }
}

/** What both adapters of the Catalog port must do. */
export function describeCatalog(adapter: string, makeHarness: () => Promise<CatalogHarness>): void {
  describe(`catalog: ${adapter}`, () => {
    let harness: CatalogHarness;
    let catalog: Catalog;
    let root: string;
    const watches: CatalogWatch[] = [];

    const record = (prefix: string): Recorder => {
      const recorder = new Recorder(catalog, prefix, `${root}.`);
      watches.push(recorder.watch);
      return recorder;
    };

    beforeAll(async () => {
      harness = await makeHarness();
      catalog = await harness.open();
    });
    afterEach(async () => {
      await Promise.all(watches.splice(0).map((watch) => watch.close()));
      root = "";
    });
    afterAll(async () => {
      await catalog.close();
      await harness.dispose();
    });
    const freshRoot = (): void => {
      root = `t_${randomBytes(6).toString("hex")}`;
    };

    it("creates, reads, updates and deletes by revision", async () => {
      freshRoot();
      const key = `${root}.collections.c-1`;
      expect(await catalog.get(key)).toBeUndefined();
      const made = await catalog.create(key, '{"a":1}');
      expect(made).toEqual({ key, value: '{"a":1}', revision: made.revision });
      expect(await catalog.get(key)).toEqual(made);
      expect(await codeOf(catalog.create(key, "{}"))).toBe("ALREADY_EXISTS");
      const changed = await catalog.update(key, '{"ä":"€"}', made.revision);
      expect(changed.revision).toBeGreaterThan(made.revision);
      expect(await catalog.get(key)).toEqual(changed);
      expect(await codeOf(catalog.update(key, "{}", made.revision))).toBe("REVISION_MISMATCH");
      expect(await codeOf(catalog.delete(key, made.revision))).toBe("REVISION_MISMATCH");
      expect(await catalog.get(key)).toEqual(changed);
      await catalog.delete(key, changed.revision);
      expect(await catalog.get(key)).toBeUndefined();
      await catalog.delete(key, changed.revision);
      expect(await codeOf(catalog.update(key, "{}", changed.revision))).toBe("REVISION_MISMATCH");
    });

    it("never repeats a revision when a key is made anew", async () => {
      freshRoot();
      const key = `${root}.again`;
      const first = await catalog.create(key, "1");
      await catalog.delete(key, first.revision);
      const second = await catalog.create(key, "2");
      expect(second.revision).toBeGreaterThan(first.revision);
      expect(await codeOf(catalog.update(key, "3", first.revision))).toBe("REVISION_MISMATCH");
      expect(await codeOf(catalog.update(`${root}.never`, "3", 1))).toBe("REVISION_MISMATCH");
    });

    it("lets one of many concurrent writers win", async () => {
      freshRoot();
      const key = `${root}.lease`;
      const creations = await Promise.allSettled(
        Array.from({ length: 12 }, (_, index) => catalog.create(key, `${index}`)),
      );
      const won = creations.filter((result) => result.status === "fulfilled");
      expect(won).toHaveLength(1);
      const { revision } = (won[0] as PromiseFulfilledResult<{ revision: number }>).value;
      const updates = await Promise.all(
        Array.from({ length: 12 }, (_, index) => codeOf(catalog.update(key, `u${index}`, revision))),
      );
      expect(updates.filter((code) => code === undefined)).toHaveLength(1);
      expect(updates.filter((code) => code === "REVISION_MISMATCH")).toHaveLength(11);
    });

    it("lists what lies under a prefix, in key order", async () => {
      freshRoot();
      for (const key of ["b.2", "a.1", "b.10", "b", "bb.1", "b.1.x"]) await catalog.create(`${root}.${key}`, key);
      const keys = async (prefix: string) => (await catalog.list(prefix)).map((entry) => entry.value);
      expect(await keys(root)).toEqual(["a.1", "b", "b.1.x", "b.10", "b.2", "bb.1"]);
      expect(await keys(`${root}.b`)).toEqual(["b.1.x", "b.10", "b.2"]);
      expect(await keys(`${root}.none`)).toEqual([]);
      expect((await catalog.list("")).length).toBeGreaterThanOrEqual(6);
      const entry = await catalog.get(`${root}.b.2`);
      await catalog.delete(`${root}.b.2`, entry?.revision ?? 0);
      expect(await keys(`${root}.b`)).toEqual(["b.1.x", "b.10"]);
    });

    it("refuses bad names, sizes and times", async () => {
      for (const key of ["", ".", "a..b", "a.", ".a", "a/b", "a b", "../x", "a.*", "a.>", "ä", "a\n"]) {
        expect(await codeOf(catalog.create(key, "{}"))).toBe("INVALID_NAME");
        expect(await codeOf(catalog.get(key))).toBe("INVALID_NAME");
      }
      expect(await codeOf(catalog.list("a.*"))).toBe("INVALID_NAME");
      expect(await codeOf(catalog.create("x.big", "x".repeat(valueBytesMax + 1)))).toBe("PAYLOAD_TOO_LARGE");
      expect(await codeOf(catalog.create("x.ttl", "{}", { ttlMs: 0 }))).toBe("INVALID_ARGUMENT");
      expect(await codeOf(catalog.create("x.ttl", "{}", { ttlMs: Number.NaN }))).toBe("INVALID_ARGUMENT");
    });

    it("holds values up to the limit", async () => {
      freshRoot();
      const value = JSON.stringify("é".repeat(400 * 1024));
      await catalog.create(`${root}.big`, value);
      expect((await catalog.get(`${root}.big`))?.value).toBe(value);
      expect((await catalog.list(root))[0]?.value).toBe(value);
    });

    it("watches: what is there, ready, then the changes in order", async () => {
      freshRoot();
      const one = await catalog.create(`${root}.w.one`, "1");
      await catalog.create(`${root}.w.two`, "2");
      await catalog.create(`${root}.other`, "x");
      const gone = await catalog.create(`${root}.w.gone`, "0");
      await catalog.delete(`${root}.w.gone`, gone.revision);
      const recorder = record(`${root}.w`);
      expect(recorder.events).toEqual([]);
      await eventually(() => expect(recorder.events.at(-1)).toBe("ready"));
      expect([...recorder.events].sort()).toEqual(["ready", "w.one=1", "w.two=2"]);
      let latest = one;
      for (let turn = 0; turn < 20; turn++) latest = await catalog.update(latest.key, `${turn}`, latest.revision);
      await catalog.update(`${root}.other`, "y", (await catalog.get(`${root}.other`))?.revision ?? 0);
      await catalog.delete(latest.key, latest.revision);
      await catalog.create(latest.key, "anew");
      const expected = [...Array.from({ length: 20 }, (_, turn) => `w.one=${turn}`), "-w.one", "w.one=anew"];
      await eventually(() => expect(recorder.events.at(-1)).toBe("w.one=anew"));
      // Values that were superseded before they were delivered may be left out; the order may not change.
      const places = recorder.events.slice(3).map((event) => expected.indexOf(event));
      expect(places).toEqual([...new Set(places)].sort((a, b) => a - b));
      expect(places).not.toContain(-1);
      expect(recorder.revisions.slice(2)).toEqual([...recorder.revisions.slice(2)].sort((a, b) => a - b));
      await recorder.watch.close();
      const seen = recorder.events.length;
      await catalog.create(`${root}.w.three`, "3");
      const witness = record(`${root}.w`);
      await eventually(() => expect(witness.events).toContain("ready"));
      expect(witness.events).toContain("w.three=3");
      expect(recorder.events).toHaveLength(seen);
    });

    it("says up to which revision a key is gone", async () => {
      freshRoot();
      const recorder = record(root);
      const told = (event: string) =>
        eventually(() => {
          expect(recorder.events.at(-1)).toBe(event);
          return recorder.revisions.at(-1) ?? 0;
        });
      await told("ready");
      for (const options of [undefined, { ttlMs: 3_000 }]) {
        const entry = await catalog.create(`${root}.a`, "1", options);
        await told("a=1");
        if (options === undefined) await catalog.delete(entry.key, entry.revision);
        const gone = await told("-a");
        expect(gone).toBeGreaterThanOrEqual(entry.revision);
        const anew = await catalog.create(entry.key, "2");
        expect(anew.revision).toBeGreaterThan(gone);
        await told("a=2");
        await catalog.delete(anew.key, anew.revision);
        expect(await told("-a")).toBeGreaterThanOrEqual(anew.revision);
      }
    });

    it("is ready at once where nothing is there", async () => {
      freshRoot();
      const recorder = record(`${root}.nothing`);
      await eventually(() => expect(recorder.events).toEqual(["ready"]));
      await catalog.create(`${root}.nothing.first`, "1");
      await eventually(() => expect(recorder.events).toEqual(["ready", "nothing.first=1"]));
    });

    it("lets a key vanish after its time, unless it is updated", async () => {
      freshRoot();
      const recorder = record(root);
      const lost = await catalog.create(`${root}.lost`, "1", { ttlMs: 1_000 });
      let kept = await catalog.create(`${root}.kept`, "0", { ttlMs: 4_000 });
      await catalog.create(`${root}.stays`, "s");
      // Longer than its time, with pauses that are much shorter: a disk may be slow for a while.
      for (let beat = 1; beat <= 10; beat++) {
        await sleep(systemClock, 500);
        kept = await catalog.update(kept.key, `${beat}`, kept.revision, { ttlMs: 4_000 });
      }
      await eventually(() => expect(recorder.events).toContain("-lost"));
      expect(await catalog.get(lost.key)).toBeUndefined();
      expect((await catalog.get(kept.key))?.value).toBe("10");
      expect(await codeOf(catalog.update(lost.key, "2", lost.revision))).toBe("REVISION_MISMATCH");
      const anew = await catalog.create(lost.key, "3");
      expect(anew.revision).toBeGreaterThan(lost.revision);
      await eventually(() => expect(recorder.events).toContain("-kept"));
      expect((await catalog.list(root)).map((entry) => entry.value)).toEqual(["3", "s"]);
      await eventually(() => expect(recorder.events.at(-1)).toBe("-kept"));
      expect([...recorder.state]).toEqual([
        ["stays", "s"],
        ["lost", "3"],
      ]);
    });

    it("makes a key lasting when it is updated without a time", async () => {
      freshRoot();
      const entry = await catalog.create(`${root}.once`, "1", { ttlMs: 3_000 });
      await catalog.update(entry.key, "2", entry.revision);
      // Made later: when its time is over, that of the first one would be too.
      const other = await catalog.create(`${root}.other`, "1", { ttlMs: 3_000 });
      await eventually(async () => expect(await catalog.get(other.key)).toBeUndefined());
      expect((await catalog.get(entry.key))?.value).toBe("2");
    });

    it("keeps everything when it is opened again", async () => {
      freshRoot();
      const entry = await catalog.create(`${root}.kept`, "1");
      const gone = await catalog.create(`${root}.gone`, "1");
      await catalog.delete(gone.key, gone.revision);
      await catalog.close();
      expect(catalog.available).toBe(false);
      expect(await codeOf(catalog.get(entry.key))).toBe("SHUTTING_DOWN");
      catalog = await harness.open();
      expect(catalog.available).toBe(true);
      expect(await catalog.get(entry.key)).toEqual(entry);
      expect(await catalog.get(gone.key)).toBeUndefined();
      expect((await catalog.create(gone.key, "2")).revision).toBeGreaterThan(gone.revision);
    });

    it("refuses calls while its storage is away, and goes on after", async () => {
      freshRoot();
      const entry = await catalog.create(`${root}.a`, "1");
      const recorder = record(root);
      await eventually(() => expect(recorder.events).toEqual(["a=1", "ready"]));
      const changes: boolean[] = [];
      const unsubscribe = catalog.onAvailability((available) => changes.push(available));
      await harness.outage.begin();
      const began = performance.now();
      expect(await codeOf(catalog.update(entry.key, "2", entry.revision))).toBe("CATALOG_UNAVAILABLE");
      expect(performance.now() - began).toBeLessThan(5_000);
      await eventually(() => expect(catalog.available).toBe(false));
      expect(await codeOf(catalog.get(entry.key))).toBe("CATALOG_UNAVAILABLE");
      expect(await codeOf(catalog.list(root))).toBe("CATALOG_UNAVAILABLE");
      await harness.outage.end();
      await eventually(() => expect(catalog.available).toBe(true));
      expect(changes).toEqual([false, true]);
      unsubscribe();
      const now = await catalog.get(entry.key);
      await catalog.update(entry.key, "3", now?.revision ?? 0);
      await eventually(() => expect(recorder.state.get("a")).toBe("3"));
      expect(recorder.events.filter((event) => event === "ready")).toHaveLength(1);
    });

    it("delivers what a watcher missed while it was cut off, deletions too", async () => {
      if (harness.cutOff === undefined) return;
      freshRoot();
      const entries = new Map<string, number>();
      for (const key of ["same", "changed", "gone", "anew"]) {
        entries.set(key, (await catalog.create(`${root}.${key}`, "1")).revision);
      }
      const recorder = record(root);
      await eventually(() => expect(recorder.events).toHaveLength(5));
      const other = await harness.cutOff.begin();
      await eventually(() => expect(catalog.available).toBe(false));
      await other.update(`${root}.changed`, "2", entries.get("changed") ?? 0);
      await other.delete(`${root}.gone`, entries.get("gone") ?? 0);
      await other.delete(`${root}.anew`, entries.get("anew") ?? 0);
      await other.create(`${root}.anew`, "2");
      await other.create(`${root}.added`, "1");
      expect(recorder.events).toHaveLength(5);
      await harness.cutOff.end();
      const expected = { same: "1", changed: "2", anew: "2", added: "1" };
      await eventually(() => expect(Object.fromEntries(recorder.state)).toEqual(expected));
      expect(recorder.events.filter((event) => event === "same=1")).toHaveLength(1);
      expect(recorder.events).toContain("-gone");
      const gone = recorder.revisions[recorder.events.filter((event) => event !== "ready").indexOf("-gone")];
      expect(gone).toBeGreaterThanOrEqual(entries.get("gone") ?? 0);
    });
  });
}
