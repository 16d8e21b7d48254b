/** What every command does with a wrong target, a wrong option, a missing argument, and an interruption; a command that is not listed here fails. */
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import type { Command } from "commander";
import { describe, expect, it } from "vitest";
import { KithError } from "../../libs/base/index.js";
import { freePort } from "../../libs/base/testing.js";
import { buildProgram, run } from "./run.js";
import { testIo } from "./testing/io.js";
import { useNode } from "./testing/node.js";

const served = useNode();

/** Commands that ask a server, each with arguments that are right as far as the command line goes. */
const asking: readonly string[] = [
  "collection create fresh -d 2",
  "collection list",
  "collection describe none",
  "collection rename none other",
  "collection truncate none --yes",
  "collection update none --label a=b",
  "collection alter none --datatype f16",
  "collection delete none --yes",
  "alias create second none",
  "alias switch second none",
  "alias list",
  "alias delete second",
  "index create none a keyword",
  "index alter none a --language english",
  "index list none",
  "index drop none a",
  "generation list none",
  "generation compare none",
  "generation promote none",
  "generation rollback none",
  "generation drop none",
  "import one.jsonl --collection none",
  "export none",
  "search none --vector 1,2",
  "recall none",
  "tune none judged.jsonl",
  "scroll none",
  "facet none a",
  "get none 1",
  "count none",
  "delete none 1",
  "payload set none 1 --payload {}",
  "payload overwrite none 1 --payload {}",
  "payload delete none 1 --path a",
  "payload clear none 1",
  "cluster",
  "cluster cancel 1",
  "cluster slow",
  "cluster settings",
  "watch none",
  "key create --role reader",
  "key list",
  "key rotate none",
  "key revoke none",
  'role put some --allow "read on docs-*"',
  "role list",
  "role delete none",
  "backup create none",
  "backup list",
  "backup verify none",
  "backup restore none",
  "backup delete none",
  "node list",
  "node drain none",
  "node undrain none",
  "rebalance --plan",
  "replica move none 0 --from a --to b",
  "replica add none 0 --to b",
  "replica remove none 0 --from a",
  "standby status",
  "standby promote",
  "shard split none 0",
  "shard merge none 0 1",
  "shard isolate none --key a",
];

/** What succeeds, one after the other. */
const fine: readonly string[] = [
  "collection create some -d 2 --metric l2",
  "import one.jsonl --collection some",
  "collection list",
  "collection describe some",
  "collection update some --label a=b",
  "alias create second some",
  "alias list",
  "alias delete second",
  "index create some a keyword",
  "index list some",
  "index drop some a",
  "generation list some",
  "search some --vector 1,2",
  "recall some",
  "scroll some",
  "facet some a",
  "get some 1",
  "count some",
  "payload set some 1 --payload {}",
  "delete some 1",
  "backup create --all --group nightly",
  "backup list --group nightly",
  "cluster",
  "cluster slow",
  "cluster settings",
  "node list",
  "rebalance --plan",
  "collection truncate some --yes",
  "collection rename some other",
  "collection delete other --yes",
];

/** Commands that ask no server at the target, or begin one. */
const others = [
  "quickstart",
  "dev",
  "up",
  "start",
  "gateway",
  "migrate --from qdrant://127.0.0.1:1 --to 127.0.0.1:1",
  "analyze text",
  "certs",
  "doctor",
  "completion bash",
  "complete",
];

async function everyCommand(): Promise<{ path: string; command: Command }[]> {
  const found: { path: string; command: Command }[] = [];
  const walk = (command: Command, path: string): void => {
    const isGroup = command.commands.length > 0;
    if (!isGroup || command.registeredArguments.length > 0) found.push({ path, command });
    for (const each of command.commands) walk(each, `${path} ${each.name()}`);
  };
  for (const command of (await buildProgram(testIo())).commands) walk(command, command.name());
  return found;
}

/** The command that a line is of: the longest one with which it begins. */
function pathOf(line: string, paths: readonly string[]): string {
  const fits = paths.filter((path) => line === path || line.startsWith(`${path} `));
  return fits.sort((a, b) => b.length - a.length)[0] ?? "";
}

/** As a shell takes a line apart. */
const words = (line: string): string[] => (line.match(/"[^"]*"|\S+/g) ?? []).map((word) => word.replaceAll('"', ""));

async function tried(line: string, over: Parameters<typeof testIo>[0] = {}): ReturnType<typeof served.kith> {
  return served.kith(words(line), over);
}

/** One line that says what is wrong, with a hint behind it at most, and nothing of what stands in the code. */
function isOneError({ out, err }: { out: string; err: string }): boolean {
  const lines = err.trimEnd().split("\n");
  return out === "" && lines.length <= 2 && lines[0]?.startsWith("error: ") === true && !/INTERNAL|\n\s+at /.test(err);
}

function isJson(text: string): boolean {
  try {
    return JSON.parse(text) !== undefined;
  } catch {
    return false;
  }
}

describe("every command", () => {
  it("has its case here", async () => {
    writeFileSync(join(served.folder, "one.jsonl"), '{"id":1,"vector":[1,2]}\n');
    writeFileSync(join(served.folder, "judged.jsonl"), '{"text":"a","vector":[1,2],"relevant":{"1":1}}\n'.repeat(2));
    const paths = (await everyCommand()).map(({ path }) => path);
    const listed = [...asking, ...others].map((line) => pathOf(line, paths));
    expect([...listed].sort()).toEqual([...paths].sort());
  });

  it("tells of a target that is wrong, or where nothing listens, in one line, with code 2", async () => {
    const nobody = await freePort();
    const wrong: string[] = [];
    for (const [target, says] of [
      ["http://127.0.0.1:7700", /http:\/\//],
      ["127.0.0.1", /port/],
      [`127.0.0.1:${nobody}`, /\[SERVER_UNREACHABLE\]/],
    ] as const) {
      for (const line of asking) {
        const { code, out, err } = await tried(line, { env: { ...served.env, KITH_TARGET: target } });
        if (code !== 2 || !isOneError({ out, err }) || !says.test(err))
          wrong.push(`${line}, ${target}: ${code} ${out}${err}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  it("refuses options that it does not know, and arguments that are missing, with code 2", async () => {
    const wrong: string[] = [];
    for (const line of [...asking, ...others]) {
      // Asked by shells, of whatever was typed.
      if (line === "complete") continue;
      const { code, out, err } = await tried(`${line} --no-such-option`);
      const isRight = code === 2 && isOneError({ out, err }) && err.includes("unknown option '--no-such-option'");
      if (!isRight) wrong.push(`${line}: ${code} ${out}${err}`);
    }
    for (const { path, command } of await everyCommand()) {
      const wants = command.registeredArguments.some(({ required }) => required);
      if (!wants && !command.options.some(({ mandatory }) => mandatory)) continue;
      const { code, out, err } = await tried(path);
      if (code !== 2 || !isOneError({ out, err }) || !/missing|not specified/.test(err))
        wrong.push(`${path}: ${code} ${out}${err}`);
    }
    expect(wrong).toEqual([]);
  });

  it("writes JSON or nothing to stdout with --output json, and one line of what went wrong", async () => {
    const wrong: string[] = [];
    for (const line of fine) {
      const { code, out, err } = await tried(`${line} --output json`);
      const isRight = code === 0 && (isJson(out) || (out !== "" && out.trimEnd().split("\n").every(isJson)));
      if (!isRight) wrong.push(`${line}: ${code} ${out}${err}`);
    }
    for (const line of asking) {
      const { code, out, err } = await tried(`${line} --output json`, { signal: AbortSignal.timeout(20_000) });
      // What comes one by one is JSON lines.
      const isRight = out === "" || isJson(out) || out.trimEnd().split("\n").every(isJson);
      const isTold = code === 0 || out !== "" || isOneError({ out, err });
      if (!isRight || !isTold) wrong.push(`${line}: ${code} ${out}${err}`);
    }
    expect(wrong).toEqual([]);
  });

  it("ends when it is interrupted while a server does not answer, with code 130", async () => {
    // Takes connections, and says nothing.
    const silent = createServer((socket) => socket.on("error", () => undefined)).listen(0, "127.0.0.1");
    await once(silent, "listening");
    const env = { ...served.env, KITH_TARGET: `127.0.0.1:${(silent.address() as AddressInfo).port}` };
    const wrong: string[] = [];
    try {
      await Promise.all(
        asking.map(async (line) => {
          const { signal, abort } = interruption();
          const io = testIo({ cwd: served.folder, env, signal });
          const ended = run(words(line), io);
          setImmediate(abort);
          const code = await ended;
          if (code !== 130 || io.err() !== "interrupted\n") wrong.push(`${line}: ${code} ${io.err()}`);
        }),
      );
    } finally {
      silent.close();
    }
    expect(wrong).toEqual([]);
  });
});

/** As Ctrl-C. */
function interruption(): { signal: AbortSignal; abort: () => void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: () => controller.abort(new KithError("CANCELLED", "interrupted")) };
}
