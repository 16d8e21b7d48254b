import type { ExplainStep } from "../../libs/client/index.js";
import { escapeControls, type Style } from "./cells.js";
import { formatDuration } from "./output.js";

/** How an answer came about, as a tree: of each step how long it took, and what it did. */
export function renderExplain(step: ExplainStep, paint: (style: Style, text: string) => string): string {
  const lines: string[] = [];
  const visit = ({ name, durationUs, facts, steps }: ExplainStep, lead: string, below: string): void => {
    const took = paint("dim", formatDuration(durationUs / 1000).padStart(8));
    const told = Object.entries(facts).map(([fact, value]) => `${fact}=${shownFact(value)}`);
    lines.push(
      `${took}  ${lead}${paint("bold", escapeControls(name))}${told.length > 0 ? `  ${told.join("  ")}` : ""}`,
    );
    steps.forEach((inner, i) => {
      const isLast = i === steps.length - 1;
      visit(inner, `${below}${isLast ? "└─ " : "├─ "}`, `${below}${isLast ? "   " : "│  "}`);
    });
  };
  visit(step, "", "");
  return lines.join("\n");
}

function shownFact(value: string | number): string {
  if (typeof value === "number")
    return Number.isInteger(value) ? value.toLocaleString("en-US") : String(Number(value.toPrecision(4)));
  const text = escapeControls(value);
  return /[\s=]/.test(text) ? JSON.stringify(text) : text;
}
