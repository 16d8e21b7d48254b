import { KithError, limits } from "../base/index.js";
import type { Analyzer } from "./analyzer.js";

/** Part of a query's text. "must" is to be there, "mustNot" is not; of its terms one is enough. */
export interface TextClause {
  kind: "should" | "must" | "mustNot";
  terms: readonly TextTerm[];
}

export interface TextTerm {
  /** prefix: all terms that begin so; fuzzy: those that `distance` changes of a character lead to. */
  kind: "term" | "prefix" | "fuzzy";
  text: string;
  distance: number;
  boost: number;
}

/** Tokens that must follow each other in one field, or must nowhere. */
export interface Phrase {
  tokens: readonly string[];
  isExcluded: boolean;
}

export interface ParsedText {
  clauses: TextClause[];
  phrases: Phrase[];
}

/** A quoted part, a parenthesis, or what stands between white space, with the signs before and behind it. */
const pieces = /([+-]?)(?:"([^"]*)"|([()])|([^\s()"]+))/gu;
const suffix = /^(.+?)(\*|~([12])?)?(?:\^(\d+(?:\.\d+)?))?$/u;

/**
 * Reads the text of a query. Terms are split by the analyzer of the points, but what stands before * and ~ is only folded. INVALID_ARGUMENT for
 * parentheses that do not fit, LIMIT_OUT_OF_RANGE for too many terms.
 */
export function parseText(text: string, analyzer: Analyzer, plain: boolean): ParsedText {
  if (Buffer.byteLength(text) > limits.queryTextBytes) {
    throw new KithError(
      "LIMIT_OUT_OF_RANGE",
      `the text of the query has ${Buffer.byteLength(text)} bytes; the limit is ${limits.queryTextBytes}`,
      { details: { limit: limits.queryTextBytes } },
    );
  }
  const parsed = plain ? plainOf(text, analyzer) : new Parser(analyzer).parse(text);
  const count = parsed.clauses.reduce((sum, { terms }) => sum + terms.length, 0);
  if (count > limits.queryTermsMax) {
    throw new KithError("LIMIT_OUT_OF_RANGE", `the query has ${count} terms; the limit is ${limits.queryTermsMax}`, {
      details: { limit: limits.queryTermsMax },
    });
  }
  return parsed;
}

function plainOf(text: string, analyzer: Analyzer): ParsedText {
  return { clauses: merged(analyzer.tokens(text).map((token) => clauseOf("should", [termOf(token)]))), phrases: [] };
}

function termOf(text: string, boost = 1): TextTerm {
  return { kind: "term", text, distance: 0, boost };
}

function clauseOf(kind: TextClause["kind"], terms: readonly TextTerm[]): TextClause {
  return { kind, terms };
}

/** A term that stands several times in a query counts so many times. */
function merged(clauses: readonly TextClause[]): TextClause[] {
  const byKey = new Map<string, TextClause>();
  for (const clause of clauses) {
    const [term] = clause.terms;
    if (term === undefined) continue;
    const key =
      clause.terms.length > 1 ? String(byKey.size) : `${clause.kind} ${term.kind}${term.distance} ${term.text}`;
    const before = byKey.get(key)?.terms[0];
    byKey.set(
      key,
      before === undefined ? clause : { ...clause, terms: [{ ...term, boost: before.boost + term.boost }] },
    );
  }
  return [...byKey.values()];
}

class Parser {
  readonly #analyzer: Analyzer;
  readonly #clauses: TextClause[] = [];
  readonly #phrases: Phrase[] = [];
  #group: { kind: TextClause["kind"]; terms: TextTerm[] } | undefined;
  /** What a word before says of the next piece. */
  #next: TextClause["kind"] | undefined;

  constructor(analyzer: Analyzer) {
    this.#analyzer = analyzer;
  }

  parse(text: string): ParsedText {
    for (const [, sign = "", phrase, parenthesis, word] of text.matchAll(pieces)) {
      if (parenthesis === "(") this.#open(this.#kind(sign));
      else if (parenthesis === ")") this.#close();
      else if (phrase !== undefined) this.#phrase(phrase, this.#kind(sign));
      else if (word !== undefined) this.#word(word, sign);
    }
    if (this.#group !== undefined) throw parentheses("is not closed");
    return { clauses: merged(this.#clauses), phrases: this.#phrases };
  }

  #kind(sign: string): TextClause["kind"] {
    const said = this.#next;
    this.#next = undefined;
    return sign === "-" ? "mustNot" : sign === "+" ? "must" : (said ?? "should");
  }

  #open(kind: TextClause["kind"]): void {
    if (this.#group !== undefined) throw parentheses("stands within another one");
    this.#group = { kind, terms: [] };
  }

  #close(): void {
    if (this.#group === undefined) throw parentheses("is closed that was not opened");
    const { kind, terms } = this.#group;
    this.#group = undefined;
    if (terms.length > 0) this.#clauses.push(clauseOf(kind, terms));
  }

  #phrase(text: string, kind: TextClause["kind"]): void {
    const tokens = this.#analyzer.tokens(text);
    this.#checkAlternative(kind, "a sign before a phrase");
    if (tokens.length > 1) this.#checkAlternative(undefined, "a phrase");
    if (this.#group !== undefined || tokens.length === 1)
      return this.#add(
        tokens.map((token) => termOf(token)),
        kind === "should" ? "must" : kind,
      );
    if (tokens.length === 0) return;
    this.#phrases.push({ tokens, isExcluded: kind === "mustNot" });
    if (kind !== "mustNot") for (const token of tokens) this.#clauses.push(clauseOf("must", [termOf(token)]));
  }

  #word(word: string, sign: string): void {
    if (sign === "" && word === "OR") return;
    if (sign === "" && (word === "NOT" || word === "AND")) this.#checkAlternative(undefined, word);
    if (sign === "" && word === "NOT") {
      this.#next = "mustNot";
      return;
    }
    if (sign === "" && word === "AND") {
      this.#next = "must";
      // Both sides of it are meant.
      const last = this.#clauses.at(-1);
      if (last?.kind === "should") this.#clauses[this.#clauses.length - 1] = { ...last, kind: "must" };
      return;
    }
    const kind = this.#kind(sign);
    this.#checkAlternative(kind, `${sign}${word}`);
    this.#add(this.#terms(word), kind);
  }

  /** INVALID_ARGUMENT within parentheses for what is no alternative: one of the words there is enough. */
  #checkAlternative(kind: TextClause["kind"] | undefined, what: string): void {
    if (this.#group !== undefined && kind !== "should") {
      throw parentheses(
        `has ${what} in it; only single words stand there, of which one is enough. Give "plain" where it is nothing but text`,
      );
    }
  }

  #add(terms: readonly TextTerm[], kind: TextClause["kind"]): void {
    if (this.#group !== undefined) this.#group.terms.push(...terms);
    else for (const term of terms) this.#clauses.push(clauseOf(kind, [term]));
  }

  #terms(word: string): TextTerm[] {
    const [, body = word, operator, digit, factor] = suffix.exec(word) ?? [];
    const boost = factor === undefined ? 1 : Number(factor);
    if (operator === undefined) return this.#analyzer.tokens(body).map((token) => termOf(token, boost));
    const folded = this.#analyzer.fold(body);
    if (operator === "*") return [{ kind: "prefix", text: folded, distance: 0, boost }];
    // Terms of the index are stems: a typing error is looked for in what is left of the word.
    const distance = digit === undefined ? (folded.length > 5 ? 2 : 1) : Number(digit);
    return this.#analyzer.tokens(body).map((text) => ({ kind: "fuzzy", text, distance, boost }));
  }
}

function parentheses(what: string): KithError {
  return new KithError("INVALID_ARGUMENT", `the text of the query has a parenthesis that ${what}`, {
    details: { path: "query.text.text" },
  });
}

/** Whether the tokens have those of the phrase in a row. */
export function hasPhrase(tokens: readonly string[], phrase: readonly string[]): boolean {
  for (let start = 0; start + phrase.length <= tokens.length; start++) {
    if (phrase.every((token, i) => token === tokens[start + i])) return true;
  }
  return false;
}
