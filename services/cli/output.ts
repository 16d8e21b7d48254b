import { styleText } from "node:util";
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

/** JSON with what the SDK returns: bigint ids become decimal strings, vectors plain arrays, dates ISO text. */
export function toJson(value: unknown, indent?: number): string {
  return JSON.stringify(
    value,
    (_, item: unknown) => {
      if (typeof item === "bigint") return String(item);
      if (item instanceof Float32Array) return Array.from(item);
      return item;
    },
    indent,
  );
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
