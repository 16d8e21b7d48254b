/** What `kith replica` and `kith node` ask of a server, and what they print and exit with. */
import { afterEach, describe, expect, test } from "vitest";
import { KithError, systemRuntime } from "../../libs/base/index.js";
import { createRpcServer, type RpcServer } from "../../libs/rpc/server/index.js";
import { pb } from "../../libs/wire/index.js";
import { run } from "./run.js";
import { testIo } from "./testing/io.js";

let server: RpcServer | undefined;
afterEach(async () => {
  await server?.drain(0);
  server = undefined;
});

interface Answers {
  /** Of the operation that a move begins, at each look; the last one stays. */
  operations?: Partial<pb.Operation>[];
  /** Replicas of the node "n1" at each look; the last one stays. */
  replicaCounts?: number[];
  refusal?: KithError;
}

async function kith(args: string[], { operations = [], replicaCounts = [0], refusal }: Answers = {}) {
  const asked: [string, object][] = [];
  let looks = 0;
  let counts = 0;
  const operation = (): pb.Operation =>
    pb.Operation.fromPartial({
      ...{ id: "move-1", kind: "move_replica", collection: "films", shard: 3 },
      ...operations[Math.min(looks++, operations.length - 1)],
    });
  const noted = <T>(method: string, request: object, answer: () => T): Promise<T> => {
    asked.push([method, request]);
    return refusal === undefined ? Promise.resolve(answer()) : Promise.reject(refusal);
  };
  server = createRpcServer({ ...systemRuntime, node: "test" });
  const { moveReplica, getOperation, drainNode, undrainNode, describe: describeCluster } = pb.ClusterService;
  server.addService(
    { moveReplica, getOperation, drainNode, undrainNode, describe: describeCluster },
    {
      moveReplica: (request) => noted("moveReplica", request, () => ({ operation: operation() })),
      getOperation: ({ id }) => noted("getOperation", { id }, () => ({ operation: operation() })),
      drainNode: (request) => noted("drainNode", request, () => ({ node: pb.Node.fromPartial({ id: "n1" }) })),
      undrainNode: (request) => noted("undrainNode", request, () => ({ node: pb.Node.fromPartial({ id: "n1" }) })),
      describe: () => {
        const replicaCount = replicaCounts[Math.min(counts++, replicaCounts.length - 1)] ?? 0;
        const shard = { state: "up", version: "1.2.3", zone: "z1", diskFreeBytes: 0 };
        return Promise.resolve(
          pb.DescribeClusterResponse.fromPartial({
            nodes: [
              { ...shard, id: "n1", roles: ["shard"], replicaCount },
              { ...shard, id: "n2", roles: ["router"], state: "down" },
            ],
          }),
        );
      },
    },
  );
  // What a client asks when it connects.
  const { exists } = pb.CollectionsService;
  server.addService({ exists }, { exists: () => Promise.resolve({ exists: false }) });
  const port = await server.listen("127.0.0.1", 0);
  const io = testIo({ env: { KITH_TARGET: `127.0.0.1:${port}` } });
  const code = await run(args, io);
  return { code, out: io.out(), err: io.err(), asked };
}

const moveTo = { collection: "films", shard: 3, from: "", to: "n2" };

describe("kith replica", () => {
  test.each([
    ["move", ["move", "films", "3", "--from", "n1", "--to", "n2"], { ...moveTo, from: "n1" }],
    ["add", ["add", "films", "3", "--to", "n2"], moveTo],
    ["remove", ["remove", "films", "3", "--from", "n1"], { ...moveTo, from: "n1", to: "" }],
  ])("%s waits for the end of the operation that it begins", async (_, args, request) => {
    const { code, out, asked } = await kith(["replica", ...args], {
      operations: [{ state: "running", step: "copy" }, { state: "done" }],
    });
    expect({ code, out }).toEqual({ code: 0, out: "the operation move-1 is done\n" });
    expect(asked).toEqual([
      ["moveReplica", request],
      ["getOperation", { id: "move-1" }],
    ]);
  });

  test("--no-wait ends when it has begun, with the operation as JSON where that is asked for", async () => {
    const { code, out, asked } = await kith(
      ["replica", "move", "films", "3", "--from", "n1", "--to", "n2", "--no-wait", "--output", "json"],
      { operations: [{ state: "running", step: "join", move: pb.Move.fromPartial({ from: "n1", to: "n2" }) }] },
    );
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ id: "move-1", state: "running", shard: 3, move: { from: "n1", to: "n2" } });
    expect(asked.map(([method]) => method)).toEqual(["moveReplica"]);
  });

  test("one that is undone or fails ends with an error that says why", async () => {
    const { code, out, err } = await kith(["replica", "add", "films", "3", "--to", "n2"], {
      operations: [{ state: "running" }, { state: "cancelled", error: "node n2 is away" }],
    });
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toContain("the operation move-1 is cancelled: node n2 is away");
  });

  test("a refusal is shown with its code, and nothing more is asked", async () => {
    const { code, err, asked } = await kith(["replica", "remove", "films", "3", "--from", "n1"], {
      refusal: new KithError("FAILED_PRECONDITION", "the last replica stays"),
    });
    expect(code).toBe(1);
    expect(err).toContain("the last replica stays");
    expect(err).toContain("FAILED_PRECONDITION");
    expect(asked).toHaveLength(1);
  });

  test.each([
    [["replica", "move", "films", "3", "--to", "n2"], "--from"],
    [["replica", "move", "films", "3", "--from", "n1"], "--to"],
    [["replica", "add", "films", "3"], "--to"],
    [["replica", "remove", "films", "3"], "--from"],
    [["replica", "add", "films", "-1", "--to", "n2"], "-1"],
    [["replica", "add", "films", "1.5", "--to", "n2"], "1.5"],
    [["replica", "add", "films", "4294967296", "--to", "n2"], "4294967296"],
    [["replica", "add", "films", "--to", "n2"], "shard"],
    [["node", "drain"], "node"],
    [["node", "undrain"], "node"],
  ])("%j is refused as a whole, with what is wrong", async (args, named) => {
    const { code, err, asked } = await kith(args);
    expect(code).toBe(2);
    expect(err).toContain(named);
    expect(asked).toEqual([]);
  });
});

describe("kith node", () => {
  test("list shows each node with its state, its roles and its replicas", async () => {
    const { code, out } = await kith(["node", "list"], { replicaCounts: [7] });
    expect(code).toBe(0);
    expect(out).toMatch(/n1 +up +shard +z1 +7 /);
    expect(out).toMatch(/n2 +down +router +z1 +0 .* - /);
    const json = await kith(["node", "ls", "--output", "json"], { replicaCounts: [7] });
    expect(JSON.parse(json.out)).toMatchObject([
      { id: "n1", state: "up", roles: ["shard"], replicaCount: 7 },
      { id: "n2", state: "down", roles: ["router"], replicaCount: 0 },
    ]);
  });

  test("drain waits until the node has no replicas, and says how many are left", async () => {
    const { code, out, err, asked } = await kith(["node", "drain", "n1"], { replicaCounts: [2, 0] });
    expect({ code, out, err }).toEqual({ code: 0, out: "n1 has no replicas\n", err: "2 replicas left\n" });
    expect(asked).toEqual([["drainNode", { node: "n1" }]]);
  });

  test("drain --no-wait says what is left", async () => {
    const one = await kith(["node", "drain", "n1", "--no-wait"], { replicaCounts: [1] });
    expect(one).toMatchObject({ code: 0, out: "n1 is being drained: 1 replica left\n" });
    const json = await kith(["node", "drain", "n1", "--no-wait", "--output", "json"], { replicaCounts: [4] });
    expect(JSON.parse(json.out)).toEqual({ node: "n1", replicaCount: 4 });
  });

  test("undrain lets the node take replicas again", async () => {
    const { code, out, asked } = await kith(["node", "undrain", "n1"]);
    expect({ code, out }).toEqual({ code: 0, out: "n1 takes replicas\n" });
    expect(asked).toEqual([["undrainNode", { node: "n1" }]]);
  });

  test("a node that is not known is refused by the server, and drain does not wait", async () => {
    const { code, err, asked } = await kith(["node", "drain", "nobody"], {
      refusal: new KithError("NOT_FOUND", 'there is no node "nobody"'),
    });
    expect(code).toBe(3);
    expect(err).toContain('there is no node "nobody"');
    expect(asked).toHaveLength(1);
  });
});
