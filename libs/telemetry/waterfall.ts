import type { CollectedSpan } from "./span.js";

export interface WaterfallOptions {
  /** Columns of the terminal. */
  width: number;
  /** ANSI colours. */
  color?: boolean;
}

/** Attributes worth a place in the picture, in this order; others only where nothing else is known of a span. */
const shownAttributes = [
  "error.type",
  "rpc.response.status_code",
  "kith.collection",
  "kith.shard",
  "kith.results",
  "queue_us",
  "search_us",
  "plan",
  "ef",
  "computed",
] as const;
const attributesMax = 5;
/** Clock differences below this are the rounding of microseconds, not skew. */
const skewToleranceUs = 100;

interface Row {
  span: CollectedSpan;
  depth: number;
  /** On the time axis of the root's process. */
  startUs: number;
  durationUs: number;
}

interface Skew {
  /** By how much the node's clock was moved. */
  shiftUs: number;
}

/**
 * A trace as text: the tree of spans with bars on one time axis, durations, nodes and the attributes that matter. Spans
 * come from several processes whose clocks differ; a child that would begin before or end after its parent on another
 * node is moved into it, with all that hangs below, and a line at the end says so.
 */
export function renderWaterfall(spans: readonly CollectedSpan[], options: WaterfallOptions): string {
  if (spans.length === 0) return "no spans were collected";
  const skews = new Map<string, Skew>();
  const rows = layOut(spans, skews);
  const startUs = Math.min(...rows.map((row) => row.startUs));
  const endUs = Math.max(...rows.map((row) => row.startUs + row.durationUs));
  const totalUs = Math.max(1, endUs - startUs);

  const labels = rows.map((row) => `${"  ".repeat(row.depth)}${row.span.name}`);
  const durations = rows.map((row) => formatDuration(row.durationUs));
  const nodes = rows.map((row) => row.span.node);
  const longest = (texts: readonly string[], max: number): number =>
    Math.min(max, Math.max(...texts.map((text) => text.length)));
  const width = Math.max(60, options.width);
  const labelWidth = longest(labels, Math.floor(width * 0.36));
  const durationWidth = longest(durations, 10);
  const nodeWidth = longest(nodes, 16);
  const barWidth = Math.max(12, Math.min(60, Math.floor((width - labelWidth - durationWidth - nodeWidth) * 0.55)));
  const restWidth = width - labelWidth - durationWidth - nodeWidth - barWidth - 7;
  const paint = (code: string, text: string): string => (options.color ? `\u001b[${code}m${text}\u001b[0m` : text);

  const lines = rows.map((row, i) => {
    const failed = row.span.attributes["error.type"] !== undefined;
    const bar = barOf((row.startUs - startUs) / totalUs, row.durationUs / totalUs, barWidth);
    const rest = cut(attributesOf(row.span), restWidth);
    return [
      cut(labels[i] as string, labelWidth).padEnd(labelWidth),
      (durations[i] as string).padStart(durationWidth),
      `|${paint(failed ? "31" : "36", bar)}|`,
      paint("90", cut(nodes[i] as string, nodeWidth).padEnd(nodeWidth)),
      failed ? paint("31", rest) : rest,
    ]
      .join(" ")
      .trimEnd();
  });
  for (const [node, { shiftUs }] of skews) {
    const direction = shiftUs > 0 ? "behind" : "ahead";
    lines.push(
      paint("33", `the clock of ${node} seems ${formatDuration(Math.abs(shiftUs))} ${direction}; its spans were moved`),
    );
  }
  return lines.join("\n");
}

/** Depth first, siblings by start; spans whose parent is not there are roots. */
function layOut(spans: readonly CollectedSpan[], skews: Map<string, Skew>): Row[] {
  const byId = new Map<string, CollectedSpan>();
  for (const span of spans) byId.set(span.spanId, span);
  const children = new Map<string, CollectedSpan[]>();
  const roots: CollectedSpan[] = [];
  for (const span of byId.values()) {
    const isRoot = span.parentSpanId === span.spanId || !byId.has(span.parentSpanId);
    if (isRoot) roots.push(span);
    else children.set(span.parentSpanId, [...(children.get(span.parentSpanId) ?? []), span]);
  }
  const rows: Row[] = [];
  const place = (span: CollectedSpan, parent: Row | undefined, shiftUs: number): void => {
    byId.delete(span.spanId);
    const shift = parent === undefined ? shiftUs : shiftUs + skewOf(span, shiftUs, parent, skews);
    const row: Row = {
      span,
      depth: parent === undefined ? 0 : parent.depth + 1,
      startUs: span.startUs + shift,
      durationUs: span.durationUs,
    };
    rows.push(row);
    const below = (children.get(span.spanId) ?? []).sort((a, b) => a.startUs - b.startUs);
    for (const child of below) if (byId.has(child.spanId)) place(child, row, shift);
  };
  for (const root of roots.sort((a, b) => a.startUs - b.startUs)) place(root, undefined, 0);
  // Spans in a circle of parents hang below no root; a damaged trace is still shown whole.
  for (const span of [...byId.values()]) if (byId.has(span.spanId)) place(span, undefined, 0);
  return rows;
}

/** How far a span of another node must move so that it lies within its parent. */
function skewOf(span: CollectedSpan, shiftUs: number, parent: Row, skews: Map<string, Skew>): number {
  if (span.node === parent.span.node) return 0;
  const startUs = span.startUs + shiftUs;
  const lateUs = startUs + span.durationUs - (parent.startUs + parent.durationUs);
  const earlyUs = parent.startUs - startUs;
  if (earlyUs <= skewToleranceUs && lateUs <= skewToleranceUs) return 0;
  // In the middle of the parent: the way there and the way back are taken to be equally long.
  const slackUs = Math.max(0, parent.durationUs - span.durationUs);
  const move = Math.round(parent.startUs + slackUs / 2 - startUs);
  const known = skews.get(span.node);
  if (known === undefined || Math.abs(move) > Math.abs(known.shiftUs)) skews.set(span.node, { shiftUs: move });
  return move;
}

/** Eighths of a cell, so that short spans differ. */
const eighths = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"] as const;

function barOf(start: number, length: number, width: number): string {
  const from = Math.min(width - 1, Math.max(0, Math.floor(start * width)));
  const cells = Math.min(width - from, Math.max(0.125, length * width));
  const whole = Math.floor(cells);
  const part = eighths[Math.round((cells - whole) * 8)] ?? "";
  const bar = `${"█".repeat(whole)}${part}` || "▏";
  return `${" ".repeat(from)}${bar}`.slice(0, width).padEnd(width);
}

function attributesOf(span: CollectedSpan): string {
  const { attributes } = span;
  const keys: string[] = shownAttributes.filter((key) => {
    const value = attributes[key];
    return value !== undefined && value !== "" && !(key === "rpc.response.status_code" && value === "OK");
  });
  for (const key of Object.keys(attributes)) {
    if (!keys.includes(key) && !key.startsWith("rpc.")) keys.push(key);
  }
  return keys
    .slice(0, attributesMax)
    .map((key) => shown(key, attributes[key] as string))
    .join(" ");
}

function shown(key: string, value: string): string {
  if (key === "rpc.response.status_code") return `status=${value}`;
  if (key.endsWith("_us")) return `${key.slice(0, -"_us".length)}=${formatDuration(Number(value)).replace(" ", "")}`;
  return `${key.replace(/^kith\./, "")}=${value}`;
}

/** Cuts to the width; control characters, which could steer the terminal, become visible. */
function cut(raw: string, width: number): string {
  const text = raw.replace(/\p{Cc}/gu, "�");
  if (text.length <= width) return text;
  return width <= 1 ? "" : `${text.slice(0, width - 1)}…`;
}

function formatDuration(us: number): string {
  if (us < 1_000) return `${Math.round(us)} µs`;
  if (us < 100_000) return `${(us / 1_000).toFixed(2)} ms`;
  if (us < 1_000_000) return `${(us / 1_000).toFixed(0)} ms`;
  return `${(us / 1_000_000).toFixed(2)} s`;
}
