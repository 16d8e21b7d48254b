export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "blue" | "magenta" | "cyan";

/** A cell of a table; text with a style is coloured where people look at it. */
export type Cell = string | number | bigint | undefined | { text: string; style: Style };

/** Stored text must not move the cursor or change the colours of the terminal that shows it. */
export function escapeControls(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what this looks for
  return text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, (char) =>
    char === "\t" || char === "\n" ? " " : `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}
