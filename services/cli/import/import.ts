import { mkdir, stat } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { KithError, toKithError } from "../../../libs/base/index.js";
import type { CollectionInfo, CreateOptions, KithClient, WriteAck } from "../../../libs/client/index.js";
import {
  type ColumnType,
  columnTypes,
  type Dataset,
  type DatasetBatch,
  type DatasetFormat,
  datasetFormats,
  guessFormat,
  openDataset,
  withPayloads,
} from "../../../libs/datasets/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import { addCreateOptions, type CreateFlags, createOptionsOf } from "../commands/create-options.js";
import { ExitError, exitCode, UsageError } from "../failure.js";
import { ImportProgress } from "./progress.js";
import { Rejects } from "./rejects.js";
import { ImportRun } from "./run.js";
import { checkSame, defaultStatePath, type ImportState, loadState, removeState, saveState } from "./state.js";
import { type Io, OutputClosed } from "../io.js";
import { formatCount, formatDuration } from "../output.js";
import { keyValue, whole } from "../values.js";

interface ImportFlags extends CreateFlags {
  collection: string;
  format?: DatasetFormat;
  create?: boolean;
  payloads?: string;
  idField: string;
  vectorField: string;
  idOffset: number;
  delimiter?: string;
  columnType?: Map<string, ColumnType>;
  skip: number;
  take?: number;
  batch: number;
  inFlight: number;
  ack: WriteAck;
  mode: "upsert" | "insert" | "update";
  state?: string;
  resume?: boolean;
  rejects?: string;
  maxRejects: number;
  wait?: boolean;
}

const stateEveryMs = 1_000;

export function importCommand(io: Io): Command {
  const command = new Command("import")
    .description("import vectors and payloads from a file or from standard input")
    .argument("<file>", `${datasetFormats.join(", ")}, each also with .gz behind; "-" is standard input`)
    .requiredOption("-c, --collection <name>", "where to")
    .addOption(
      new Option("-f, --format <format>", "format of the input (default: by its extension)").choices(datasetFormats),
    )
    .option("--create", "create the collection if it does not exist; the options below say how");
  return addCreateOptions(command)
    .option("--payloads <file>", "JSON lines with the payloads of a binary file, line n for row n")
    .option("--id-field <name>", "field or column of the id", "id")
    .option("--vector-field <name>", "field or column of the vector", "vector")
    .option("--delimiter <char>", "between the cells of CSV (default: a comma, or a tab for .tsv)", oneCharacter)
    .option(
      "--column-type <name=type>",
      `type of a column of CSV, one of ${columnTypes.join(", ")}; repeat for more (default: as it looks)`,
      columnType,
    )
    .option("--id-offset <n>", "added to the row number where rows have no id", whole(0), 0)
    .option("--skip <n>", "pass over the first rows", whole(0), 0)
    .option("--take <n>", "import at most this many rows", whole(1))
    .option("--batch <n>", "most points of one message", whole(1, 10_000), 2_000)
    .option("--in-flight <n>", "messages on the way at a time", whole(1, 256), 8)
    .addOption(
      new Option(
        "--ack <when>",
        "a row is written when it is in the log, which is safe (log); when reads see it, too, in one replica of its shard (applied), or in all (all)",
      )
        .choices(["log", "applied", "all"])
        .default("applied"),
    )
    .addOption(
      new Option("--mode <mode>", "replace, refuse those that exist, or refuse those that do not")
        .choices(["upsert", "insert", "update"])
        .default("upsert"),
    )
    .option("--state <file>", "where to keep how far it has come (default: a file of the folder KITH_STATE_DIR)")
    .option("--resume", "go on where an interrupted import stopped")
    .option("--rejects <file>", "write refused rows here, as JSON lines")
    .option("--max-rejects <n>", "give up after so many refused rows", whole(0), 10_000)
    .option("--wait", "wait until every vector is in the graph")
    .addHelpText(
      "after",
      `
JSON lines are {"id", "vector" or "vectors", "payload"}, or flat records whose other fields become the payload; columns of
CSV and Parquet are named alike. Rows without an id get their row number plus --id-offset. Of two rows with one id the
last one wins. Ctrl-C stops after the rows that are on the way, and a second one at once; --resume goes on. Importing a
row twice does no harm. Ends with code 1 when rows were refused.

Examples:
  kith import articles.jsonl -c articles --create --metric cosine
  kith import sift_base.fvecs -c sift --create --metric l2 --shards 2 --wait
  kith import base.fbin --payloads base.jsonl -c base --create
  kith import films.csv.gz -c films --create --column-type zip=string
  kith import embeddings.parquet -c wiki --create --id-field docid --vector-field emb
  kith import big.fbin -c big --resume --rejects refused.jsonl`,
    )
    .action(async (file: string, flags: ImportFlags, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, (client) => new Importer(context, client, file, flags).run());
    });
}

class Importer {
  readonly #context: CommandContext;
  readonly #client: KithClient;
  readonly #file: string;
  readonly #flags: ImportFlags;
  readonly #path: string | undefined;
  readonly #stop: AbortSignal;
  readonly #giveUp = new AbortController();
  readonly #rejects: Rejects;
  #progress: ImportProgress | undefined;
  #statePathInUse: string | undefined;
  #stateSaved: Promise<void> = Promise.resolve();
  #stateSavedMs = performance.now();

  constructor(context: CommandContext, client: KithClient, file: string, flags: ImportFlags) {
    this.#context = context;
    this.#client = client;
    this.#file = file;
    this.#flags = flags;
    this.#path = file === "-" ? undefined : resolve(context.io.cwd, file);
    this.#rejects = new Rejects(context.io, flags.maxRejects, () => this.#giveUp.abort());
    this.#stop = AbortSignal.any([context.io.signal, this.#giveUp.signal]);
  }

  async run(): Promise<void> {
    const { io, out } = this.#context;
    const flags = this.#flags;
    io.signal.addEventListener("abort", this.#onInterrupt, { once: true });
    const statePath = await this.#statePath();
    const state = await this.#initialState();
    this.#statePathInUse = statePath;
    const before = statePath === undefined ? undefined : await loadState(statePath);
    if (flags.resume) {
      state.collectionId = before === undefined ? "" : ((await this.#collectionInfo())?.id ?? "");
      this.#takeUp(statePath, before, state);
    } else if (before !== undefined && before.nextRow > flags.skip) {
      await out.note(
        `An earlier import of this file stopped at row ${before.nextRow}; starting again (--resume would go on there).`,
      );
    }
    const done = state.nextRow - flags.skip;
    if (flags.take !== undefined && done >= flags.take) {
      await out.note("everything was imported already");
      return;
    }

    const known = await this.#collectionInfo();
    const dataset = await openDataset(this.#path ?? io.stdin, flags.format, {
      ...(known && { dimensions: new Map(known.vectors.map(({ name, dimension }) => [name, dimension])) }),
      ...(this.#path !== undefined && { name: this.#file }),
      batchRows: flags.batch,
      skipRows: state.nextRow,
      ...(flags.take !== undefined && { limitRows: flags.take - done }),
      idField: flags.idField,
      vectorField: flags.vectorField,
      ...(flags.delimiter !== undefined && { delimiter: flags.delimiter }),
      ...(flags.columnType && { columnTypes: flags.columnType }),
      signal: this.#stop,
      onBadRow: (row, error) => this.#rejects.add({ row, code: toKithError(error).code, message: error.message }),
    });
    try {
      await this.#importFrom(dataset, state, statePath);
    } finally {
      await dataset.close();
    }
  }

  async #importFrom(dataset: Dataset, state: ImportState, statePath: string | undefined): Promise<void> {
    const { io } = this.#context;
    const flags = this.#flags;
    const holdsPayloads = ["jsonl", "csv", "parquet"].includes(dataset.format);
    if (flags.payloads !== undefined && holdsPayloads) {
      throw new UsageError(`--payloads goes with binary formats; ${dataset.format} holds its payloads itself`);
    }
    if (flags.rejects !== undefined) {
      await this.#rejects.openFile(resolve(io.cwd, flags.rejects), flags.resume === true);
    }
    const progress = new ImportProgress(io, flags.take === undefined ? dataset.sizeBytes : undefined);
    this.#progress = progress;
    try {
      await this.#import(dataset, state, statePath, progress);
    } finally {
      progress.stop();
      await this.#rejects.close();
    }
  }

  async #import(
    dataset: Dataset,
    state: ImportState,
    statePath: string | undefined,
    progress: ImportProgress,
  ): Promise<void> {
    const { io } = this.#context;
    const flags = this.#flags;
    const resumed = { upserted: state.upserted, rejected: state.rejected };
    const batches = this.#batchesOf(dataset);
    const first = await batches.next().catch((error: unknown) => {
      throw this.#giveUp.signal.aborted && !io.signal.aborted ? this.#gaveUp(state) : error;
    });
    const info = await this.#prepareCollection(first.done ? undefined : first.value);
    state.collectionId = info.id;
    if (!first.done) checkColumns(dataset.name, first.value, info);
    const run = new ImportRun(prepend(first, batches), state.nextRow, {
      idOffset: flags.idOffset,
      batchPoints: flags.batch,
      inFlight: flags.inFlight,
      ack: flags.ack,
      mode: flags.mode,
      deadlineMs: this.#context.deadlineMs,
      signal: this.#stop,
      onRejected: (rejected) => this.#rejects.add(rejected),
      onSettled: (nextRow, upserted, share) => {
        state.nextRow = nextRow;
        state.upserted = resumed.upserted + upserted;
        state.rejected = resumed.rejected + this.#rejects.count;
        progress.update({ upserted, rejected: this.#rejects.count, bytesRead: dataset.bytesRead() * share });
        this.#saveNowAndThen(statePath, state);
      },
    });
    let upserted: number;
    try {
      upserted = (await run.run(this.#client.collection(flags.collection))).upserted;
    } catch (thrown) {
      progress.stop();
      await this.#keepState(statePath, state);
      throw this.#stopped(toKithError(thrown), state);
    } finally {
      await batches.return();
    }
    progress.stop();
    state.rejected = resumed.rejected + this.#rejects.count;
    state.upserted = resumed.upserted + upserted;
    if (!run.finished) {
      await this.#keepState(statePath, state);
      if (io.signal.aborted) {
        await this.#noteStop(state);
        throw new ExitError(exitCode.interrupted);
      }
      throw this.#gaveUp(state);
    }
    await this.#stateSaved;
    if (statePath !== undefined) await removeState(statePath);
    await this.#finish(state, upserted, progress);
  }

  #gaveUp({ nextRow }: ImportState): KithError {
    const { maxRejects, rejects } = this.#flags;
    return new KithError(
      "FAILED_PRECONDITION",
      `gave up at row ${nextRow} after ${this.#rejects.count} refused rows (--max-rejects ${maxRejects}); the first of them are above${rejects === undefined ? "" : ` and all in ${rejects}`}`,
    );
  }

  #batchesOf(dataset: Dataset): AsyncGenerator<DatasetBatch, void, undefined> {
    const { payloads } = this.#flags;
    if (payloads === undefined) return dataset.batches();
    const path = resolve(this.#context.io.cwd, payloads);
    return withPayloads(dataset.batches(), path, { name: payloads, signal: this.#stop });
  }

  async #finish(state: ImportState, upserted: number, progress: ImportProgress): Promise<void> {
    const { out, io } = this.#context;
    const flags = this.#flags;
    const tookMs = progress.elapsedMs;
    if (flags.wait) {
      await out.note("waiting until every vector is in the graph");
      const { askedDeadlineMs } = this.#context;
      const options = { signal: io.signal, ...(askedDeadlineMs !== undefined && { deadlineMs: askedDeadlineMs }) };
      await this.#client.collection(flags.collection).waitIndexed(options);
    }
    const rate = Math.round(progress.rate(upserted));
    if (out.json) {
      await out.document({
        collection: flags.collection,
        upserted,
        rejected: this.#rejects.count,
        nextRow: state.nextRow,
        seconds: Number((tookMs / 1000).toFixed(3)),
        pointsPerSecond: rate,
        ...(flags.rejects !== undefined && { rejects: flags.rejects }),
      });
    } else {
      await out.line(
        `imported ${formatCount(upserted)} ${upserted === 1 ? "point" : "points"} into ${flags.collection} in ${formatDuration(tookMs)} (${formatCount(rate)}/s)` +
          (this.#rejects.count > 0
            ? `; ${formatCount(this.#rejects.count)} ${this.#rejects.count === 1 ? "row was" : "rows were"} refused`
            : ""),
      );
    }
    if (this.#rejects.count > 0) {
      if (flags.rejects === undefined)
        await out.note("Run it again with --rejects <file> to have all refused rows in a file.");
      throw new ExitError(exitCode.failure);
    }
  }

  /** Creates the collection where --create was given and it is not there, and gives its id. The data tells the dimension. */
  async #prepareCollection(first: DatasetBatch | undefined): Promise<CollectionInfo> {
    const flags = this.#flags;
    const { io, out } = this.#context;
    const collection = this.#client.collection(flags.collection);
    if (!flags.create) return collection.info({ signal: io.signal });
    const isThere = await collection.exists({ signal: io.signal });
    // Where there are no rows to tell a dimension, the collection is as it is.
    if (isThere && first === undefined && flags.dimension === undefined) {
      return collection.info({ signal: io.signal });
    }
    const info = await collection.create({ ...this.#createOptions(first), ifNotExists: true, signal: io.signal });
    if (!isThere) await out.note(`created ${info.name} with ${info.shards} shard${info.shards === 1 ? "" : "s"}`);
    return info;
  }

  /** Undefined where there is no such collection. */
  async #collectionInfo(): Promise<CollectionInfo | undefined> {
    try {
      return await this.#client.collection(this.#flags.collection).info({ signal: this.#context.io.signal });
    } catch (thrown) {
      const error = toKithError(thrown);
      if (error.code === "COLLECTION_NOT_FOUND") return undefined;
      throw error;
    }
  }

  #createOptions(first: DatasetBatch | undefined): CreateOptions {
    const inFile = Object.fromEntries((first?.sparse ?? []).map(({ name }) => [name, {}]));
    const sparse = { ...inFile, ...this.#flags.sparse };
    const flags = Object.keys(sparse).length === 0 ? this.#flags : { ...this.#flags, sparse };
    const named = first?.columns.filter((column) => column.name !== "") ?? [];
    if (named.length === 0 || flags.dimension !== undefined)
      return createOptionsOf(withMulti(flags, first), first?.columns[0]?.dimension);
    const vector = Object.fromEntries(
      named.map(({ name, dimension, begins }) => [
        name,
        {
          dimension,
          ...(begins !== undefined && { multivector: "maxSim" as const }),
          ...(flags.metric && { metric: flags.metric }),
          ...(flags.datatype && { datatype: flags.datatype }),
        },
      ]),
    );
    return createOptionsOf({ ...flags, metric: undefined, datatype: undefined, multi: undefined, vector });
  }

  /** At once, since the rows on the way may take their time. */
  readonly #onInterrupt = (): void => {
    if (this.#context.io.signal.reason instanceof OutputClosed) return;
    this.#progress?.stop();
    this.#context.io.stderr.write(
      "interrupted: no more rows are read, those on the way are waited for, then it says how to go on; Ctrl-C again ends at once\n",
    );
  };

  async #statePath(): Promise<string | undefined> {
    const { io, out, target } = this.#context;
    const { state, collection } = this.#flags;
    if (state !== undefined) return resolve(io.cwd, state);
    if (this.#path !== undefined) {
      const path = defaultStatePath(io.env, [target, collection, this.#path]);
      try {
        await mkdir(dirname(path), { recursive: true });
      } catch (cause) {
        if (this.#flags.resume) throw new UsageError(`${dirname(path)} cannot be used: ${(cause as Error).message}`);
        await out.note(
          `--resume will not work, since ${(cause as Error).message}; name a file with --state, or a folder with KITH_STATE_DIR`,
        );
        return undefined;
      }
      return path;
    }
    if (this.#flags.resume) throw new UsageError("to resume from standard input, name the state file with --state");
    return undefined;
  }

  async #initialState(): Promise<ImportState> {
    const flags = this.#flags;
    const base: ImportState = {
      version: 2,
      collection: flags.collection,
      collectionId: "",
      file: this.#path ?? "-",
      format: flags.format ?? guessFormat(this.#file) ?? "",
      idField: flags.idField,
      vectorField: flags.vectorField,
      csv: [flags.delimiter, ...(flags.columnType ?? new Map<string, ColumnType>())].flat().join(" "),
      payloads: flags.payloads === undefined ? "" : resolve(this.#context.io.cwd, flags.payloads),
      mode: flags.mode,
      idOffset: flags.idOffset,
      nextRow: flags.skip,
      upserted: 0,
      rejected: 0,
    };
    if (this.#path === undefined) return base;
    const stats = await stat(this.#path).catch(() => undefined);
    // A file that is not there is reported where it is opened.
    if (stats === undefined || !stats.isFile()) return base;
    return { ...base, sizeBytes: stats.size, modifiedMs: Math.round(stats.mtimeMs) };
  }

  #takeUp(path: string | undefined, before: ImportState | undefined, state: ImportState): void {
    if (before === undefined || path === undefined) {
      this.#context.io.stderr.write("there is nothing to resume; starting at the first row\n");
      return;
    }
    checkSame(path, before, state);
    state.nextRow = Math.max(state.nextRow, before.nextRow);
    state.upserted = before.upserted;
    state.rejected = before.rejected;
    this.#context.io.stderr.write(`resuming at row ${state.nextRow}\n`);
  }

  #saveNowAndThen(path: string | undefined, state: ImportState): void {
    if (path === undefined || performance.now() - this.#stateSavedMs < stateEveryMs) return;
    this.#stateSavedMs = performance.now();
    const copy = { ...state };
    this.#stateSaved = this.#stateSaved
      .then(() => saveState(path, copy))
      // An import does not fail for its state file; the last save, whose error counts, comes at the end.
      .catch(
        (error: unknown) => void this.#context.io.stderr.write(`cannot save ${path}: ${toKithError(error).message}\n`),
      );
  }

  async #keepState(path: string | undefined, state: ImportState): Promise<void> {
    await this.#stateSaved;
    if (path !== undefined) await saveState(path, state);
  }

  #stopped(error: KithError, state: ImportState): KithError {
    // The SDK adds its own positions, which count points; rows of the file are what helps here.
    const reason = error.cause instanceof KithError ? error.cause : error;
    return new KithError(
      error.code,
      `${reason.message}; rows before ${state.nextRow} are done, the same command with ${this.#howToGoOn(state)} goes on there`,
      { details: error.details, cause: error },
    );
  }

  async #noteStop(state: ImportState): Promise<void> {
    await this.#context.out.note(
      `stopped: all rows before ${state.nextRow} are done (${formatCount(state.upserted)} written, ${formatCount(state.rejected)} refused). The same command with ${this.#howToGoOn(state)} goes on there.`,
    );
  }

  #howToGoOn(state: ImportState): string {
    return this.#statePathInUse === undefined ? `--skip ${state.nextRow}` : "--resume";
  }
}

function oneCharacter(text: string): string {
  const char = text === "\\t" ? "\t" : text;
  if (char.length === 1 && char !== '"' && char !== "\n") return char;
  throw new InvalidArgumentError("It must be one character, such as ; or \\t.");
}

function columnType(text: string, before: Map<string, ColumnType> | undefined): Map<string, ColumnType> {
  const [[name = "", given = ""] = []] = Object.entries(keyValue(text, undefined));
  const type = columnTypes.find((each) => each === given);
  if (type === undefined) throw new InvalidArgumentError(`"${given}" is none of ${columnTypes.join(", ")}.`);
  return new Map(before).set(name, type);
}

/** The data tells that the unnamed vector is a matrix. */
function withMulti<F extends { multi?: boolean; vector?: unknown }>(flags: F, first: DatasetBatch | undefined): F {
  const column = first?.columns[0];
  if (column?.name !== "" || column.begins === undefined || flags.vector !== undefined) return flags;
  return { ...flags, multi: true };
}

/** One error for a file that does not fit the collection, before a single point is sent: all of its rows would be refused. */
function checkColumns(file: string, { columns, sparse = [] }: DatasetBatch, info: CollectionInfo): void {
  for (const { name } of sparse) {
    if (info.sparse.some((each) => each.name === name)) continue;
    const known = info.sparse.length === 0 ? "none" : info.sparse.map((each) => `"${each.name}"`).join(", ");
    throw new KithError(
      "UNKNOWN_VECTOR",
      `${file} has sparse vectors "${name}", and the collection "${info.name}" has ${known} only`,
    );
  }
  for (const { name, dimension, begins } of columns) {
    const of = name === "" ? "" : ` "${name}"`;
    const field = info.vectors.find((each) => each.name === name);
    if (field === undefined) {
      const known = info.vectors.map((each) => `"${each.name}"`).join(", ");
      throw new KithError(
        "UNKNOWN_VECTOR",
        `${file} has vectors${of}, and the collection "${info.name}" has ${known} only`,
      );
    }
    if (begins !== undefined && field.multivector === undefined) {
      throw new KithError(
        "DIMENSION_MISMATCH",
        `${file} has matrices${of}, and the field of the collection "${info.name}" holds single vectors`,
        { details: { file, field: name } },
      );
    }
    if (field.dimension === dimension) continue;
    throw new KithError(
      "DIMENSION_MISMATCH",
      `the vectors${of} of ${file} have ${dimension} dimensions; those of the collection "${info.name}" have ${field.dimension}`,
      { details: { file, expected: field.dimension, got: dimension } },
    );
  }
}

async function* prepend(
  first: IteratorResult<DatasetBatch>,
  rest: AsyncIterable<DatasetBatch>,
): AsyncGenerator<DatasetBatch, void, undefined> {
  if (first.done) return;
  yield first.value;
  yield* rest;
}
