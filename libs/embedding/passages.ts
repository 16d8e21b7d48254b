import { KithError } from "../base/index.js";

export interface Passage {
  /** The headings above the passage, outermost first. */
  headings: string[];
  /** The headings as one line, "Guide › Install"; "" for text before the first heading. */
  title: string;
  /** The Markdown of the passage, without its headings. */
  text: string;
}

export interface SplitOptions {
  /** Longest passage, in characters (UTF-16 units). Default: 1 200. */
  maxChars?: number;
  /** Characters that a passage repeats from the end of the one before it in the same section, cut at a word. Default: 0. */
  overlap?: number;
  /** Shorter sections are dropped: a lone badge or link says nothing. Default: 1. */
  minChars?: number;
}

interface Section {
  headings: string[];
  blocks: string[];
}

const headingPattern = /^ {0,3}(#{1,6})(?:[ \t]+(.*?))?(?:[ \t]+#+)?[ \t]*$/;
const underlinePattern = /^ {0,3}(=+|-+)[ \t]*$/;
const fencePattern = /^ {0,3}(`{3,}|~{3,})(.*)$/;
const listOrQuotePattern = /^ {0,3}(?:[-*+>]|\d+[.)])(?:\s|$)/;

/**
 * Cuts Markdown into passages that can each be found on their own: never across a heading, at paragraphs where possible, and
 * lines beginning with "#" inside fenced code are no headings. Plain text is one section without headings.
 */
export function splitPassages(text: string, options: SplitOptions = {}): Passage[] {
  const { maxChars = 1_200, overlap = 0, minChars = 1 } = options;
  if (!Number.isInteger(maxChars) || maxChars < 40) {
    throw new KithError("INVALID_ARGUMENT", `maxChars is ${maxChars}; it must be a whole number of at least 40`);
  }
  if (!Number.isInteger(overlap) || overlap < 0 || overlap > maxChars / 2) {
    throw new KithError("INVALID_ARGUMENT", `overlap is ${overlap}; it must be a whole number in 0..${maxChars / 2}`);
  }
  const passages: Passage[] = [];
  for (const { headings, blocks } of sectionsOf(text)) {
    const title = headings.join(" › ");
    for (const piece of pack(blocks, maxChars, overlap)) {
      if (piece.length >= minChars) passages.push({ headings, title, text: piece });
    }
  }
  return passages;
}

function sectionsOf(text: string): Section[] {
  const sections: Section[] = [];
  /** Headings in force by level; levels that were skipped are holes. */
  let path: (string | undefined)[] = [];
  let blocks: string[] = [];
  let paragraph: string[] = [];
  let fence: string | undefined;

  const endParagraph = (): void => {
    const block = paragraph.join("\n").replace(/^\n+|\s+$/g, "");
    if (block !== "") blocks.push(block);
    paragraph = [];
  };
  const endSection = (): void => {
    endParagraph();
    if (blocks.length > 0) sections.push({ headings: path.filter((each) => each !== undefined), blocks });
    blocks = [];
  };
  const enter = (level: number, heading: string): void => {
    endSection();
    path = [...path.slice(0, level - 1)];
    if (heading !== "") path[level - 1] = heading;
  };

  for (const line of text.replace(/^\uFEFF/, "").split(/\r\n|\r|\n/)) {
    if (fence !== undefined) {
      paragraph.push(line);
      if (closes(fence, line)) {
        fence = undefined;
        endParagraph();
      }
      continue;
    }
    const opened = fencePattern.exec(line);
    if (opened !== null && !(opened[1]?.startsWith("`") && opened[2]?.includes("`"))) {
      endParagraph();
      fence = opened[1];
      paragraph.push(line);
      continue;
    }
    const heading = headingPattern.exec(line);
    if (heading !== null) {
      enter((heading[1] as string).length, plain(heading[2] ?? ""));
      continue;
    }
    const underline = underlinePattern.exec(line);
    if (underline !== null && isParagraph(paragraph)) {
      const title = plain(paragraph.join(" "));
      paragraph = [];
      enter(underline[1]?.startsWith("=") ? 1 : 2, title);
      continue;
    }
    if (line.trim() === "") endParagraph();
    else paragraph.push(line);
  }
  endSection();
  return sections;
}

/** A fence is closed by at least as many of the same characters, and nothing else, on a line. */
function closes(fence: string, line: string): boolean {
  const mark = line.trim();
  return mark.length >= fence.length && mark === (fence[0] as string).repeat(mark.length) && /^ {0,3}\S/.test(line);
}

/** Whether the lines can be the title above an underline: text of few lines, no list, quote, table or indented code. */
function isParagraph(lines: readonly string[]): boolean {
  if (lines.length === 0 || lines.length > 3) return false;
  const first = lines[0] as string;
  return !listOrQuotePattern.test(first) && !/^(?: {4}|\t)/.test(first) && !first.includes("|");
}

/** A heading without the marks of links, images, emphasis and code. */
function plain(heading: string): string {
  return heading
    .replace(/<[^<>]*>/g, "")
    .replace(/!?\[([^\]]*)\](?:\([^()]*\)|\[[^\]]*\])/g, "$1")
    .replace(/[`*]|(?<!\w)_+|_+(?!\w)/g, "")
    .replace(/\s+/g, " ")
    .trim();
}

/** Joins blocks while they fit; splits those that are too long by themselves. */
function pack(blocks: readonly string[], maxChars: number, overlap: number): string[] {
  const pieces: string[] = [];
  let current = "";
  const push = (): void => {
    if (current !== "") pieces.push(current);
    current = "";
  };
  for (const block of blocks) {
    let rest = block;
    while (rest !== "") {
      const separator = current === "" ? "" : "\n\n";
      if (current.length + separator.length + rest.length <= maxChars) {
        current += separator + rest;
        break;
      }
      if (current !== "") {
        const tail = tailOf(current, overlap);
        push();
        // What is repeated must leave room for something new.
        if (tail !== "" && tail.length + 2 + Math.min(rest.length, maxChars / 2) <= maxChars) {
          const room = maxChars - tail.length - 2;
          const head = rest.length <= room ? rest : rest.slice(0, cutAt(rest, room));
          current = `${tail}\n\n${head.trimEnd()}`;
          rest = rest.slice(head.length).trimStart();
        }
        continue;
      }
      const cut = cutAt(rest, maxChars);
      current = rest.slice(0, cut).trimEnd();
      rest = rest.slice(cut).trimStart();
    }
  }
  push();
  return pieces;
}

/** Where to cut text that is longer than `maxChars`: after a line, a sentence or a word, in this order; never in a character. */
function cutAt(text: string, maxChars: number): number {
  const window = text.slice(0, maxChars);
  const least = maxChars / 2;
  const line = window.lastIndexOf("\n");
  if (line >= least) return line + 1;
  let sentence = -1;
  for (const match of window.matchAll(/[.!?](?=\s)|[。！？]/g)) sentence = match.index + 1;
  if (sentence >= least) return sentence;
  const space = Math.max(window.lastIndexOf(" "), line);
  if (space > 0) return space + 1;
  const last = text.charCodeAt(maxChars - 1);
  return last >= 0xd800 && last <= 0xdbff ? maxChars - 1 : maxChars;
}

function tailOf(text: string, overlap: number): string {
  if (overlap === 0) return "";
  if (text.length <= overlap) return text;
  const tail = text.slice(-overlap);
  const space = tail.search(/\s/);
  return space < 0 ? "" : tail.slice(space).trim();
}
