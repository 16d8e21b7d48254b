import { Command, Option } from "commander";
import { type Datatype, datatypes } from "../../../libs/model/index.js";
import type { AlterVectorFieldOptions, GenerationInfo } from "../../../libs/client/index.js";
import { type CommandContext, contextOf, withClient } from "../context.js";
import { UsageError } from "../failure.js";
import type { Io } from "../io.js";
import { formatBytes, formatCount } from "../output.js";
import { finite, whole } from "../values.js";

export function generationCommand(io: Io): Command {
  const command = new Command("generation").description(
    "builds of the index of a vector field, or of one by bm25: list, compare, promote, roll back and drop them",
  );
  command.addCommand(listCommand(io));
  command.addCommand(compareCommand(io));
  command.addCommand(switchCommand(io, "promote"));
  command.addCommand(switchCommand(io, "rollback"));
  command.addCommand(switchCommand(io, "drop"));
  return command;
}

interface AlterFlags extends Pick<AlterVectorFieldOptions, "m" | "efConstruction" | "originals" | "manual" | "wait"> {
  field?: string;
  datatype?: Datatype;
  recallMin?: number;
  auto?: number;
}

/** `kith collection alter` */
export function alterCommand(io: Io): Command {
  return new Command("alter")
    .description("change the datatype or the graph of a vector field's index, beside the queries that it answers")
    .argument("<collection>", "its name")
    .option("--field <name>", "the vector field (default: the unnamed one)")
    .addOption(new Option("--datatype <type>", "how the index keeps vectors in memory").choices(datatypes))
    .option("--m <count>", "links per node of the graph", whole(2, 128))
    .option("--ef-construction <n>", "beam width of the build", whole(8, 4_096))
    .option("--originals", "keep the vectors as they were written in a file, and score results by them")
    .option("--no-originals", "keep codes alone")
    .option("--auto <recall>", "pick the datatype by the data: the least memory with this recall@10", finite)
    .option("--recall-min <share>", "least recall@10 to answer (default: that of before, less 0.02)", finite)
    .option("--manual", "do not answer when it is whole, but when it is promoted")
    .option("--wait", "end when it answers")
    .addHelpText(
      "after",
      `
Examples:
  kith collection alter articles --datatype i8 --originals --wait
  kith collection alter articles --auto 0.95 --wait
  kith collection alter media --field image --m 32 --ef-construction 256 --manual
  kith generation list articles                    how far it is
  kith generation rollback articles                the one before answers again`,
    )
    .action(async (name: string, flags: AlterFlags, self: Command) => {
      const context = contextOf(io, self);
      const { field = "", recallMin, auto, ...options } = flags;
      if ([flags.datatype, flags.m, flags.efConstruction, flags.originals, auto].every((each) => each === undefined)) {
        throw new UsageError("nothing to change: give --datatype, --m, --ef-construction, --originals or --auto");
      }
      const { generation, collection } = await withClient(context, (client) =>
        client.collection(name).alterVectorField(field, {
          ...options,
          ...(recallMin !== undefined && { minRecall: recallMin }),
          ...(auto !== undefined && { autoRecall: auto }),
          signal: io.signal,
        }),
      );
      const choice = auto === undefined ? undefined : collection.choices.find((each) => each.field === field);
      if (context.out.json) await context.out.document({ collection: name, field, generation, choice });
      else {
        if (choice !== undefined) await context.out.line(`picked ${choice.datatype}: ${choice.reason}`);
        const state = flags.wait === true ? "answers" : "is being built";
        await context.out.line(`generation ${generation} of ${titleOf(name, field)} ${state}`);
      }
    });
}

function listCommand(io: Io): Command {
  return new Command("list")
    .alias("ls")
    .alias("status")
    .description("list the builds of the indexes of all vector fields, and how far they are")
    .argument("<collection>", "name of the collection")
    .addHelpText(
      "after",
      `
Examples:
  kith generation list articles
  kith generation status articles --output json | jq '.[] | select(.state == "building")'`,
    )
    .action(async (name: string, _flags: object, self: Command) => {
      const context = contextOf(io, self);
      const { out } = context;
      const { generations, texts } = await withClient(context, async (client) => {
        const handle = client.collection(name);
        const call = { signal: io.signal };
        return { generations: await handle.listGenerations(call), texts: await handle.listTextGenerations(call) };
      });
      if (out.json) await out.document([...generations, ...texts]);
      else {
        await out.table(
          [
            "FIELD",
            "GENERATION",
            "STATE",
            "DATATYPE",
            "M",
            "EF BUILD",
            "VECTORS",
            "NOT INDEXED",
            "MEMORY",
            "RECALL@10",
          ],
          generations.map((each) => [
            each.field || "(unnamed)",
            each.number,
            each.state,
            each.originals ? `${each.datatype} + originals` : each.datatype,
            each.m,
            each.efConstruction,
            formatCount(each.rowCount),
            formatCount(each.unindexedCount),
            formatBytes(each.memoryBytes),
            recallOf(each),
          ]),
        );
        if (texts.length === 0) return;
        await out.table(
          ["INDEX", "GENERATION", "STATE", "FIELDS", "ANALYZER", "K1", "POINTS", "MEMORY"],
          texts.map(({ index, number, state, bm25, rowCount, memoryBytes }) => [
            index,
            number,
            state,
            bm25.fields.map(({ path, weight }) => (weight === 1 ? path : `${path}^${weight}`)).join(" "),
            [bm25.analyzer.tokenizer, bm25.analyzer.language ?? ""].join(" ").trim(),
            bm25.k1,
            formatCount(rowCount),
            formatBytes(memoryBytes),
          ]),
        );
      }
    });
}

function recallOf({ recall }: GenerationInfo): string {
  if (recall === undefined) return "";
  const { recall: own, baseline, wanted, samples } = recall;
  return `${own.toFixed(4)} (wanted ${wanted.toFixed(4)}, before ${baseline.toFixed(4)}, ${samples} queries)`;
}

function compareCommand(io: Io): Command {
  return new Command("compare")
    .description("compare the two builds of an index on queries of users, which are run again in both and exactly")
    .argument("<collection>", "name of the collection")
    .option("--field <name>", "the vector field (default: all that have two builds)")
    .addHelpText(
      "after",
      `
A sample of the queries is taken while there are two whole builds, before the new one answers and for as long as the old one is kept, at a tenth of one
thread at most. "overlap" is the share of the results that both find.

Examples:
  kith collection alter articles --datatype i8 --manual
  kith generation compare articles                 once it is whole, and some queries were asked
  kith generation compare articles --output json | jq '.[].shadow.overlap'`,
    )
    .action(async (name: string, { field }: { field?: string }, self: Command) => {
      const context = contextOf(io, self);
      const all = await withClient(context, (client) => client.collection(name).listGenerations({ signal: io.signal }));
      const others = all.filter((each) => each.state !== "answering" && (field ?? each.field) === each.field);
      if (others.length === 0) {
        const which = field === undefined ? name : titleOf(name, field);
        throw new UsageError(`${which} has one build of its index: there is nothing to compare it with`);
      }
      const { out } = context;
      if (out.json) {
        await out.document(
          others.map(({ field: of, number, state, shadow }) => ({ field: of, number, state, shadow })),
        );
        return;
      }
      for (const other of others) {
        const answering = all.find((each) => each.field === other.field && each.state === "answering");
        if (answering !== undefined) await printComparison(context, answering, other);
      }
    });
}

async function printComparison(
  { out }: CommandContext,
  answering: GenerationInfo,
  other: GenerationInfo,
): Promise<void> {
  const title = other.field === "" ? "(unnamed)" : other.field;
  const { shadow } = other;
  if (shadow === undefined) {
    const why = other.state === "building" ? "the new one is being built" : "no query was run again yet";
    await out.line(`${title}: nothing was compared; ${why}`);
    return;
  }
  const { samples, k, overlap, recall, baseline, margin, searchUs, baselineUs } = shadow;
  await out.table(
    ["FIELD", "GENERATION", "STATE", "DATATYPE", "M", "MEMORY", "RECALL", "SEARCH"],
    [answering, other].map((each) => [
      title,
      each.number,
      each.state,
      each.originals ? `${each.datatype} + originals` : each.datatype,
      each.m,
      formatBytes(each.memoryBytes),
      (each === other ? recall : baseline).toFixed(4),
      `${(each === other ? searchUs : baselineUs).toFixed(0)} us`,
    ]),
  );
  const difference = `${recall < baseline ? "-" : "+"}${Math.abs(recall - baseline).toFixed(4)} ± ${margin.toFixed(4)}`;
  const ratio = baselineUs > 0 ? `, ${(searchUs / baselineUs).toFixed(2)} times the time of a search` : "";
  await out.line(
    `generation ${other.number} beside ${answering.number}, ${samples} queries: overlap@${Math.round(k)} ${overlap.toFixed(4)}, recall ${difference}${ratio}`,
  );
}

type Switch = "promote" | "rollback" | "drop";

interface SwitchFlags {
  field?: string;
  index?: string;
  force?: boolean;
}

const descriptions: Readonly<Record<Switch, string>> = {
  promote: "let the build that is whole answer now, and keep the one before",
  rollback: "let the build that is kept answer again",
  drop: "drop the build that does not answer: one that is under way, or the one that is kept",
};

function switchCommand(io: Io, kind: Switch): Command {
  const command = new Command(kind)
    .description(descriptions[kind])
    .argument("<collection>", "name of the collection")
    .option("--field <name>", "the vector field (default: the unnamed one)")
    .option("--index <path>", "an index by bm25, instead of a vector field");
  if (kind === "promote") command.option("--force", "although its recall is too low");
  return command
    .addHelpText(
      "after",
      `\nExamples:\n  kith generation ${kind} articles\n  kith generation ${kind} media --field image\n  kith generation ${kind} docs --index texts`,
    )
    .action(async (name: string, flags: SwitchFlags, self: Command) => {
      const context = contextOf(io, self);
      const { field = "", index, force = false } = flags;
      const call = { signal: io.signal, ...(index !== undefined && { index }) };
      const number = await withClient(context, async (client) => {
        const handle = client.collection(name);
        if (kind === "promote") await handle.promoteGeneration(field, { ...call, force });
        else if (kind === "rollback") await handle.rollbackGeneration(field, call);
        else await handle.dropGeneration(field, call);
        if (index === undefined) {
          const all = await handle.listGenerations({ signal: io.signal });
          return all.find((each) => each.field === field && each.state === "answering")?.number ?? 0;
        }
        const all = await handle.listTextGenerations({ signal: io.signal });
        return all.find((each) => each.index === index && each.state === "answering")?.number;
      });
      const what = index === undefined ? titleOf(name, field) : `the index ${index} of ${name}`;
      if (context.out.json) await context.out.document({ collection: name, field, index, generation: number });
      else if (number === undefined) await context.out.line(`dropped the other generation of ${what}`);
      else await context.out.line(`generation ${number} of ${what} answers`);
    });
}

function titleOf(collection: string, field: string): string {
  return field === "" ? collection : `"${field}" of ${collection}`;
}
