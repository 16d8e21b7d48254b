import { createRequire } from "node:module";
import type { AnalyzerLanguage } from "../model/index.js";

/** What is known of a language: its stop words, and a stemmer. */
export interface Language {
  readonly stopwords: ReadonlySet<string>;
  readonly stem: (word: string) => string;
}

// Loaded when a language is first used: all of them would add 600 KB to every start.
const load = createRequire(import.meta.url);
const loaded = new Map<AnalyzerLanguage, Language>();

export function languageOf(name: AnalyzerLanguage): Language {
  const known = loaded.get(name);
  if (known !== undefined) return known;
  const { stopwords } = load(`@orama/stopwords/${name}`) as { stopwords: string[] };
  const { stemmer } = load(`@orama/stemmers/${name}`) as { stemmer: (word: string) => string };
  const language = { stopwords: new Set([...stopwords, ...stopwords.flatMap(behindApostrophe)]), stem: stemmer };
  loaded.set(name, language);
  return language;
}

/** Words are split at apostrophes, so that of "it's" there is an "s" of its own. */
function behindApostrophe(word: string): string[] {
  const [, behind] = /^[a-z]+'([a-z]{1,2})$/.exec(word) ?? [];
  return behind === undefined ? [] : [behind];
}

/** Words that say little in a language. */
export function stopwordsOf(name: AnalyzerLanguage): ReadonlySet<string> {
  return languageOf(name).stopwords;
}
