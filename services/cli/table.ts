import Table from "cli-table3";
import { type Cell, escapeControls, type Style } from "./cells.js";

const plainChars = {
  top: "",
  "top-mid": "",
  "top-left": "",
  "top-right": "",
  bottom: "",
  "bottom-mid": "",
  "bottom-left": "",
  "bottom-right": "",
  left: "",
  "left-mid": "",
  mid: "",
  "mid-mid": "",
  right: "",
  "right-mid": "",
  middle: "  ",
} as const;

/** Columns without frames, so that cut, awk and copying work. Numbers are aligned to the right. */
export function formatTable(
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
  paint: (style: Style, text: string) => string = (_, text) => text,
): string {
  const numeric = head.map((_, column) =>
    rows.some((row) => typeof row[column] === "number" || typeof row[column] === "bigint"),
  );
  const table = new Table({
    head: [...head],
    colAligns: numeric.map((right) => (right ? "right" : "left")),
    chars: plainChars,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
  });
  for (const row of rows) {
    table.push(
      row.map((cell) => {
        if (cell === undefined) return "";
        if (typeof cell === "object") return paint(cell.style, escapeControls(cell.text));
        return escapeControls(String(cell));
      }),
    );
  }
  return table
    .toString()
    .split("\n")
    .map((line) => line.trimEnd())
    .join("\n");
}
