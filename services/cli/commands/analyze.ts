import { Command, Option } from "commander";
import { KithError } from "../../../libs/base/index.js";
import {
  analyzerDefaults,
  type AnalyzerLanguage,
  analyzerLanguages,
  type AnalyzerOptions,
  type AnalyzerTokenizer,
  analyzerTokenizers,
  checkAnalyzer,
} from "../../../libs/model/index.js";
import { analyzerOf } from "../../../libs/text/index.js";
import { contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";
import { whole } from "../values.js";

interface AnalyzeFlags {
  collection?: string;
  index?: string;
  tokenizer?: AnalyzerTokenizer;
  language?: AnalyzerLanguage;
  caseSensitive?: boolean;
  foldAccents?: boolean;
  cjkBigrams?: boolean;
  stopwords: boolean;
  stem: boolean;
  minGram?: number;
  maxGram?: number;
}

const gram = whole(1, 20);

export function analyzeCommand(io: Io): Command {
  return new Command("analyze")
    .description("show the tokens that BM25 makes of a text")
    .argument("<text>", "the text")
    .option("--collection <name>", "as an index of this collection does it")
    .option("--index <path>", "the index (default: the only one)")
    .addOption(new Option("--tokenizer <kind>", "how texts are split").choices(analyzerTokenizers))
    .addOption(new Option("--language <name>", "of stop words and stems").choices(analyzerLanguages))
    .option("--case-sensitive", "upper and lower case differ")
    .option("--fold-accents", "letters lose their accents")
    .option("--cjk-bigrams", "Chinese, Japanese and Korean by pairs of characters")
    .option("--no-stopwords", "stop words stay")
    .option("--no-stem", "words stay as they are")
    .option("--min-gram <count>", "characters of the shortest part of a word", gram)
    .option("--max-gram <count>", "characters of the longest part of a word", gram)
    .addHelpText(
      "after",
      `
Examples:
  kith analyze 'The boundary layers' --language english
  kith analyze 'The boundary layers' --collection docs`,
    )
    .action(async (text: string, flags: AnalyzeFlags, self: Command) => {
      const context = contextOf(io, self);
      const { collection } = flags;
      const base =
        collection === undefined
          ? analyzerDefaults
          : await withClient(context, async (client) => {
              const { payloadIndexes } = await client.collection(collection).info({ signal: io.signal });
              const all = payloadIndexes.filter(({ bm25 }) => bm25 !== undefined);
              const index = all.find(({ path }) => path === flags.index) ?? (all.length === 1 ? all[0] : undefined);
              if (index?.bm25 !== undefined) return index.bm25.analyzer;
              const known = all.map(({ path }) => path).join(", ") || "none";
              throw new KithError(
                "INVALID_ARGUMENT",
                `name a BM25 index of "${collection}" with --index; it has ${known}`,
              );
            });
      const options = withFlags(base, flags);
      checkAnalyzer(options, "the analyzer", "INVALID_ARGUMENT");
      const tokens = analyzerOf(options).placed(text);
      if (context.out.json) await context.out.document(tokens);
      else if (tokens.length === 0) await context.out.note("no tokens are left of it");
      else
        await context.out.table(
          ["TOKEN", "OF", "FROM", "TO"],
          tokens.map(({ token, start, end }) => [token, text.slice(start, end), start, end]),
        );
    });
}

function withFlags(base: AnalyzerOptions, flags: AnalyzeFlags): AnalyzerOptions {
  const { tokenizer, language, caseSensitive, foldAccents, cjkBigrams, stopwords, stem, minGram, maxGram } = flags;
  return {
    ...base,
    ...(tokenizer !== undefined && { tokenizer }),
    ...(language !== undefined && { language }),
    ...(caseSensitive === true && { lowercase: false }),
    ...(foldAccents === true && { foldAccents }),
    ...(cjkBigrams === true && { cjkBigrams }),
    ...(!stopwords && { removeStopwords: false }),
    ...(!stem && { stem: false }),
    ...(minGram !== undefined && { minGram }),
    ...(maxGram !== undefined && { maxGram }),
  };
}
