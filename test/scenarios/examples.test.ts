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
    "explained: prepare, check, query, shape",
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
  const heat = { id: { name: "heat" }, payloadStruct: { title: "Heat" } };
  // Right angles to the query: a score of 0, which is shown.
  const solaris = { id: { name: "solaris" }, score: 0, payloadStruct: { title: "Solaris", year: 1972 } };
  const token = expect.objectContaining({
    shards: [expect.objectContaining({ sequence: expect.any(String) as string })],
  }) as object;
  expect(answers).toEqual([
    ["Collections/Create", { collection: expect.objectContaining({ name: "films-grpcurl", shardCount: 1 }) as object }],
    ["Points/Upsert", { upserted: 2, token }],
    [
      "Points/Query",
      expect.objectContaining({
        points: [expect.objectContaining(heat), expect.objectContaining(solaris)],
      }),
    ],
    ["Points/Upsert", { upserted: 1, token }],
    ["Points/Upsert", { upserted: 1, token }],
    ["Points/Count", expect.objectContaining({ count: "3" })],
    ["Collections/Delete", {}],
  ]);
});

test("grpcurl writes and reads payloads as JSON, and decodes the details of errors", {
  timeout: makeTimeoutMs,
}, async () => {
  const grpcurl = await exampleGrpcurl(console.log);
  const call = async (method: string, request: object): Promise<Record<string, unknown>> => {
    const args = ["-plaintext", "-max-time", "30", "-d", JSON.stringify(request), target, `kith.v1.${method}`];
    return JSON.parse((await run(grpcurl, args)).stdout) as Record<string, unknown>;
  };
  /** What grpcurl says of an error. */
  const failure = (method: string, request: object): Promise<string> =>
    call(method, request).then(
      () => "no error",
      (error: unknown) => (error as { stderr: string }).stderr,
    );
  const collection = "grpcurl-payloads";
  await call("Collections/Create", { name: collection, vectors: [{ dimension: 2, metric: "METRIC_L2" }] });
  const json = '{"big":9007199254740993,"list":[1,null,true,{"a":"b"}],"__proto__":1}';
  const points = [
    { id: { num: 1 }, vectors: { "": { values: [1, 2] } }, payload: Buffer.from(json).toString("base64") },
    {
      id: { num: 2 },
      vectors: { "": { values: [3, 4] } },
      payloadStruct: { group: 1, deep: { list: [1.5, "x", null] } },
    },
  ];
  await call("Points/Upsert", { collection, points });
  const target1 = { ids: { ids: [{ num: 2 }] } };
  await call("Points/SetPayload", { collection, target: target1, payloadStruct: { year: 1995 } });
  const select = { payload: true, payloadFormat: "PAYLOAD_FORMAT_STRUCT" };
  const first = { big: "9007199254740993", list: [1, null, true, { a: "b" }] };
  const second = { group: 1, deep: { list: [1.5, "x", null] }, year: 1995 };
  const payloads = (answer: Record<string, unknown>): unknown =>
    (answer["points"] as { payload?: string; payloadStruct?: unknown }[]).map(
      (point) => point.payloadStruct ?? point.payload,
    );
  const ids = [{ num: 1 }, { num: 2 }];
  expect(payloads(await call("Points/Get", { collection, ids, select }))).toMatchObject([
    { big: first.big, list: first.list },
    second,
  ]);
  expect(payloads(await call("Points/Scroll", { collection, select: { ...select, include: ["year"] } }))).toEqual([
    undefined,
    { year: 1995 },
  ]);
  expect(payloads(await call("Points/Query", { collection, vector: [3, 4], limit: 1, select }))).toEqual([second]);
  const groups = await call("Points/QueryGroups", {
    groupBy: "group",
    query: { collection, vector: [3, 4], select },
    withLookup: { collection, select: { ...select, include: ["list"] } },
  });
  expect(groups).toMatchObject({
    groups: [{ points: [{ score: 0, payloadStruct: second }], lookup: { payloadStruct: { list: first.list } } }],
  });
  await call("Points/OverwritePayload", { collection, target: target1, payloadStruct: { only: true } });
  // Without the format payloads are the text that was written.
  const plain = await call("Points/Get", { collection, ids, select: { payload: true } });
  expect((payloads(plain) as string[]).map((payload) => Buffer.from(payload, "base64").toString())).toEqual([
    json,
    '{"only":true}',
  ]);

  const both = { ...points[1], payload: points[0]?.payload };
  const refused = await failure("Points/Upsert", { collection, points: [both] });
  expect(refused).toContain("points[0] has a payload and a payload_struct; give one of them");
  expect(await failure("Points/Get", { collection, ids, select: { payloadFormat: 7 } })).toContain(
    "the format 7 does not exist",
  );
  const missing = await failure("Points/Count", { collection: "nowhere" });
  expect(missing).toMatch(/Code: NotFound/);
  expect(missing).toMatch(/"@type": ?"type\.googleapis\.com\/google\.rpc\.ErrorInfo"/);
  expect(missing).toMatch(/"reason": ?"COLLECTION_NOT_FOUND"/);
  expect(missing).not.toContain("@error");
  await call("Collections/Delete", { name: collection });
});
