/** One column of a table: its title, and on which side short cells stand. */
export interface Column {
  title: string;
  align?: "left" | "right";
}

/** A table that reads well in a terminal and is a table in Markdown too. */
export function formatTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const widths = columns.map((column, i) =>
    Math.max(column.title.length, 3, ...rows.map((row) => (row[i] ?? "").length)),
  );
  const pad = (text: string, i: number): string =>
    columns[i]?.align === "left" ? text.padEnd(widths[i] as number) : text.padStart(widths[i] as number);
  const line = (cells: readonly string[]): string => `| ${columns.map((_, i) => pad(cells[i] ?? "", i)).join(" | ")} |`;
  const rule = columns.map((column, i) => {
    const dashes = "-".repeat((widths[i] as number) - 1);
    return column.align === "left" ? `:${dashes}` : `${dashes}:`;
  });
  return [line(columns.map((column) => column.title)), `| ${rule.join(" | ")} |`, ...rows.map(line)].join("\n");
}

/** 12345.6 → "12,346"; small numbers keep three significant digits. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return "-";
  if (Math.abs(value) >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en-US");
  return value.toPrecision(3);
}

/** Microseconds as milliseconds. */
export function formatMs(us: number): string {
  const ms = us / 1000;
  return ms >= 100 ? ms.toFixed(0) : ms.toFixed(2);
}

export function formatMiB(bytes: number): string {
  return (bytes / (1024 * 1024)).toFixed(1);
}
