import { Command, Option } from "commander";
import { toKithError } from "../../libs/base/index.js";
import { type GlobalOptions, targetOf } from "./context.js";
import { exitCode, reportOf } from "./failure.js";
import { type Io, OutputClosed, OutputFailed, write } from "./io.js";
import { duration } from "./values.js";
import { programVersion } from "./version.js";

interface LazyCommand {
  name: string;
  /** Heading in the help; undefined: not shown there. */
  group: string | undefined;
  make: (io: Io) => Promise<Command>;
}

/**
 * Every command, each loaded when it is run or described: a shard node need not hold what `kith import` is made of, and `kith --version`
 * nothing at all.
 */
const commands: readonly LazyCommand[] = [
  {
    name: "quickstart",
    group: "Run Kith:",
    make: async (io) => (await import("./quickstart/quickstart.js")).quickstartCommand(io),
  },
  { name: "dev", group: "Run Kith:", make: async (io) => (await import("./local/dev.js")).devCommand(io) },
  { name: "up", group: "Run Kith:", make: async (io) => (await import("./local/up.js")).upCommand(io) },
  { name: "start", group: "Run Kith:", make: async (io) => (await import("./local/start.js")).startCommand(io) },
  {
    name: "gateway",
    group: "Run Kith:",
    make: async (io) => (await import("./local/gateway.js")).gatewayCommand(io),
  },
  {
    name: "collection",
    group: "Data:",
    make: async (io) => (await import("./commands/collection.js")).collectionCommand(io),
  },
  { name: "alias", group: "Data:", make: async (io) => (await import("./commands/alias.js")).aliasCommand(io) },
  { name: "index", group: "Data:", make: async (io) => (await import("./commands/index.js")).indexCommand(io) },
  {
    name: "generation",
    group: "Data:",
    make: async (io) => (await import("./commands/generation.js")).generationCommand(io),
  },
  { name: "import", group: "Data:", make: async (io) => (await import("./import/import.js")).importCommand(io) },
  { name: "export", group: "Data:", make: async (io) => (await import("./commands/export.js")).exportCommand(io) },
  { name: "migrate", group: "Data:", make: async (io) => (await import("./migrate/migrate.js")).migrateCommand(io) },
  { name: "search", group: "Data:", make: async (io) => (await import("./commands/search.js")).searchCommand(io) },
  { name: "recall", group: "Data:", make: async (io) => (await import("./commands/recall.js")).recallCommand(io) },
  { name: "tune", group: "Data:", make: async (io) => (await import("./tune/tune.js")).tuneCommand(io) },
  { name: "analyze", group: "Data:", make: async (io) => (await import("./commands/analyze.js")).analyzeCommand(io) },
  { name: "scroll", group: "Data:", make: async (io) => (await import("./commands/reads.js")).scrollCommand(io) },
  { name: "facet", group: "Data:", make: async (io) => (await import("./commands/reads.js")).facetCommand(io) },
  { name: "get", group: "Data:", make: async (io) => (await import("./commands/points.js")).getCommand(io) },
  { name: "count", group: "Data:", make: async (io) => (await import("./commands/points.js")).countCommand(io) },
  { name: "delete", group: "Data:", make: async (io) => (await import("./commands/points.js")).deleteCommand(io) },
  {
    name: "payload",
    group: "Data:",
    make: async (io) => (await import("./commands/payload.js")).payloadCommand(io),
  },
  {
    name: "cluster",
    group: "Operate:",
    make: async (io) => (await import("./commands/cluster.js")).clusterCommand(io),
  },
  { name: "watch", group: "Data:", make: async (io) => (await import("./commands/watch.js")).watchCommand(io) },
  { name: "certs", group: "Operate:", make: async (io) => (await import("./commands/certs.js")).certsCommand(io) },
  { name: "key", group: "Operate:", make: async (io) => (await import("./commands/key.js")).keyCommand(io) },
  { name: "role", group: "Operate:", make: async (io) => (await import("./commands/role.js")).roleCommand(io) },
  { name: "backup", group: "Operate:", make: async (io) => (await import("./commands/backup.js")).backupCommand(io) },
  { name: "node", group: "Operate:", make: async (io) => (await import("./commands/node.js")).nodeCommand(io) },
  {
    name: "rebalance",
    group: "Operate:",
    make: async (io) => (await import("./commands/rebalance.js")).rebalanceCommand(io),
  },
  {
    name: "replica",
    group: "Operate:",
    make: async (io) => (await import("./commands/replica.js")).replicaCommand(io),
  },
  {
    name: "standby",
    group: "Operate:",
    make: async (io) => (await import("./commands/standby.js")).standbyCommand(io),
  },
  { name: "shard", group: "Operate:", make: async (io) => (await import("./commands/shard.js")).shardCommand(io) },
  { name: "doctor", group: "Operate:", make: async (io) => (await import("./doctor/doctor.js")).doctorCommand(io) },
  {
    name: "completion",
    group: "Operate:",
    make: async (io) => (await import("./commands/completion.js")).completionCommand(io),
  },
  {
    name: "complete",
    group: undefined,
    make: async (io) => (await import("./commands/completion.js")).completeCommand(io, () => buildProgram(io)),
  },
];

/** The whole program: parses the arguments, runs the command, and says with which code the process should end. */
export async function run(args: readonly string[], io: Io): Promise<number> {
  let program = new Command();
  try {
    program = globalProgram(io);
    // Which command it is; --version and wrong global options end here.
    const { operands } = program.parseOptions([...args]);
    program = await buildProgram(io, operands[0]);
    await program.parseAsync([...args], { from: "user" });
    // What went wrong with the last of the output is told a turn later.
    await new Promise((resolve) => setImmediate(resolve));
    if (io.signal.reason instanceof OutputFailed) throw io.signal.reason;
    return exitCode.ok;
  } catch (thrown) {
    // Not an error of the user's: who wanted the first lines has got them.
    if (io.signal.reason instanceof OutputClosed) return exitCode.ok;
    const globals = program.opts<GlobalOptions>();
    const report = reportOf(thrown, {
      verbose: globals.verbose === true,
      interrupted: io.signal.aborted && toKithError(io.signal.reason).code === "CANCELLED",
      target: targetOf(io, globals),
    });
    if (report.text !== "") await write(io.stderr, report.text);
    return report.exitCode;
  }
}

/** The program with all its commands; where `only` is the name of one, the others are there by name alone. */
export async function buildProgram(io: Io, only?: string): Promise<Command> {
  const program = globalProgram(io);
  const known = commands.some(({ name }) => name === only);
  for (const { name, group, make } of commands) {
    if (group !== undefined) program.commandsGroup(group);
    const command = known && name !== only ? new Command(name) : await make(io);
    inherit(program, command);
    program.addCommand(command, { hidden: group === undefined });
  }
  return program;
}

/** The program without its commands. */
function globalProgram(io: Io): Command {
  const program = new Command("kith");
  return program
    .description("Kith, a distributed vector database.")
    .version(programVersion, "-V, --version", "print the version")
    .helpOption("-h, --help", "show help")
    .option("-t, --target <host:port>", "where Kith listens (KITH_TARGET; default 127.0.0.1:7700)")
    .addOption(new Option("-o, --output <form>", "how answers are printed").choices(["table", "json"]).default("table"))
    .addOption(
      new Option("--timeout <time>", 'longest time of one call: "500ms", "30s", "5m"')
        .argParser(duration)
        .default(30_000, "30s"),
    )
    .option("--tls", "connect with TLS")
    .option("--tls-ca <file>", "connect with TLS and trust the authorities in this PEM file")
    .option("--tls-cert, --tls-certificate <file>", "connect with TLS and show this certificate (PEM)")
    .option("--tls-key <file>", "key of the certificate (PEM)")
    .option(
      "--api-key <key>",
      "say who you are; better in the environment, where other users do not see it (KITH_API_KEY)",
    )
    .option("--no-color", "print without colours (NO_COLOR)")
    .option("--verbose", "print the details of errors")
    .configureHelp({ showGlobalOptions: true, sortSubcommands: false })
    .configureOutput({
      writeOut: (text) => void io.stdout.write(text),
      writeErr: (text) => void io.stderr.write(text),
      getOutHelpWidth: () => io.columns ?? 100,
      getErrHelpWidth: () => io.columns ?? 100,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .showHelpAfterError("(add --help for the options and examples)")
    .exitOverride()
    .addHelpText(
      "after",
      `
Examples:
  kith quickstart                      a cluster with real data, to look around
  kith dev                             a database in one process, nothing else needed
  kith up --shards 3 --replicas 2      a cluster of several processes on this machine
  kith import vectors.fvecs --collection demo --create --metric l2
  kith search demo --id 42 --limit 5

Exit codes: 0 ok, 1 failure, 2 wrong usage or no server there, 3 not found, 4 unavailable or too late, 130 interrupted.`,
    );
}

/** Subcommands made on their own do not take over the settings of the program by themselves. */
function inherit(parent: Command, child: Command): void {
  child.copyInheritedSettings(parent);
  for (const each of child.commands) inherit(child, each);
}
