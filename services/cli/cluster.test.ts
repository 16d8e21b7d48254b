import { afterEach, expect, it } from "vitest";
import { systemRuntime } from "../../libs/base/index.js";
import { createRpcServer, type RpcServer } from "../../libs/rpc/server/index.js";
import { pb } from "../../libs/wire/index.js";
import { run } from "./run.js";
import { testIo } from "./testing/io.js";

let server: RpcServer;
let standby: pb.Standby | undefined;
/** What promotions were asked for. */
let promotions: pb.PromoteStandbyRequest[] = [];
afterEach(async () => {
  standby = undefined;
  promotions = [];
  await server.drain(0);
});

/** What the program prints of a cluster of one replica whose shard is as described. */
async function kith(
  args: string[],
  shard: Partial<pb.Shard> = {},
  nodes: Partial<pb.Node>[] = [],
  operations: pb.Operation[] = [],
) {
  server = createRpcServer({ ...systemRuntime, node: "test" });
  const described = pb.DescribeClusterResponse.fromPartial({
    logKind: "jetstream",
    shards: [{ collection: "seen", ...shard }],
    nodes,
  });
  server.addService(pb.ClusterService, {
    describe: () => Promise.resolve(described),
    listOperations: () => Promise.resolve({ operations }),
    moveReplica: () => Promise.resolve({ operation: undefined }),
    splitShard: () => Promise.resolve({ operation: undefined }),
    isolatePartition: () => Promise.resolve({ operation: undefined }),
    mergeShards: () => Promise.resolve({ operation: undefined }),
    drainNode: () => Promise.resolve({ node: undefined }),
    undrainNode: () => Promise.resolve({ node: undefined }),
    rebalance: () => Promise.resolve({ moves: [], sizeBytes: 0, expectedMs: 0, nodes: [], operations: [] }),
    abortRebalance: () => Promise.resolve({ operations: [] }),
    getSettings: () => Promise.resolve({ settings: undefined }),
    updateSettings: ({ settings }) => Promise.resolve({ settings }),
    getStandby: () => Promise.resolve({ standby }),
    promoteStandby: (request) => {
      promotions.push(request);
      standby &&= { ...standby, phase: "promoted" };
      return Promise.resolve({ standby });
    },
    getOperation: () => Promise.resolve({ operation: undefined }),
    slowQueries: ({ limit }) =>
      Promise.resolve({ queries: slowQueries.slice(0, limit), skipped: 1_234, thresholdMs: 500 }),
    cancelOperation: ({ id }) => Promise.resolve({ operation: pb.Operation.fromPartial({ id, state: "cancelling" }) }),
  });
  // What a client asks when it connects.
  const { exists } = pb.CollectionsService;
  server.addService({ exists }, { exists: () => Promise.resolve({ exists: false }) });
  const port = await server.listen("127.0.0.1", 0);
  const io = testIo({ env: { KITH_TARGET: `127.0.0.1:${port}` } });
  const code = await run(args, io);
  return { code, out: io.out(), err: io.err() };
}

const slowQueries = [
  pb.SlowQuery.fromPartial({
    endedAt: new Date(2_000),
    node: "router-0",
    kind: "query",
    collection: "films",
    tookUs: 1_500_000,
    shape: 'nearest "" limit 10 where all of (year range)',
  }),
  pb.SlowQuery.fromPartial({ node: "router-0", kind: "count", collection: "films", errorCode: "DEADLINE_EXCEEDED" }),
];

const replica = pb.Replica.fromPartial({ node: "n1", placement: "active", state: "active", appliedSequence: 5 });

it("shows the id and the state of shards, and what is not as it should be of their replicas", async () => {
  const replicas = [
    replica,
    { ...replica, node: "n2", placement: "leaving" },
    { ...replica, node: "n3", placement: "joining", state: "catching_up" },
  ];
  const { out } = await kith(["cluster"], { shard: 7, state: "preparing", slots: { first: 4, last: 9 }, replicas });
  expect(out).toMatch(
    /seen +7 +preparing +4\.\.9 +unknown +unknown +unknown +n1 n2 \(leaving\) n3 \(joining, catching_up\)/,
  );
  expect(out).toMatch(/seen +7 +n3 +joining +catching_up +5/);
});

it("calls no replica up to date while the log cannot be reached", async () => {
  const { code, out, err } = await kith(["cluster", "lag"], { replicas: [replica] });
  expect({ code, err }).toEqual({ code: 0, err: "" });
  expect(out).toMatch(/seen .* n1 +active +active +5 +unknown/);
  expect((await kith(["cluster", "shards"], { replicas: [replica] })).out).toMatch(/seen .* unknown +n1/);
});

it("says so where all replicas are up to date", async () => {
  const shard = { logSequence: 5, replicas: [{ ...replica, lag: 0 }] };
  expect((await kith(["cluster", "lag"], shard)).err).toMatch(/all 1 replicas are active and up to date/);
});

it("shows no free disk for a node without data, and 0 where a disk is full", async () => {
  const nodes = [
    { id: "router-0", state: "up", roles: ["router"] },
    { id: "shard-0", state: "up", roles: ["shard"] },
  ];
  const { out } = await kith(["cluster", "nodes"], {}, nodes);
  expect(out).toMatch(/router-0 .* 0 B +- /);
  expect(out).toMatch(/shard-0 .* 0 B +0 B/);
});

const operations = [
  pb.Operation.fromPartial({
    id: "create-c2",
    kind: "create_collection",
    collection: "films",
    collectionId: "c2",
    state: "running",
    step: "place",
    createdAt: new Date(2_000),
    updatedAt: new Date(9_000),
    attempts: 3,
    errorCode: "FAILED_PRECONDITION",
    error: "2 replicas need 2 shard nodes",
  }),
  pb.Operation.fromPartial({
    id: "delete-c1",
    kind: "delete_collection",
    collection: "films",
    collectionId: "c1",
    state: "done",
    step: "remove_record",
    createdAt: new Date(1_000),
    updatedAt: new Date(1_250),
  }),
];

it("shows operations, as a table and as JSON", async () => {
  const { out } = await kith(["cluster", "operations"], {}, [], operations);
  const [, running, done] = out.split("\n").map((line) => line.split(/ {2,}/).map((cell) => cell.trim()));
  const begun = "1970-01-01T00:00:02.000Z";
  expect(running).toEqual([
    "create-c2",
    "create_collection",
    "films",
    "running",
    "place",
    begun,
    "3",
    "2 replicas need 2 shard nodes",
  ]);
  expect(done?.slice(3)).toEqual(["done", "remove_record", "1970-01-01T00:00:01.000Z", "250 ms", "0"]);
  const json = JSON.parse(
    (await kith(["cluster", "operations", "--output", "json"], {}, [], operations)).out,
  ) as unknown;
  expect(json).toMatchObject([
    { id: "create-c2", collectionId: "c2", createdAt: begun, attempts: 3, errorCode: "FAILED_PRECONDITION" },
    { id: "delete-c1", state: "done" },
  ]);
});

it("shows slow queries, as a table and as JSON", async () => {
  const { out, err } = await kith(["cluster", "slow"]);
  const begin = "1970-01-01T00:00:02.000Z  router-0  films       query  1.5 s";
  expect(out.split("\n")[1]?.replaceAll(/ +/g, " ")).toBe(
    `${begin} nearest "" limit 10 where all of (year range)`.replaceAll(/ +/g, " "),
  );
  expect(out).toContain("DEADLINE_EXCEEDED");
  expect(err).toBe("2 queries of 500 ms or more; 1,234 more were not kept\n");
  const json = JSON.parse((await kith(["cluster", "slow", "-n", "1", "-o", "json"])).out) as unknown;
  expect(json).toMatchObject({ queries: [{ tookUs: 1_500_000, kind: "query" }], skipped: 1_234 });
});

it("cancels an operation", async () => {
  expect(await kith(["cluster", "cancel", "create-c2"])).toMatchObject({
    code: 0,
    err: "the operation create-c2 is cancelling\n",
  });
  expect((await kith(["cluster", "nothing"])).code).toBe(2);
});

const following = pb.Standby.fromPartial({
  ...{
    primary: "main",
    phase: "following",
    reachable: true,
    orphans: ["lost"],
    lag: 7,
    lagMs: 1_500,
    toldAt: new Date(),
  },
  logs: [
    { collection: "films", shard: 2, state: "following", sequence: 93, primarySequence: 100, lag: 7, lagMs: 1_500 },
    { collection: "films", shard: 3, state: "failed", sequence: 5, primarySequence: 5, reason: "it was put back" },
  ],
});

it("shows how far a standby is, and what is wrong", async () => {
  expect((await kith(["standby", "status"])).out).toMatch(/follows no other one/);
  standby = following;
  const { out } = await kith(["standby", "status"]);
  expect(out).toMatch(/follows "main", which answers: 7 records and 1.5 s behind/);
  expect(out).toMatch(/left as they are: lost/);
  expect(out).toMatch(/films +2 +following +93 +100 +7 +1.5 s/);
  expect(out).toMatch(/films +3 +failed +5 +5 +0 +\? +it was put back/);
  const json = JSON.parse((await kith(["standby", "status", "--output", "json"])).out) as object;
  expect(json).toMatchObject({ primary: "main", lag: 7, lagMs: 1_500, logs: [{ shard: 2 }, { shard: 3 }] });
});

it("promotes a standby, and waits for it", async () => {
  standby = following;
  expect((await kith(["standby", "promote", "--force"])).out).toMatch(/is promoted; it followed "main"/);
  expect(promotions).toEqual([{ force: true }]);
});
