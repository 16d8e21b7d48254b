/**
 * Shard nodes are killed with -9 while they build payload indexes and apply writes by part. Afterwards filters count what was written, by
 * index and replica, whatever the kills cut off, and replicas are equal by digest. KITH_INDEX_KILL_ROUNDS sets the number of rounds
 * (npm run test:long: 20).
 */
import { expect, test } from "vitest";
import { SeededRandom, sleep, systemClock } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { type CollectionHandle, KithError } from "../../libs/client/index.js";
import { useCluster } from "../cluster/cluster.js";
import { startProcesses } from "../cluster/processes.js";
import { compareDigests, dimension, range, vectorOf } from "../cluster/workload.js";

const rounds = Number(process.env["KITH_INDEX_KILL_ROUNDS"] ?? 1);
const seed = Number(process.env["KITH_SEED"] ?? 7);
const replicas = 2;
/** So many that a build takes long enough to be hit. */
const filled = 6_000;
const cluster = useCluster(() => startProcesses({ shardNodes: 2, replicas }));

interface Film extends Record<string, unknown> {
  group: number;
  tag: string;
  mark?: number;
}

/** Writes one operation after the other, each until it is acknowledged, so that what must be there is known exactly. */
class Writer {
  readonly films = new Map<number, Film>();
  readonly #handle: CollectionHandle<Film>;
  readonly #random: SeededRandom;
  #operations = 0;

  constructor(handle: CollectionHandle<Film>, random: SeededRandom) {
    this.#handle = handle;
    this.#random = random;
  }

  get operations(): number {
    return this.#operations;
  }

  async upsert(ids: readonly number[]): Promise<void> {
    const films = ids.map((id): [number, Film] => [
      id,
      { group: this.#random.below(20), tag: `t${this.#random.below(8)}` },
    ]);
    const points = films.map(([id, payload]) => ({ id, vector: vectorOf(id, 1), payload }));
    await this.#acknowledged((options) => this.#handle.upsert(points, options));
    for (const [id, film] of films) this.films.set(id, film);
  }

  /** One of the writes by part, by ids or by a filter. */
  async write(): Promise<void> {
    const group = this.#random.below(20);
    const mark = this.#random.below(5);
    const isIn = ({ group: own }: Film): boolean => own === group;
    switch (this.#random.below(5)) {
      case 0: {
        await this.#acknowledged((options) =>
          this.#handle.setPayload({ filter: `group = ${group}` }, { mark }, options),
        );
        for (const film of this.films.values()) if (isIn(film)) film.mark = mark;
        return;
      }
      case 1: {
        const filter = `group = ${group} and mark = ${mark}`;
        await this.#acknowledged((options) => this.#handle.delete({ filter }, options));
        for (const [id, film] of this.films) if (isIn(film) && film.mark === mark) this.films.delete(id);
        return;
      }
      case 2: {
        await this.#acknowledged((options) =>
          this.#handle.deletePayload({ filter: `group = ${group}` }, "mark", options),
        );
        for (const film of this.films.values()) if (isIn(film)) delete film.mark;
        return;
      }
      case 3: {
        const ids = range(this.#random.below(filled), 30).filter((id) => this.films.has(id));
        if (ids.length === 0) return;
        await this.#acknowledged((options) => this.#handle.setPayload(ids, { tag: `t${mark}` }, options));
        for (const id of ids) Object.assign(this.films.get(id) ?? {}, { tag: `t${mark}` });
        return;
      }
      default:
        await this.upsert(range(this.#random.below(filled), 30));
    }
  }

  async #acknowledged(
    write: (options: { idempotencyKey: string; deadlineMs: number }) => Promise<unknown>,
  ): Promise<void> {
    const options = { idempotencyKey: `index-kills-${this.#operations++}`, deadlineMs: 5_000 };
    for (;;) {
      try {
        await write(options);
        return;
      } catch (error) {
        if (!(error instanceof KithError) || !error.retryable) throw error;
        await sleep(systemClock, 50);
      }
    }
  }
}

test(`${rounds} rounds of kill -9 during builds of indexes and writes by part lose nothing (seed ${seed})`, {
  timeout: 120_000 + rounds * 60_000,
}, async () => {
  const random = new SeededRandom(seed);
  const client = await cluster().connect();
  const handle = client.collection<Film>("films");
  await handle.create({ vectors: { dimension, metric: "l2" }, replicas });
  const writer = new Writer(handle, random);
  for (let from = 0; from < filled; from += 1_000) await writer.upsert(range(from, 1_000));
  for (let round = 0; round < rounds; round++) {
    const victim = cluster().shardNodes[round % 2] as string;
    let isWriting = true;
    const writing = (async (): Promise<void> => {
      while (isWriting) await writer.write();
    })();
    await handle.createPayloadIndex("group", "integer");
    await handle.createPayloadIndex("mark", "integer");
    await handle.createPayloadIndex("tag", "keyword");
    // Now in the midst of the first build, now of the last one, now after them.
    await sleep(systemClock, random.below(250));
    await cluster().kill(victim);
    const before = writer.operations;
    await eventually(() => expect(writer.operations).toBeGreaterThan(before + 3), 30_000);
    await cluster().start(victim);
    await eventually(() => expect(writer.operations).toBeGreaterThan(before + 10), 30_000);
    isWriting = false;
    await writing;
    await eventually(() => compareDigests(client, replicas), 60_000);
    await eventually(async () => {
      const indexes = await handle.listPayloadIndexes();
      expect(indexes.map(({ path, ready }) => [path, ready]).sort()).toEqual(
        ["group", "mark", "tag"].map((path) => [path, true]),
      );
    }, 60_000);
    const films = [...writer.films.values()];
    const expected: [string, (film: Film) => boolean][] = [
      ["group < 10", ({ group }) => group < 10],
      ["mark >= 2", ({ mark }) => (mark ?? -1) >= 2],
      ["not exists(mark)", ({ mark }) => mark === undefined],
      ["tag = t1 and group in (1, 2, 3)", ({ tag, group }) => tag === "t1" && group >= 1 && group <= 3],
      ["tag = t2 or mark = 3", ({ tag, mark }) => tag === "t2" || mark === 3],
    ];
    // One replica after the other is the only one that can answer.
    for (const stopped of cluster().shardNodes) {
      await cluster().stop(stopped);
      for (const [filter, passes] of expected) {
        const count = await eventually(() => handle.count({ filter, consistency: "linearizable" }), 30_000);
        expect([stopped, filter, count]).toEqual([stopped, filter, films.filter(passes).length]);
      }
      await cluster().start(stopped);
      await eventually(() => compareDigests(client, replicas), 60_000);
    }
    for (const path of ["group", "mark", "tag"]) await handle.dropPayloadIndex(path);
  }
});
