import { styleText } from "node:util";
import { formatJson } from "../../libs/model/index.js";
import type { Cell, Style } from "./cells.js";
import { type Io, write } from "./io.js";

/** Answers go to stdout, as tables or JSON; everything else goes to stderr. */
export class Output {
  readonly json: boolean;
  readonly #io: Io;
  readonly #stdoutColour: boolean;
  readonly #stderrColour: boolean;

  constructor(io: Io, options: { json: boolean; colour: boolean }) {
    this.#io = io;
    this.json = options.json;
    this.#stdoutColour = options.colour && io.stdoutIsTerminal;
    this.#stderrColour = options.colour && io.stderrIsTerminal;
  }

  /** Whether people look at stdout. */
  get forPeople(): boolean {
    return this.#io.stdoutIsTerminal;
  }

  /** Whether stdout gets colours. */
  get colour(): boolean {
    return this.#stdoutColour;
  }

  /** Colours text for stdout, or for stderr, if people look at it. */
  paint(style: Style, text: string, stream: "stdout" | "stderr" = "stdout"): string {
    const on = stream === "stdout" ? this.#stdoutColour : this.#stderrColour;
    return on ? styleText(style, text, { validateStream: false }) : text;
  }

  line(text = ""): Promise<void> {
    return write(this.#io.stdout, `${text}\n`);
  }

  /** Text for a cell of a table: on a terminal cut to `width`, and to what its line has beside `others` characters; whole elsewhere. */
  cut(text: string, others: number, width: number = Number.POSITIVE_INFINITY): string {
    if (!this.forPeople) return text;
    return shorten(text, Math.min(width, Math.max(40, (this.#io.columns ?? 120) - others)));
  }

  /** A message for people. */
  note(text: string): Promise<void> {
    return write(this.#io.stderr, `${text}\n`);
  }

  /** One JSON document, pretty on a terminal and one line otherwise. */
  document(value: unknown): Promise<void> {
    return this.line(toJson(value, this.#io.stdoutIsTerminal ? 2 : undefined));
  }

  /** One line of JSON lines. */
  record(value: unknown): Promise<void> {
    return this.line(toJson(value));
  }

  async table(head: readonly string[], rows: readonly (readonly Cell[])[]): Promise<void> {
    const { formatTable } = await import("./table.js");
    const titles = head.map((title) => this.paint("bold", title));
    await this.line(formatTable(titles, rows, (style, text) => this.paint(style, text)));
  }
}

/** A payload as it is stored: numbers keep all their digits. */
export class PayloadText {
  constructor(readonly json: string) {}
}

/**
 * JSON of what the SDK returns: bigint ids become decimal strings, vectors plain arrays, dates ISO text. Payloads that the SDK has
 * left as text stay as they are, but for spaces.
 */
export function toJson(value: unknown, indent = 0): string {
  const compact = compactJson(value) ?? "null";
  return indent === 0 ? compact : formatJson(compact, indent);
}

/** Undefined for what JSON leaves out. */
function compactJson(value: unknown): string | undefined {
  if (value instanceof PayloadText) return formatJson(value.json);
  if (typeof value === "bigint") return `"${value}"`;
  if (value instanceof Float32Array || value instanceof Uint32Array) return JSON.stringify(Array.from(value));
  if (Array.isArray(value)) return `[${value.map((item) => compactJson(item) ?? "null").join(",")}]`;
  if (typeof value !== "object" || value === null || value instanceof Date) return JSON.stringify(value);
  const members = Object.entries(value).flatMap(([key, item]) => {
    const text = compactJson(item);
    return text === undefined ? [] : [`${JSON.stringify(key)}:${text}`];
  });
  return `{${members.join(",")}}`;
}

const byteUnits = ["B", "KiB", "MiB", "GiB", "TiB"];

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < byteUnits.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${byteUnits[unit]}`;
}

export function formatCount(count: number | bigint): string {
  return count.toLocaleString("en-US");
}

export function formatDuration(ms: number): string {
  if (ms < 1) return `${Math.round(ms * 1000)} µs`;
  if (ms < 1000) return `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.round(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Text cut to a width, with an ellipsis. */
export function shorten(text: string, width: number): string {
  const flat = text.replaceAll(/\s+/g, " ").trim();
  return flat.length <= width ? flat : `${flat.slice(0, Math.max(0, width - 1))}…`;
}
