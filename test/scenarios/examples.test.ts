/** What examples/ shows works: each program runs against a server as a user has it, and prints what it says. */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { program } from "../cluster/processes.js";
import { exampleGrpcurl, examplePython } from "../tools/examples.js";

const run = promisify(execFile);

const root = join(program, "..", "..", "..", "..");
const examples = join(root, "examples");
/** Where the tools are not in the cache yet. */
const makeTimeoutMs = 9 * 60_000;

let data = "";
let server: ChildProcess | undefined;
let target = "";

beforeAll(async () => {
  if (!existsSync(program)) throw new Error(`${program} is missing: run "npm run build" before the scenarios`);
  data = mkdtempSync(join(tmpdir(), "kith-examples-"));
  const child = spawn(process.execPath, [program, "dev", "--port", "0", "--data", data, "--output", "json"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  server = child;
  const ended = once(child, "exit").then(() => {
    throw new Error("kith dev ended before it was ready");
  });
  const [line] = (await Promise.race([once(createInterface({ input: child.stdout }), "line"), ended])) as [string];
  ended.catch(() => undefined);
  ({ target } = JSON.parse(line) as { target: string });
});

afterAll(async () => {
  if (server?.exitCode === null && server.signalCode === null) {
    const exit = once(server, "exit");
    server.kill("SIGTERM");
    await exit;
  }
  rmSync(data, { recursive: true, force: true });
});

async function outputOf(command: string, args: string[], env: Record<string, string> = {}): Promise<string[]> {
  const { stdout } = await run(command, args, { env: { ...process.env, ...env }, timeout: 60_000 });
  return stdout.trimEnd().split("\n");
}

test("TypeScript", async () => {
  const built = join(root, "dist", "examples", "typescript", "films.js");
  expect(await outputOf(process.execPath, [built, target])).toEqual([
    "created: 2 shards, cosine",
    "upserted: 3",
    "nearest: Heat 0.994",
    "nearest: Ronin 0.930",
    "another client: Heat",
    "insert: 1, repeated: 1, without the key: POINT_EXISTS",
    "refused: DIMENSION_MISMATCH",
  ]);
});

test("queries in TypeScript", async () => {
  const built = join(root, "dist", "examples", "typescript", "queries.js");
  expect(await outputOf(process.execPath, [built, target])).toEqual([
    "late: Collateral, Ronin",
    "typed: Stalker",
    "groups: Mann (Heat), Frankenheimer (Ronin)",
    "facet: crime 3, drama 3",
    "fused: Collateral, Stalker",
    "like Solaris: Stalker",
    'boosted: {"title":"Collateral"}',
    "by year: 1972 1979 1995 1998 2004",
    "explained: prepare, check, query",
  ]);
});

test("Python over gRPC", { timeout: makeTimeoutMs }, async () => {
  const python = await examplePython(console.log);
  expect(await outputOf(python, [join(examples, "python", "films.py"), target])).toEqual([
    "created: 2 shards, METRIC_COSINE",
    "upserted: 3",
    "nearest: Heat 0.994",
    "nearest: Ronin 0.930",
    "insert: 1, repeated: 1, with another key: POINT_EXISTS",
    "refused: INVALID_ARGUMENT",
  ]);
});

test("grpcurl", { timeout: makeTimeoutMs }, async () => {
  const grpcurl = await exampleGrpcurl(console.log);
  const lines = await outputOf(join(examples, "grpcurl", "films.sh"), [target], { GRPCURL: grpcurl });
  const answers = lines
    .join("\n")
    .split(/^== /m)
    .slice(1)
    .map((text) => [text.slice(0, text.indexOf("\n")), JSON.parse(text.slice(text.indexOf("\n"))) as unknown]);
  const heat = { id: { name: "heat" }, payload: Buffer.from('{"title":"Heat"}').toString("base64") };
  const token = expect.objectContaining({
    shards: [expect.objectContaining({ sequence: expect.any(String) as string })],
  }) as object;
  expect(answers).toEqual([
    ["Collections/Create", { collection: expect.objectContaining({ name: "films-grpcurl", shardCount: 1 }) as object }],
    ["Points/Upsert", { upserted: 2, token }],
    [
      "Points/Query",
      expect.objectContaining({
        points: [expect.objectContaining(heat), expect.objectContaining({ id: { name: "solaris" } })],
      }),
    ],
    ["Points/Upsert", { upserted: 1, token }],
    ["Points/Upsert", { upserted: 1, token }],
    ["Points/Count", expect.objectContaining({ count: "3" })],
    ["Collections/Delete", {}],
  ]);
});
