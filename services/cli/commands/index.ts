import { Command, Option } from "commander";
import {
  type AnalyzerLanguage,
  analyzerLanguages,
  type AnalyzerTokenizer,
  analyzerTokenizers,
} from "../../../libs/model/index.js";
import {
  type Bm25Input,
  type PayloadIndexInfo,
  type PayloadIndexKind,
  payloadIndexKinds,
  type TextIndexOptions,
  type TextTokenizer,
  textTokenizers,
} from "../../../libs/client/index.js";
import { contextOf, withClient } from "../context.js";
import type { Io } from "../io.js";
import { formatBytes, formatCount } from "../output.js";
import { UsageError } from "../failure.js";
import { finite, whole } from "../values.js";

const count = whole(1, 1_024);

export function indexCommand(io: Io): Command {
  const command = new Command("index").description("create, alter, list and drop indexes of fields of the payload");
  command.addCommand(createCommand(io));
  command.addCommand(alterCommand(io));
  command.addCommand(listCommand(io));
  command.addCommand(dropCommand(io));
  return command;
}

interface CreateFlags {
  tenant?: boolean;
  principal?: boolean;
  wait?: boolean;
  tokenizer?: TextTokenizer | AnalyzerTokenizer;
  field?: string[];
  language?: AnalyzerLanguage;
  foldAccents?: boolean;
  cjkBigrams?: boolean;
  k1?: number;
  b?: number;
  minTokenLength?: number;
  maxTokenLength?: number;
  caseSensitive?: boolean;
  phrase: boolean;
}

function createCommand(io: Io): Command {
  return new Command("create")
    .description("create an index of a field of the payload")
    .argument("<collection>", "name of the collection")
    .argument("<path>", "the field: genre, address.city, cast[].name")
    .addArgument(new Command().createArgument("<kind>", "what the field holds").choices(payloadIndexKinds))
    .option("--tenant", "most queries ask for one value of the field")
    .option("--principal", "most queries ask for a range of the field: kept and shown, and changes nothing")
    .addOption(
      new Option("--tokenizer <kind>", "text, bm25: how texts are split").choices([
        ...new Set([...textTokenizers, ...analyzerTokenizers]),
      ]),
    )
    .option("--min-token-length <count>", "text: shorter words are left out", count)
    .option("--max-token-length <count>", "text: longer words are left out", count)
    .option("--case-sensitive", "text: upper and lower case differ")
    .option("--no-phrase", "text: without the order of words, in less memory; points are read for phrases")
    .option("--field <path^weight...>", "bm25: the texts, with what a word there counts (default: the path, and 1)")
    .addOption(new Option("--language <name>", "bm25: of stop words and stems").choices(analyzerLanguages))
    .option("--fold-accents", "bm25: letters lose their accents")
    .option("--cjk-bigrams", "bm25: Chinese, Japanese and Korean by pairs of characters")
    .option("--k1 <number>", "bm25: how soon further occurrences count no more", finite)
    .option("--b <number>", "bm25: how much the length of a text counts, 0 to 1", finite)
    .option("--wait", "end when it is built on every replica")
    .addHelpText(
      "after",
      `
Examples:
  kith index create films genre keyword --wait
  kith index create films year integer
  kith index create films title text --tokenizer prefix --min-token-length 2
  kith index create docs texts bm25 --field title^2 body --language english --wait
  kith index create orders customer keyword --tenant`,
    )
    .action(async (name: string, path: string, kind: PayloadIndexKind, flags: CreateFlags, self: Command) => {
      const context = contextOf(io, self);
      const text = kind === "bm25" ? undefined : textOptions(flags);
      const bm25 = kind === "bm25" ? bm25Options(flags) : undefined;
      await withClient(context, async (client) => {
        const collection = client.collection(name);
        await collection.createPayloadIndex(path, kind, {
          isTenant: flags.tenant ?? false,
          isPrincipal: flags.principal ?? false,
          wait: flags.wait ?? false,
          signal: io.signal,
          ...(text !== undefined && { text }),
          ...(bm25 !== undefined && { bm25 }),
        });
      });
      if (context.out.json) await context.out.document({ collection: name, path, kind, ready: flags.wait ?? false });
      else await context.out.line(`created the ${kind} index of ${path}${flags.wait ? "" : ", which is being built"}`);
    });
}

interface AlterFlags extends Omit<CreateFlags, "phrase"> {
  manual?: boolean;
}

function alterCommand(io: Io): Command {
  return new Command("alter")
    .description("build an index by bm25 otherwise, beside the queries that it answers; what is not named stays")
    .argument("<collection>", "name of the collection")
    .argument("<path>", "the index")
    .addOption(new Option("--tokenizer <kind>", "how texts are split").choices(analyzerTokenizers))
    .option("--case-sensitive", "upper and lower case differ")
    .option("--field <path^weight...>", "the texts, with what a word there counts (default: the path, and 1)")
    .addOption(new Option("--language <name>", "of stop words and stems").choices(analyzerLanguages))
    .option("--fold-accents", "letters lose their accents")
    .option("--cjk-bigrams", "Chinese, Japanese and Korean by pairs of characters")
    .option("--k1 <number>", "how soon further occurrences count no more", finite)
    .option("--b <number>", "how much the length of a text counts, 0 to 1", finite)
    .option("--manual", "do not answer when it is whole, but when it is promoted")
    .option("--wait", "end when it answers")
    .addHelpText(
      "after",
      `
Examples:
  kith index alter docs texts --field title^2 body --language german --wait
  kith generation list docs                        how far it is
  kith generation rollback docs --index texts      the one before answers again`,
    )
    .action(async (name: string, path: string, flags: AlterFlags, self: Command) => {
      const context = contextOf(io, self);
      const { manual = false, wait = false } = flags;
      const { generation } = await withClient(context, async (client) => {
        const handle = client.collection(name);
        const { payloadIndexes } = await handle.info({ signal: io.signal });
        const bm25 = changedOptions(payloadIndexes.find((each) => each.path === path)?.bm25, flags);
        return handle.alterPayloadIndex(path, { bm25, manual, wait, signal: io.signal });
      });
      if (context.out.json) await context.out.document({ collection: name, path, generation });
      else
        await context.out.line(`generation ${generation} of the index ${path} ${wait ? "answers" : "is being built"}`);
    });
}

/** The options that the index has, with those that are named in their place. */
function changedOptions(known: Bm25Input | undefined, flags: AlterFlags): Bm25Input {
  const wanted = bm25Options(flags);
  const { b } = flags;
  const fields = wanted.fields ?? known?.fields?.map((each) => (b === undefined ? each : { ...each, b }));
  return { ...known, ...wanted, ...(fields && { fields }), analyzer: { ...known?.analyzer, ...wanted.analyzer } };
}

function bm25Options(flags: Omit<CreateFlags, "phrase">): Bm25Input {
  const { field, language, tokenizer, caseSensitive, foldAccents, cjkBigrams, k1, b } = flags;
  const fields = field?.map((each) => {
    const [, path = each, weight] = /^(.*?)(?:\^(\d+(?:\.\d+)?))?$/.exec(each) ?? [];
    return { path, ...(weight !== undefined && { weight: Number(weight) }), ...(b !== undefined && { b }) };
  });
  const known = analyzerTokenizers.find((name) => name === tokenizer);
  if (tokenizer !== undefined && known === undefined) {
    throw new UsageError(`--tokenizer of bm25 is one of ${analyzerTokenizers.join(", ")}`);
  }
  return {
    ...(fields !== undefined && { fields }),
    ...(k1 !== undefined && { k1 }),
    analyzer: {
      ...(known !== undefined && { tokenizer: known }),
      ...(language !== undefined && { language }),
      ...(caseSensitive === true && { lowercase: false }),
      ...(foldAccents === true && { foldAccents }),
      ...(cjkBigrams === true && { cjkBigrams }),
    },
  };
}

/** Undefined where the options say nothing of texts: then the server's defaults hold. */
function textOptions(flags: CreateFlags): Partial<TextIndexOptions> | undefined {
  const { tokenizer, minTokenLength, maxTokenLength, caseSensitive, phrase } = flags;
  const known = textTokenizers.find((name) => name === tokenizer);
  if (tokenizer !== undefined && known === undefined) {
    throw new UsageError(`--tokenizer of a text index is one of ${textTokenizers.join(", ")}`);
  }
  const text: Partial<TextIndexOptions> = {
    ...(known !== undefined && { tokenizer: known }),
    ...(minTokenLength !== undefined && { minTokenLength }),
    ...(maxTokenLength !== undefined && { maxTokenLength }),
    ...(caseSensitive === true && { lowercase: false }),
    ...(!phrase && { phrase }),
  };
  return Object.keys(text).length === 0 ? undefined : text;
}

function listCommand(io: Io): Command {
  return new Command("list")
    .alias("ls")
    .description("list the indexes of a collection")
    .argument("<collection>", "name of the collection")
    .addHelpText(
      "after",
      `
Examples:
  kith index list films
  kith index list films --output json | jq -r '.[] | select(.ready | not).path'`,
    )
    .action(async (name: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const indexes = await withClient(context, (client) =>
        client.collection(name).listPayloadIndexes({ signal: io.signal }),
      );
      if (out.json) await out.document(indexes);
      else if (indexes.length === 0) await out.note(`${name} has no payload indexes.`);
      else {
        await out.table(
          ["PATH", "KIND", "STATE", "POINTS", "WITH A VALUE", "MEMORY", "OPTIONS"],
          indexes.map((index) => [
            index.path,
            index.kind,
            index.ready ? "ready" : "building",
            formatCount(index.pointCount),
            formatCount(index.valuePointCount),
            formatBytes(index.memoryBytes),
            optionsOf(index),
          ]),
        );
      }
    });
}

function optionsOf({ isTenant, isPrincipal, text, bm25 }: PayloadIndexInfo): string {
  const words = [isTenant ? "tenant" : "", isPrincipal ? "principal" : ""];
  if (bm25 !== undefined) {
    words.push(...bm25.fields.map(({ path, weight }) => (weight === 1 ? path : `${path}^${weight}`)));
    words.push(bm25.analyzer.tokenizer, bm25.analyzer.language ?? "");
  }
  if (text !== undefined) {
    words.push(text.tokenizer);
    if (text.minTokenLength !== undefined) words.push(`min ${text.minTokenLength}`);
    if (text.maxTokenLength !== undefined) words.push(`max ${text.maxTokenLength}`);
    words.push(text.lowercase ? "" : "case-sensitive", text.phrase ? "" : "no phrases");
  }
  return words.filter((word) => word !== "").join(" ");
}

function dropCommand(io: Io): Command {
  return new Command("drop")
    .description("drop the index of a field of the payload; filters on it go on, slower")
    .argument("<collection>", "name of the collection")
    .argument("<path>", "the field")
    .addHelpText("after", "\nExamples:\n  kith index drop films genre")
    .action(async (name: string, path: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      await withClient(context, (client) => client.collection(name).dropPayloadIndex(path, { signal: io.signal }));
      if (context.out.json) await context.out.document({ collection: name, path, dropped: true });
      else await context.out.line(`dropped the index of ${path}`);
    });
}
