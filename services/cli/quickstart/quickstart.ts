import { rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { Command } from "commander";
import { KithError, toKithError } from "../../../libs/base/index.js";
import { type CommandContext, contextOf } from "../context.js";
import { embeddedConfig } from "../local/dev.js";
import { ExitError, exitCode } from "../failure.js";
import type { Io } from "../io.js";
import { demoCollection, runDemo } from "./demo.js";
import { type Next, serve } from "../local/serve.js";
import { LocalCluster } from "../local/cluster.js";
import { refuseTls } from "../local/tls.js";
import { runUntilInterrupted } from "../local/up.js";
import { whole } from "../values.js";

interface QuickstartFlags {
  exit?: boolean;
  embedded?: boolean;
  port?: number;
  data?: string;
}

const defaultPort = 7700;
const clusterShards = 2;

export function quickstartCommand(io: Io): Command {
  return new Command("quickstart")
    .description("start a cluster, fill it with real text, search it, and leave it running to play with")
    .option("--exit", "end after the searches, for scripts")
    .option("--embedded", "run everything in this process, without nats-server")
    .option(
      "-p, --port <port>",
      `port to listen on; 0 takes a free one (default: ${defaultPort}, or a free one)`,
      whole(0, 65_535),
    )
    .option("--data <folder>", "keep the data here (default: a temporary folder, removed at the end)")
    .addHelpText(
      "after",
      `
The text is the documentation of the installed packages, which every installation has. Nothing leaves this machine.

Examples:
  kith quickstart
  kith quickstart --embedded --exit`,
    )
    .action(async (flags: QuickstartFlags, self: Command) => {
      const context = contextOf(io, self);
      refuseTls(context.globals, "kith quickstart");
      const data =
        flags.data === undefined ? await mkdtemp(join(tmpdir(), "kith-quickstart-")) : resolve(io.cwd, flags.data);
      // At a forced end too, as far as that goes: nobody should have to look for the folder.
      const removeNow = (): void => {
        if (flags.data === undefined) rmSync(data, { recursive: true, force: true, maxRetries: 3, retryDelay: 50 });
      };
      process.once("exit", removeNow);
      try {
        await new Quickstart(context, flags, data).run();
      } finally {
        process.off("exit", removeNow);
        if (flags.data === undefined) await rm(data, { recursive: true, force: true });
      }
      if (!context.out.json) await context.out.line("stopped");
    });
}

class Quickstart {
  readonly #context: CommandContext;
  readonly #flags: QuickstartFlags;
  readonly #data: string;
  #done = false;

  constructor(context: CommandContext, flags: QuickstartFlags, data: string) {
    this.#context = context;
    this.#flags = flags;
    this.#data = data;
  }

  async run(): Promise<void> {
    const port = this.#flags.port ?? (await this.#usualPort());
    const why = this.#flags.embedded ? "as --embedded asks" : await this.#runCluster(port);
    if (why !== undefined) await this.#runEmbedded(port, why);
    // A script that asked for the whole round must not take an interrupted one for it.
    if (this.#flags.exit && !this.#done) throw new ExitError(exitCode.interrupted);
  }

  /** Runs a cluster on a real nats-server; answers why not, where there is none. */
  async #runCluster(port: number): Promise<string | undefined> {
    const { out } = this.#context;
    const startedMs = performance.now();
    const cluster = new LocalCluster(this.#context, {
      shards: clusterShards,
      replicas: 2,
      data: this.#data,
      host: "127.0.0.1",
      port,
      httpPort: "off",
      logLevel: "warn",
      ownNats: true,
    });
    let nats: string;
    try {
      nats = await cluster.resolveNats();
    } catch (thrown) {
      const error = toKithError(thrown);
      if (error.code !== "FAILED_PRECONDITION") throw error;
      await out.note(error.message);
      return "because there is no nats-server to run a cluster with";
    }
    await this.#say(`starting a local cluster: a router, ${clusterShards} shard nodes, and ${nats}`);
    await runUntilInterrupted(this.#context, cluster, async ({ target }) => {
      await this.#say(`started  ${target}, in ${((performance.now() - startedMs) / 1000).toFixed(1)} s`);
      return this.#demo(target, clusterShards);
    });
    return undefined;
  }

  async #runEmbedded(port: number, why: string): Promise<void> {
    await this.#say(`starting Kith in this process with its embedded log, ${why}`);
    const config = embeddedConfig(this.#context.io, {
      data: this.#data,
      host: "127.0.0.1",
      port,
      httpPort: "off",
      logLevel: "warn",
    });
    await serve(this.#context, config, async ({ address }) => {
      await this.#say(`started  ${address}`);
      return this.#demo(address, 1);
    });
  }

  async #demo(target: string, shards: number): Promise<Next> {
    const { out, io } = this.#context;
    const report = await runDemo(this.#context, target, shards);
    if (report.searches.every(({ results }) => results.length === 0)) {
      throw new KithError(
        "INTERNAL",
        "no search found anything; the installation has no documentation to search, or Kith is at fault",
      );
    }
    if (out.json) await out.document(report);
    else await out.line(nextSteps(io, target, Number(report.searches[0]?.results[0]?.id ?? 1)));
    this.#done = true;
    if (this.#flags.exit) return "leave";
    if (!out.json) await out.line(`\nKith keeps running at ${out.paint("bold", target)}. Ctrl-C stops it.`);
    return "stay";
  }

  /** The usual port, or a free one where another Kith has it. */
  async #usualPort(): Promise<number> {
    if (await isFree(defaultPort)) return defaultPort;
    await this.#say(`port ${defaultPort} is taken; using a free one`);
    return 0;
  }

  #say(text: string): Promise<void> {
    const { out } = this.#context;
    return out.json ? out.note(text) : out.line(text);
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const probe = createServer();
    probe.once("error", () => done(false));
    probe.listen(port, "127.0.0.1", () => probe.close(() => done(true)));
  });
}

/** Lines to copy: they work as they stand, with this target. */
export function nextSteps(io: Io, target: string, exampleId: number): string {
  const main = relative(io.cwd, io.program.args.at(-1) ?? "");
  return `
Try next, in another terminal:

  # any gRPC client: the server has reflection
  grpcurl -plaintext -d '{"collection":"${demoCollection}","point":{"num":"${exampleId}"},"limit":3,"select":{"payload":true,"payloadFormat":"PAYLOAD_FORMAT_STRUCT"}}' \\
    ${target} kith.v1.Points/Query

  # the command line
  node ${main} search ${demoCollection} --id ${exampleId} --limit 3 --trace --target ${target}

  # TypeScript: save it in this folder as try.mjs, then: node try.mjs
  import { connect } from "kith";

  const client = await connect("${target}");
  const docs = client.collection("${demoCollection}");
  console.log(await docs.count(), "passages");
  const first = await docs.get(${exampleId});
  console.log("like", first?.payload?.["title"], "are:");
  const { points } = await docs.query({ point: ${exampleId}, limit: 3 });
  for (const { score, payload } of points) console.log(score.toFixed(3), payload?.["package"], payload?.["title"]);
  client.close();`;
}
