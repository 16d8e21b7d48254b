import { Command, Option } from "commander";
import { type Datatype, datatypes } from "../../../libs/model/index.js";
import type { AlterVectorFieldOptions, GenerationInfo } from "../../../libs/client/index.js";
import { contextOf, withClient } from "../context.js";
import { UsageError } from "../failure.js";
import type { Io } from "../io.js";
import { formatBytes, formatCount } from "../output.js";
import { finite, whole } from "../values.js";

export function generationCommand(io: Io): Command {
  const command = new Command("generation").description(
    "builds of the index of a vector field: list, promote, roll back and drop them",
  );
  command.addCommand(listCommand(io));
  command.addCommand(switchCommand(io, "promote"));
  command.addCommand(switchCommand(io, "rollback"));
  command.addCommand(switchCommand(io, "drop"));
  return command;
}

interface AlterFlags extends Pick<AlterVectorFieldOptions, "m" | "efConstruction" | "originals" | "manual" | "wait"> {
  field?: string;
  datatype?: Datatype;
  recallMin?: number;
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
    .option("--recall-min <share>", "least recall@10 to answer (default: that of before, less 0.02)", finite)
    .option("--manual", "do not answer when it is whole, but when it is promoted")
    .option("--wait", "end when it answers")
    .addHelpText(
      "after",
      `
Examples:
  kith collection alter articles --datatype i8 --originals --wait
  kith collection alter media --field image --m 32 --ef-construction 256 --manual
  kith generation list articles                    how far it is
  kith generation rollback articles                the one before answers again`,
    )
    .action(async (name: string, flags: AlterFlags, self: Command) => {
      const context = contextOf(io, self);
      const { field = "", recallMin, ...options } = flags;
      if ([flags.datatype, flags.m, flags.efConstruction, flags.originals].every((each) => each === undefined)) {
        throw new UsageError("nothing to change: give --datatype, --m, --ef-construction or --originals");
      }
      const { generation } = await withClient(context, (client) =>
        client.collection(name).alterVectorField(field, {
          ...options,
          ...(recallMin !== undefined && { minRecall: recallMin }),
          signal: io.signal,
        }),
      );
      if (context.out.json) await context.out.document({ collection: name, field, generation });
      else {
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
      const generations = await withClient(context, (client) =>
        client.collection(name).listGenerations({ signal: io.signal }),
      );
      if (out.json) await out.document(generations);
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
      }
    });
}

function recallOf({ recall }: GenerationInfo): string {
  if (recall === undefined) return "";
  const { recall: own, baseline, wanted, samples } = recall;
  return `${own.toFixed(4)} (wanted ${wanted.toFixed(4)}, before ${baseline.toFixed(4)}, ${samples} queries)`;
}

type Switch = "promote" | "rollback" | "drop";

const descriptions: Readonly<Record<Switch, string>> = {
  promote: "let the build that is whole answer now, and keep the one before",
  rollback: "let the build that is kept answer again",
  drop: "drop the build that does not answer: one that is under way, or the one that is kept",
};

function switchCommand(io: Io, kind: Switch): Command {
  const command = new Command(kind)
    .description(descriptions[kind])
    .argument("<collection>", "name of the collection")
    .option("--field <name>", "the vector field (default: the unnamed one)");
  if (kind === "promote") command.option("--force", "although its recall is too low");
  return command
    .addHelpText(
      "after",
      `\nExamples:\n  kith generation ${kind} articles\n  kith generation ${kind} media --field image`,
    )
    .action(async (name: string, { field = "", force }: { field?: string; force?: boolean }, self: Command) => {
      const context = contextOf(io, self);
      const generations = await withClient(context, async (client) => {
        const handle = client.collection(name);
        const call = { signal: io.signal };
        if (kind === "promote") await handle.promoteGeneration(field, { ...call, force: force ?? false });
        else if (kind === "rollback") await handle.rollbackGeneration(field, call);
        else await handle.dropGeneration(field, call);
        return handle.listGenerations(call);
      });
      const answering = generations.find((each) => each.field === field && each.state === "answering");
      if (context.out.json) await context.out.document({ collection: name, field, generation: answering?.number });
      else await context.out.line(`generation ${answering?.number ?? 0} of ${titleOf(name, field)} answers`);
    });
}

function titleOf(collection: string, field: string): string {
  return field === "" ? collection : `"${field}" of ${collection}`;
}
