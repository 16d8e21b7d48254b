import { mkdir } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { Command } from "commander";
import { KithError, toKithError } from "../../../libs/base/index.js";
import { type JsonValue, printJson } from "../../../libs/model/index.js";
import { type CommandContext, contextOf } from "../context.js";
import { ExitError, exitCode, UsageError } from "../failure.js";
import { defaultStatePath, removeState } from "../import/state.js";
import type { Io } from "../io.js";
import { formatCount, formatDuration, PayloadText } from "../output.js";
import { whole } from "../values.js";
import { countOf, differing, readPage, type RefusedPoint, sampleOf, writePoints } from "./points.js";
import { collectionsOf, type Described, describe, ensureCollection, ensureIndexes, moveAliases } from "./schema.js";
import { QdrantServer } from "./server.js";
import {
  type CollectionState,
  loadMigration,
  type MigrationState,
  newCollectionState,
  saveMigration,
} from "./state.js";

interface MigrateFlags {
  from: string;
  to: string;
  fromKey?: string;
  toKey?: string;
  collections?: string[];
  batch: number;
  sample: number;
  refused: number;
  aliases: boolean;
  state?: string;
}

/** What became of one collection. */
interface Migrated {
  readonly collection: string;
  readonly created: boolean;
  readonly points: number;
  readonly pointsThere: number;
  readonly indexes: number;
  readonly refused: readonly RefusedPoint[];
  readonly compared: number;
  /** Points that differ, each with how. */
  readonly differing: readonly string[];
}

const stateEveryMs = 1_000;
const progressEveryMs = 5_000;
/** Differences that are told. */
const shownMax = 10;

export function migrateCommand(io: Io): Command {
  return new Command("migrate")
    .description("copy collections from a server that speaks Qdrant's REST API to another one: to Kith, or from it")
    .requiredOption("--from <url>", "where from: http://qdrant:6333, or Kith's --qdrant port")
    .requiredOption("--to <url>", "where to: Kith's --qdrant port, or a Qdrant")
    .option("--from-key <key>", "API key there (default: KITH_MIGRATE_FROM_KEY)")
    .option("--to-key <key>", "API key there (default: KITH_MIGRATE_TO_KEY)")
    .option("-c, --collections <name...>", "these alone (default: all)")
    .option("--batch <n>", "points of one request", whole(1, 1_000), 256)
    .option("--sample <n>", "points of each collection that are compared afterwards", whole(0, 10_000), 200)
    .option("--refused <n>", "points of a collection that may be refused before it stops", whole(0, 10_000), 100)
    .option("--no-aliases", "leave the aliases where they are")
    .option("--state <file>", "where to keep how far it has come (default: a file of the folder KITH_STATE_DIR)")
    .addHelpText(
      "after",
      `
Schemas, indexes, points and aliases are copied. Points that are there already are written again. Ctrl-C stops after the
points that are on the way; the same command goes on there. Points that the other side refuses are left out and told by
their ids. Afterwards the counts and a sample of points are compared; it ends with code 1 where they differ, or points were
refused. What is written at the source meanwhile may be missed: stop the writers first.

Examples:
  kith migrate --from http://qdrant:6333 --to http://127.0.0.1:6333
  kith migrate --from http://qdrant:6333 --to http://127.0.0.1:6333 --collections films books --sample 1000
  kith migrate --from http://127.0.0.1:6333 --to http://qdrant:6333 --output json`,
    )
    .action(async (flags: MigrateFlags, self: Command) => {
      await new Migration(contextOf(io, self), flags).run();
    });
}

class Migration {
  readonly #context: CommandContext;
  readonly #flags: MigrateFlags;
  readonly #from: QdrantServer;
  readonly #to: QdrantServer;
  readonly #startedMs = performance.now();
  #savedMs = 0;
  #shownMs = performance.now();

  constructor(context: CommandContext, flags: MigrateFlags) {
    const { io, deadlineMs: timeoutMs } = context;
    this.#context = context;
    this.#flags = flags;
    const server = (url: string, key: string | undefined): QdrantServer => {
      if (!/^https?:\/\/[^/]+/.test(url)) throw new UsageError(`${url} is no URL such as http://127.0.0.1:6333`);
      return new QdrantServer({ url, key, timeoutMs, signal: io.signal });
    };
    this.#from = server(flags.from, flags.fromKey ?? io.env["KITH_MIGRATE_FROM_KEY"]);
    this.#to = server(flags.to, flags.toKey ?? io.env["KITH_MIGRATE_TO_KEY"]);
    if (this.#from.url === this.#to.url) throw new UsageError("--from and --to are the same server");
  }

  async run(): Promise<void> {
    const { out, io } = this.#context;
    const names = await this.#names();
    const path = await this.#statePath();
    const state = (await loadMigration(path)) ?? { from: this.#from.url, to: this.#to.url, collections: new Map() };
    this.#checkSame(path, state);
    const migrated: Migrated[] = [];
    let aliases: JsonValue[] = [];
    try {
      for (const name of names) migrated.push(await this.#migrate(name, path, state));
      if (this.#flags.aliases) aliases = await moveAliases(this.#from, this.#to, new Set(names));
    } catch (thrown) {
      await saveMigration(path, state);
      if (!io.signal.aborted) throw this.#stopped(toKithError(thrown));
      await out.note(`stopped; the same command goes on where it was, by ${path}`);
      throw new ExitError(exitCode.interrupted);
    }
    await removeState(path);
    await this.#report(migrated, aliases);
  }

  #stopped(error: KithError): KithError {
    return new KithError(error.code, `${error.message}; the same command goes on where it stopped`, {
      details: error.details,
      cause: error,
    });
  }

  async #names(): Promise<string[]> {
    const there = await collectionsOf(this.#from);
    const { collections } = this.#flags;
    const missing = (collections ?? []).filter((name) => !there.includes(name));
    if (missing.length > 0) {
      throw new KithError("COLLECTION_NOT_FOUND", `${this.#from.url} has no collection ${missing.join(", ")}`);
    }
    return collections ?? there;
  }

  async #statePath(): Promise<string> {
    const { io } = this.#context;
    const { state, from, to } = this.#flags;
    if (state !== undefined) return resolve(io.cwd, state);
    const path = defaultStatePath(io.env, ["migrate", from, to]);
    await mkdir(dirname(path), { recursive: true });
    return path;
  }

  #checkSame(path: string, { from, to, collections }: MigrationState): void {
    if (from !== this.#from.url || to !== this.#to.url) {
      throw new KithError(
        "FAILED_PRECONDITION",
        `${path} belongs to a migration from ${from} to ${to}; name another --state`,
      );
    }
    const points = [...collections.values()].reduce((sum, each) => sum + each.points, 0);
    if (points > 0) this.#context.io.stderr.write(`going on after ${formatCount(points)} points, by ${path}\n`);
  }

  async #migrate(name: string, path: string, state: MigrationState): Promise<Migrated> {
    const described = await describe(this.#from, name);
    const created = await ensureCollection(this.#to, name, described);
    const before = state.collections.get(name);
    // What was written before is gone where the collection is made again.
    const own = before === undefined || created ? newCollectionState() : before;
    state.collections.set(name, own);
    const indexes = await ensureIndexes(this.#to, name, described);
    if (!own.isDone) await this.#copy(name, described, own, () => this.#save(path, state));
    own.isDone = true;
    await saveMigration(path, state);
    return { collection: name, created, indexes, refused: own.refused, ...(await this.#verify(name, described)) };
  }

  /** Pages are read while the one before is written. */
  async #copy(
    name: string,
    { shardKeys }: Described,
    state: CollectionState,
    save: () => Promise<void>,
  ): Promise<void> {
    const { io } = this.#context;
    const keys = shardKeys.length > 0 ? shardKeys : [null];
    const total = await countOf(this.#from, name);
    this.#tell(name, state.points, total);
    for (; state.keyIndex < keys.length; state.keyIndex++, state.offset = null) {
      const shardKey = keys[state.keyIndex] ?? null;
      const read = (offset: JsonValue) => readPage(this.#from, name, { offset, limit: this.#flags.batch, shardKey });
      let page = await read(state.offset);
      for (;;) {
        io.signal.throwIfAborted();
        const { points, next } = page;
        const [refused, ahead] = await Promise.all([
          points.length > 0 ? writePoints(this.#to, name, points, shardKey) : [],
          next === null ? undefined : read(next),
        ]);
        const refusedSoFar = [...state.refused, ...refused];
        this.#checkRefused(name, refusedSoFar);
        state.points += points.length - refused.length;
        state.refused = refusedSoFar;
        this.#show(name, state.points, total);
        if (ahead === undefined) break;
        state.offset = next;
        page = ahead;
        await save();
      }
    }
    this.#tell(name, state.points, total);
  }

  #checkRefused(name: string, refused: readonly RefusedPoint[]): void {
    const [last] = refused.slice(-1);
    if (last === undefined || refused.length <= this.#flags.refused) return;
    throw new KithError(
      "FAILED_PRECONDITION",
      `${refused.length} points of "${name}" were refused, more than --refused ${this.#flags.refused}; the last is ${printJson(last.id)}: ${last.why}`,
    );
  }

  async #save(path: string, state: MigrationState): Promise<void> {
    if (performance.now() - this.#savedMs < stateEveryMs) return;
    this.#savedMs = performance.now();
    await saveMigration(path, state);
  }

  #show(name: string, points: number, total: number): void {
    if (performance.now() - this.#shownMs < progressEveryMs) return;
    this.#tell(name, points, total);
  }

  /** Progress goes to stderr: a line for people, or a JSON document of one line. */
  #tell(name: string, points: number, total: number): void {
    this.#shownMs = performance.now();
    const { io, out } = this.#context;
    const text = `${name}: ${formatCount(points)} of ${formatCount(total)} points`;
    io.stderr.write(`${out.json ? JSON.stringify({ collection: name, points, total }) : text}\n`);
  }

  async #verify(name: string, { shardKeys }: Described) {
    const { sample } = this.#flags;
    const [points, pointsThere] = await Promise.all([countOf(this.#from, name), countOf(this.#to, name)]);
    const found: string[] = [];
    let compared = 0;
    for (const shardKey of shardKeys.length > 0 ? shardKeys : [null]) {
      const ids = sample === 0 ? [] : await sampleOf(this.#from, name, sample, shardKey);
      compared += ids.length;
      found.push(...(await differing(this.#from, this.#to, name, ids, shardKey)));
    }
    return { points, pointsThere, compared, differing: found };
  }

  async #report(migrated: readonly Migrated[], aliases: readonly JsonValue[]): Promise<void> {
    const { out } = this.#context;
    const wrong = migrated.filter(
      (each) => each.points !== each.pointsThere || each.differing.length > 0 || each.refused.length > 0,
    );
    const took = performance.now() - this.#startedMs;
    if (out.json) {
      const seconds = Number((took / 1000).toFixed(3));
      const collections = migrated.map((each) => ({
        ...each,
        refused: each.refused.map(({ id, why }) => ({ id: new PayloadText(printJson(id)), why })),
        same: !wrong.includes(each),
      }));
      await out.document({ from: this.#from.url, to: this.#to.url, collections, aliases: aliases.length, seconds });
    } else {
      await out.table(
        ["COLLECTION", "POINTS", "THERE", "INDEXES", "REFUSED", "COMPARED", "DIFFERING"],
        migrated.map((each) => [
          each.collection,
          formatCount(each.points),
          formatCount(each.pointsThere),
          formatCount(each.indexes),
          formatCount(each.refused.length),
          formatCount(each.compared),
          formatCount(each.differing.length),
        ]),
      );
      await out.note(
        `migrated ${migrated.length} collections and ${aliases.length} aliases in ${formatDuration(took)}`,
      );
    }
    if (wrong.length === 0) return;
    for (const each of wrong) {
      for (const { id, why } of each.refused.slice(0, shownMax)) {
        await out.note(`${each.collection}: point ${printJson(id)} was refused: ${why}`);
      }
      const shown = each.differing.slice(0, shownMax).join("; ");
      await out.note(
        `${each.collection} is not the same: ${each.points} points here, ${each.pointsThere} there. ${shown}`,
      );
    }
    throw new ExitError(exitCode.failure);
  }
}
