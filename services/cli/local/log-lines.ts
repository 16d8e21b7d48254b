import { escapeControls } from "../cells.js";

const levels: Record<number, string> = { 10: "trace", 20: "debug", 30: "info", 40: "warn", 50: "error", 60: "fatal" };
const left = new Set(["level", "time", "msg", "pid", "hostname", "trace_id", "span_id", "node", "service"]);

/** A line of a child's log for people: JSON records become "level message key=value", other text stays as it is. */
export function readableLine(line: string): string {
  if (!line.startsWith("{")) return escapeControls(line);
  let record: Record<string, unknown>;
  try {
    record = JSON.parse(line) as Record<string, unknown>;
  } catch (error) {
    if (error instanceof SyntaxError) return escapeControls(line);
    throw error;
  }
  const { level, msg } = record;
  const name = typeof level === "number" ? (levels[level] ?? String(level)) : typeof level === "string" ? level : "";
  const rest = Object.entries(record)
    .filter(([key]) => !left.has(key))
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return escapeControls([name.padEnd(5), typeof msg === "string" ? msg : "", ...rest].join(" ").trimEnd());
}
