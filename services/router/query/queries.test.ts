import { describe, expect, test, vi } from "vitest";
import { KithError, limits, systemRuntime } from "../../../libs/base/index.js";
import { idFromNum } from "../../../libs/model/index.js";
import { setupTelemetry } from "../../../libs/telemetry/index.js";
import { pb, type QueryAnswer } from "../../../libs/wire/index.js";
import { AnswerBudget } from "./answer-budget.js";
import { Queries } from "./queries.js";
import { Reads } from "./reads.js";
import { call, FakeNode, routed } from "../testing/router.js";
import { Writes } from "../write/writes.js";
import { systemClock } from "../../../libs/base/index.js";
import { SlowLog } from "./slow-log.js";

const slowLog = new SlowLog(systemClock, "r", () => 0);

const request = (over: Partial<pb.QueryRequest> = {}): pb.QueryRequest => ({
  ...pb.QueryRequest.fromPartial({ collection: "c" }),
  vector: Float32Array.of(1, 2),
  ...over,
});

test("queries beyond what a router may have in flight are refused at once, until others have ended", async () => {
  const node = new FakeNode("n1");
  const { routingTable, log, close } = await routed([node]);
  const queries = new Queries(routingTable, log, "r", new AnswerBudget(systemClock), slowLog);
  const { query } = node.reads;
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  node.reads.query = (...given) => held.then(() => query(...given));
  // All in one moment: in half a second without an answer more than a few are refused.
  const { clock } = routingTable.runtime;
  const frozen = vi.spyOn(clock, "monotonicMs").mockReturnValue(clock.monotonicMs());
  const running = Array.from({ length: limits.inFlightCalls }, () => queries.query(request(), call));
  const refused = { code: "RESOURCE_EXHAUSTED", retryable: true };
  await expect(queries.query(request(), call)).rejects.toMatchObject(refused);
  frozen.mockRestore();
  release();
  await Promise.all(running);
  await expect(queries.query(request(), call)).resolves.toMatchObject({ hits: [] });
  await expect(queries.query(request({ collection: "nowhere" }), call)).rejects.toMatchObject({
    code: "COLLECTION_NOT_FOUND",
  });
  close();
});

test("matrices, groups and facets are refused before anything is read where answers in flight leave no room", async () => {
  const node = new FakeNode("n1");
  const { routingTable, log, close } = await routed([node]);
  const budget = new AnswerBudget(systemClock, 100_000);
  const held = budget.reserveBytes(99_990);
  const queries = new Queries(routingTable, log, "r", budget, slowLog);
  const reads = new Reads(routingTable, log, budget, slowLog);
  let asked = 0;
  const empty = { hits: [], sequence: 0 };
  node.reads.sample = async () => (asked++, empty);
  node.reads.search = async () => (asked++, empty);
  node.reads.facet = async () => (asked++, { counts: [{ value: "drama", count: 1 }], sequence: 0 });
  const asks = [
    () => queries.matrix(pb.SearchMatrixRequest.fromPartial({ collection: "c", sample: 100 }), call),
    () => queries.groups(pb.QueryGroupsRequest.fromPartial({ query: request() as never, groupBy: "a" }), call),
    () => reads.facet(pb.FacetRequest.fromPartial({ collection: "c", key: "genre" }), call),
  ];
  for (const ask of asks) await expect(ask()).rejects.toMatchObject({ code: "RESOURCE_EXHAUSTED", retryable: true });
  expect(asked).toBe(0);
  held.release();
  for (const ask of asks) await ask();
  expect(asked).toBeGreaterThan(2);
  expect(budget.inFlightBytes).toBe(0);
  close();
});

test("writes beyond the bytes that a router may have in flight are refused until others are answered", async () => {
  const node = new FakeNode("n1");
  const { routingTable, close } = await routed([node]);
  const writes = new Writes(routingTable, 100);
  const upsert = (ack: pb.Ack): Promise<pb.UpsertResponse> => {
    const points = [1n, 2n].map((value) => ({
      id: { id: { $case: "num" as const, value } },
      vectors: { "": { values: Float32Array.of(1, 2) } },
    }));
    return writes.upsert(pb.UpsertRequest.fromPartial({ collection: "c", points, options: { ack } }), call);
  };
  const { wait } = node;
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  node.wait = (...given) => held.then(() => wait(...given));
  const first = upsert(pb.Ack.APPLIED);
  await expect(upsert(pb.Ack.LOG)).rejects.toMatchObject({ code: "RESOURCE_EXHAUSTED", retryable: true });
  release();
  await first;
  await expect(upsert(pb.Ack.LOG)).resolves.toMatchObject({ upserted: 2 });
  close();
});

test("a query by a point asks for one result more than its limit, whatever the limit", async () => {
  const node = new FakeNode("n1");
  const { routingTable, log, close } = await routed([node]);
  const id = idFromNum(1);
  const vectors = new Map([["", Float32Array.of(1, 2)]]);
  node.reads.get = () =>
    Promise.resolve({ points: [{ id, version: 1, payload: new Uint8Array(), vectors }], sequence: 1 });
  const point: pb.PointId = { id: { $case: "num", value: 1n } };
  const byPoint = request({ vector: new Float32Array(0), point, limit: limits.queryLimit });
  await new Queries(routingTable, log, "r", new AnswerBudget(systemClock), slowLog).query(byPoint, call);
  expect(node.queries).toMatchObject([{ k: limits.queryLimit + 1 }]);
  close();
});

describe("a query by a point that one replica has at sequence 10", () => {
  /** Shard 7 has the point, shard 3 is the other one; the replica that gave it out takes no more calls, and the other one has applied 8. */
  async function given() {
    const [ahead, behind] = [new FakeNode("ahead"), new FakeNode("behind")];
    const router = await routed([ahead, behind], [3, 7]);
    const num = Array.from({ length: 100 }, (_, i) => i).find((i) => shardOf(router, i) === 7) as number;
    const vectors = new Map([["", Float32Array.of(1, 2)]]);
    const points = [{ id: idFromNum(num), version: 10, payload: new Uint8Array(), vectors }];
    behind.reads.get = () => Promise.reject(new KithError("SHARD_UNAVAILABLE", "not yet"));
    ahead.reads.get = () => {
      ahead.usable = false;
      return Promise.resolve({ points, sequence: 10 });
    };
    const point: pb.PointId = { id: { $case: "num", value: BigInt(num) } };
    const query = (over: Partial<pb.QueryRequest>) =>
      new Queries(router.routingTable, router.log, "r", new AnswerBudget(systemClock), slowLog).query(
        request({ vector: new Float32Array(0), point, ...over }),
        call,
      );
    return { ...router, behind, query };
  }
  const shardOf = ({ routingTable }: Awaited<ReturnType<typeof routed>>, num: number): number =>
    routingTable.resolve("c", call).shardOf(idFromNum(num)).id.shard;

  const tokenOf = ({ sequences }: QueryAnswer) => sequences.map(({ shard, sequence }) => [shard, sequence]).sort();

  test("reads the point's shard at no earlier sequence, and the others as asked", async () => {
    const { behind, query, close } = await given();
    const asked: [number, number][] = [];
    behind.reads.query = ({ shard }, { minSequence }) => {
      asked.push([shard, minSequence]);
      return Promise.resolve({ hits: [], plan: "exact", sequence: Math.max(8, minSequence) });
    };
    expect(tokenOf(await query({}))).toEqual([
      [3, 8],
      [7, 10],
    ]);
    expect(asked.sort()).toEqual([
      [3, 0],
      [7, 10],
    ]);
    close();
  });

  test("gives a token that has it even where the point's shard cannot answer any more", async () => {
    const { behind, query, close } = await given();
    behind.reads.query = ({ shard }) =>
      shard === 3
        ? Promise.resolve({ hits: [], plan: "exact", sequence: 8 })
        : Promise.reject(new KithError("SHARD_UNAVAILABLE", "gone"));
    const answer = await query({ allowPartial: true });
    expect(answer.missing).toEqual([{ first: 8_192, last: 16_383 }]);
    expect(tokenOf(answer)).toEqual([
      [3, 8],
      [7, 10],
    ]);
    close();
  });

  test("reads at the sequence of the caller's token where that is a later one", async () => {
    const { behind, query, close } = await given();
    const asked = new Map<number, number>();
    behind.reads.query = ({ shard }, { minSequence }) => {
      asked.set(shard, minSequence);
      return Promise.resolve({ hits: [], plan: "exact", sequence: minSequence });
    };
    const shards = [
      { shard: 3, sequence: 11 },
      { shard: 7, sequence: 12 },
    ];
    const consistency = pb.Consistency.fromPartial({ level: { $case: "atLeast", value: { shards } } });
    await query({ consistency });
    expect(asked).toEqual(
      new Map([
        [3, 11],
        [7, 12],
      ]),
    );
    close();
  });
});

test("a threshold that is no number is refused: nothing would be beyond it, or all", async () => {
  const { routingTable, log, close } = await routed([new FakeNode("n1")]);
  const query = new Queries(routingTable, log, "r", new AnswerBudget(systemClock), slowLog).query(
    request({ scoreThreshold: Number.NaN }),
    call,
  );
  await expect(query).rejects.toMatchObject({ code: "INVALID_ARGUMENT" });
  close();
});

test("the duration of failed queries is measured with their error, without names that anybody made up", async () => {
  const env = {
    OTEL_METRICS_EXPORTER: "prometheus",
    OTEL_EXPORTER_PROMETHEUS_HOST: "127.0.0.1",
    OTEL_EXPORTER_PROMETHEUS_PORT: "0",
  };
  const telemetry = await setupTelemetry({ ...systemRuntime, serviceName: "kith", nodeId: "r", version: "1", env });
  const { routingTable, log, close } = await routed([new FakeNode("n1")]);
  const queries = new Queries(routingTable, log, "r", new AnswerBudget(systemClock), slowLog);
  await queries.query(request(), call);
  await queries.query(request({ vector: Float32Array.of(1) }), call).catch(() => undefined);
  await queries.query(request({ collection: "made-up" }), call).catch(() => undefined);
  const text = await (await fetch(telemetry.prometheusUrl as string)).text();
  const lines = text.split("\n").filter((line) => line.startsWith("kith_query_duration_seconds_count"));
  const labels = lines.map((line) =>
    [/kith_collection="(.*?)"/, /error_type="(.*?)"/].map((each) => each.exec(line)?.[1]),
  );
  expect(labels).toEqual([
    ["c", undefined],
    ["c", "DIMENSION_MISMATCH"],
    [undefined, "COLLECTION_NOT_FOUND"],
  ]);
  close();
  await telemetry.shutdown();
});
