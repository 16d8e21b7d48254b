import { Command, Option } from "commander";
import { clusterCommand } from "./commands/cluster.js";
import { collectionCommand } from "./commands/collection.js";
import { completeCommand, completionCommand } from "./commands/completion.js";
import { type GlobalOptions, targetOf } from "./context.js";
import { devCommand } from "./local/dev.js";
import { doctorCommand } from "./doctor/doctor.js";
import { exitCode, reportOf } from "./failure.js";
import { importCommand } from "./import/import.js";
import { type Io, write } from "./io.js";
import { natsChildCommand } from "./local/nats-child.js";
import { countCommand, deleteCommand, getCommand } from "./commands/points.js";
import { quickstartCommand } from "./quickstart/quickstart.js";
import { searchCommand } from "./commands/search.js";
import { startCommand } from "./local/start.js";
import { upCommand } from "./local/up.js";
import { duration } from "./values.js";
import { programVersion } from "./version.js";

/** The whole program: parses the arguments, runs the command, and says with which code the process should end. */
export async function run(args: readonly string[], io: Io): Promise<number> {
  const program = buildProgram(io);
  try {
    await program.parseAsync([...args], { from: "user" });
    return exitCode.ok;
  } catch (thrown) {
    const globals = program.opts<GlobalOptions>();
    const report = reportOf(thrown, {
      verbose: globals.verbose === true,
      interrupted: io.signal.aborted,
      target: targetOf(io, globals),
    });
    if (report.text !== "") await write(io.stderr, report.text);
    return report.exitCode;
  }
}

export function buildProgram(io: Io): Command {
  const program = new Command("kith");
  program
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

Exit codes: 0 ok, 1 failure, 2 wrong usage, 3 not found, 4 unavailable or too late, 130 interrupted.`,
    );

  program.commandsGroup("Run Kith:");
  for (const make of [quickstartCommand, devCommand, upCommand, startCommand]) add(program, make(io));
  program.commandsGroup("Data:");
  for (const make of [collectionCommand, importCommand, searchCommand, getCommand, countCommand, deleteCommand]) {
    add(program, make(io));
  }
  program.commandsGroup("Operate:");
  for (const make of [clusterCommand, doctorCommand]) add(program, make(io));
  add(program, completionCommand(io));
  add(program, completeCommand(io, program), true);
  add(program, natsChildCommand(io), true);
  return program;
}

/** Subcommands made on their own do not take over the settings of the program by themselves. */
function add(parent: Command, child: Command, hidden = false): void {
  inherit(parent, child);
  parent.addCommand(child, { hidden });
}

function inherit(parent: Command, child: Command): void {
  child.copyInheritedSettings(parent);
  for (const each of child.commands) inherit(child, each);
}
