import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { resolve } from "node:path";
import { PassThrough, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { Command, Option } from "commander";
import { KithError } from "../../../libs/base/index.js";
import { guessFormat } from "../../../libs/datasets/index.js";
import type { Id, Point, ReadConsistency, SparseVector } from "../../../libs/client/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import { UsageError } from "../failure.js";
import { type Io, write } from "../io.js";
import { formatCount, formatDuration, toJson } from "../output.js";
import { parseFilterFlag, whole } from "../values.js";
import { partitionOf, type PartitionFlag, partitionOption } from "./partition-option.js";

const exportFormats = ["jsonl", "csv"] as const;

interface ExportFlags extends PartitionFlag {
  format?: (typeof exportFormats)[number];
  filter?: string;
  vectors: boolean;
  payload: boolean;
  consistency: ReadConsistency;
  batch: number;
}

export function exportCommand(io: Io): Command {
  return new Command("export")
    .description("write the points of a collection as JSON lines or CSV, which import reads")
    .argument("<collection>", "name of the collection")
    .argument("[file]", 'where to; with the ending .gz compressed; "-" is standard output', "-")
    .addOption(
      new Option(
        "-f, --format <format>",
        "jsonl or csv (default: csv for a file that ends with .csv or .csv.gz)",
      ).choices(exportFormats),
    )
    .option("--filter <filter>", "only points that pass: text such as 'year > 1990', or JSON")
    .addOption(partitionOption())
    .option("--no-vectors", "leave out the vectors")
    .option("--no-payload", "leave out the payloads")
    .addOption(
      new Option("--consistency <level>", "every write before each page, or what a replica has")
        .choices(["linearizable", "none"])
        .default("linearizable"),
    )
    .option("--batch <n>", "points of one page", whole(1, 10_000), 256)
    .addHelpText(
      "after",
      `
Points come in order of id, each as it is when its page is read. Ids and numbers keep all their digits, and vectors are what was stored.
CSV has a column for the id, one for each vector field, one for the payload as JSON, and one for the time at which the point expires.

Examples:
  kith export articles articles.jsonl
  kith export articles articles.jsonl.gz --filter 'year > 1990'
  kith export articles articles.csv
  kith export articles | kith import - --format jsonl -c copy --create --target other:7700`,
    )
    .action(async (name: string, file: string, flags: ExportFlags, self: Command) => {
      const context = contextOf(io, self);
      await exportPoints(context, name, file, flags);
    });
}

async function exportPoints(context: CommandContext, name: string, file: string, flags: ExportFlags): Promise<void> {
  const { io, out } = context;
  const startedMs = performance.now();
  const filter = parseFilterFlag(flags.filter);
  const asNamed = guessFormat(file);
  if (flags.format === undefined && asNamed !== undefined && !exportFormats.some((each) => each === asNamed)) {
    throw new UsageError(
      `${file} would be ${asNamed} by its name, and there are ${exportFormats.join(" and ")} alone: give it another ending, or say --format`,
    );
  }
  const isCsv = flags.format === "csv" || (flags.format === undefined && /\.csv(\.gz)?$/i.test(file));
  let count = 0;
  await withClient(context, async (client) => {
    const collection = client.collection(name);
    const info = isCsv && flags.vectors ? await collection.info({ signal: io.signal }) : undefined;
    if (info !== undefined && info.sparse.length > 0) {
      throw new UsageError(
        `"${name}" has sparse vectors, which CSV has no form for: export JSON lines, or leave out vectors`,
      );
    }
    const fields = info?.vectors ?? [];
    const columns = fields.map((field) => field.name);
    const points = collection.scroll({
      ...(filter !== undefined && { filter }),
      ...partitionOf(flags),
      withPayload: flags.payload,
      withVectors: flags.vectors,
      consistency: flags.consistency,
      batch: flags.batch,
      signal: io.signal,
    });
    const target = await opened(io, file);
    try {
      if (isCsv) await write(target.stream, `${csvHeader(columns, flags.payload)}\n`);
      for await (const point of points) {
        await write(target.stream, `${isCsv ? csvLineOf(point, columns, flags.payload) : lineOf(point)}\n`);
        count++;
      }
    } finally {
      await target.close();
    }
  });
  await out.note(
    `exported ${formatCount(count)} points of ${name} in ${formatDuration(performance.now() - startedMs)}`,
  );
}

/** Standard output, or a file that is complete when `close` has resolved. */
async function opened(io: Io, file: string): Promise<{ stream: Writable; close(): Promise<void> }> {
  if (file === "-") return { stream: io.stdout, close: () => Promise.resolve() };
  const path = resolve(io.cwd, file);
  const sink = createWriteStream(path);
  try {
    await once(sink, "open");
  } catch (cause) {
    throw new KithError("INVALID_ARGUMENT", `${file} cannot be written: ${(cause as Error).message}`, { cause });
  }
  const stream = file.endsWith(".gz") ? createGzip() : new PassThrough();
  const written = pipeline(stream, sink);
  // Awaited by close(), which comes in any case.
  written.catch(() => undefined);
  return {
    stream,
    close: () => {
      stream.end();
      return written;
    },
  };
}

function lineOf({ id, vector, vectors, sparse, matrices, payload, expiresAt }: Point): string {
  const members = [`"id":${typeof id === "string" ? JSON.stringify(id) : String(id)}`];
  const { "": matrix, ...others } = matrices ?? {};
  const unnamed = vector ?? matrix;
  if (unnamed !== undefined) members.push(`"vector":${valueText(unnamed)}`);
  const values = Object.entries<Float32Array | Float32Array[]>({ ...vectors, ...others });
  const named = [
    ...values.map(([name, value]) => `${JSON.stringify(name)}:${valueText(value)}`),
    ...Object.entries(sparse ?? {}).map(([name, each]) => `${JSON.stringify(name)}:${sparseText(each)}`),
  ];
  if (named.length > 0) {
    members.push(`"vectors":{${named.join(",")}}`);
  }
  // As text, with its braces: a record whose payload is empty must not look like a flat one.
  if (payload !== undefined) members.push(`"payload":${toJson(payload)}`);
  // Without a payload beside it, it would be read as a part of one.
  else if (expiresAt !== undefined) members.push('"payload":null');
  if (expiresAt !== undefined) members.push(`"expiresAt":"${expiresAt.toISOString()}"`);
  return `{${members.join(",")}}`;
}

/** "" is the unnamed vector field. */
function csvHeader(columns: readonly string[], withPayload: boolean): string {
  const vectors = columns.map((name) => (name === "" ? "vector" : cellOf(`vectors.${name}`)));
  return ["id", ...vectors, ...(withPayload ? ["payload", "expiresAt"] : [])].join(",");
}

function csvLineOf(
  { id, vector, vectors, matrices, payload, expiresAt }: Point,
  columns: readonly string[],
  withPayload: boolean,
): string {
  const cells = columns.map((name) => {
    const own = (name === "" ? vector : vectors?.[name]) ?? matrices?.[name];
    return own === undefined ? "" : valueText(own);
  });
  if (withPayload) cells.push(payload === undefined ? "" : toJson(payload), expiresAt?.toISOString() ?? "");
  return [idText(id), ...cells].map(cellOf).join(",");
}

/** A string that reads as a number, or as JSON, is put into quotes of its own. */
function idText(id: Id): string {
  return typeof id === "string" && /^\d+$|^"/.test(id) ? JSON.stringify(id) : String(id);
}

function cellOf(text: string): string {
  return /[",\r\n]|^\s|\s$/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

function sparseText({ indices, values }: SparseVector): string {
  return `{"indices":[${indices.join(",")}],"values":${vectorText(values)}}`;
}

/** A vector, or the rows of a matrix. */
function valueText(value: Float32Array | Float32Array[]): string {
  return value instanceof Float32Array ? vectorText(value) : `[${value.map(vectorText).join(",")}]`;
}

function vectorText(vector: Float32Array): string {
  const texts: string[] = [];
  for (const value of vector) texts.push(shortest(value));
  return `[${texts.join(",")}]`;
}

/** The shortest decimal that is this f32 again; nine digits are always enough. */
function shortest(value: number): string {
  for (let digits = 6; digits < 9; digits++) {
    const text = Number(value.toPrecision(digits));
    if (Math.fround(text) === value) return String(text);
  }
  return String(Number(value.toPrecision(9)));
}
