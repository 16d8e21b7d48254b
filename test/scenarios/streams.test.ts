/**
 * Streams as clients in any language use them: wrong queries among good ones, cancellation, deadlines, back-pressure of
 * bulk writes, and clients that vanish in the middle.
 */
import { expect, test } from "vitest";
import { systemRuntime } from "../../libs/base/index.js";
import type { CollectionHandle } from "../../libs/client/index.js";
import { type Channel, createChannel, openStream } from "../../libs/rpc/client/index.js";
import { pb } from "../../libs/wire/index.js";
import { useCluster } from "../cluster/cluster.js";
import { eventually } from "../../libs/base/testing.js";
import { onBothDrivers } from "../cluster/drivers.js";
import { dimension, type Payload, pointOf, range, vectorOf } from "../cluster/workload.js";

onBothDrivers({ processes: { shardNodes: 2, replicas: 2 }, inProcess: {} }, (start) => {
  let handle: CollectionHandle<Payload>;
  let channel: Channel;
  const cluster = useCluster(start, async (started) => {
    const client = await started.connect();
    handle = client.collection<Payload>("streamed");
    await handle.create({ vectors: { dimension, metric: "l2" }, shards: 2 });
    await handle.upsert(range(0, 500).map((id) => pointOf(id, 1)));
    channel = createChannel(started.target, systemRuntime);
  });

  /** A query stream and what came back on it. */
  function queries() {
    const answers = new Map<number | bigint, pb.QueryStreamResponse[]>();
    let ended: string | undefined;
    const stream = openStream(channel, pb.PointsService.queryStream, {
      onMessage: (answer) => {
        answers.set(answer.requestId, [...(answers.get(answer.requestId) ?? []), answer]);
      },
      onEnd: (error) => {
        ended = error?.code ?? "OK";
      },
    });
    const send = (requestId: number | bigint, query: Partial<pb.QueryRequest>, timeoutMs = 0): void => {
      stream.write({
        requestId,
        timeoutMs,
        cancel: false,
        traceparent: "",
        other: undefined,
        query: pb.QueryRequest.fromPartial({ collection: "streamed", ...query }),
      });
    };
    const cancel = (requestId: number | bigint): void => {
      stream.write({ requestId, timeoutMs: 0, cancel: true, traceparent: "", query: undefined, other: undefined });
    };
    const codeOf = (requestId: number | bigint): string => {
      const outcome = answers.get(requestId)?.[0]?.outcome;
      return outcome === undefined ? "" : outcome.$case === "failure" ? outcome.value.code : "OK";
    };
    return { stream, answers, send, cancel, codeOf, ended: () => ended };
  }

  /** A query that waits for what is never written. */
  const never = {
    vector: vectorOf(0, 1),
    consistency: {
      level: { $case: "atLeast" as const, value: { shards: [{ shard: 0, sequence: 1_000_000 }], collectionId: "" } },
    },
  };

  test("wrong queries among good ones fail alone, each by its number", { timeout: 30_000 }, async () => {
    const { stream, answers, send, codeOf, ended } = queries();
    const wrong: [Partial<pb.QueryRequest>, string][] = [
      [{ vector: new Float32Array(3) }, "DIMENSION_MISMATCH"],
      [{ vector: new Float32Array(dimension).fill(Number.NaN) }, "VECTOR_NOT_FINITE"],
      [{ vector: vectorOf(1, 1), limit: 1_000_000 }, "LIMIT_OUT_OF_RANGE"],
      [{ vector: vectorOf(1, 1), collection: "nowhere" }, "COLLECTION_NOT_FOUND"],
      [{ vector: vectorOf(1, 1), using: "no such field" }, "UNKNOWN_VECTOR"],
    ];
    for (let i = 0; i < 300; i++) {
      if (i % 3 === 0) send(i, wrong[(i / 3) % wrong.length]?.[0] as Partial<pb.QueryRequest>);
      else send(i, { vector: vectorOf(i, 1), limit: 1 });
    }
    await eventually(() => expect(answers.size).toBe(300));
    for (let i = 0; i < 300; i++) {
      expect(answers.get(i), `answers to ${i}`).toHaveLength(1);
      const outcome = answers.get(i)?.[0]?.outcome;
      if (i % 3 === 0) {
        const [request, code] = wrong[(i / 3) % wrong.length] as (typeof wrong)[number];
        if (request.using === undefined) expect(codeOf(i)).toBe(code);
        else expect(codeOf(i)).not.toBe("OK");
        continue;
      }
      expect(outcome?.$case).toBe("response");
      if (outcome?.$case === "response") {
        expect(outcome.value.points[0]?.id?.id).toEqual({ $case: "num", value: BigInt(i) });
      }
    }
    expect(ended()).toBeUndefined();
    stream.end();
    await eventually(() => expect(ended()).toBe("OK"));
  });

  test("any 64-bit number may be the id of a query; one beyond what a double holds is answered under it", {
    timeout: 30_000,
  }, async () => {
    const { stream, answers, send, cancel, codeOf, ended } = queries();
    const ids = [0, 2 ** 28, Number.MAX_SAFE_INTEGER, 2n ** 53n, 2n ** 53n + 1n, 2n ** 64n - 1n];
    ids.forEach((id, i) => send(id, { vector: vectorOf(i, 1), limit: 1 }));
    await eventually(() => expect(answers.size).toBe(ids.length));
    ids.forEach((id, i) => {
      const outcome = answers.get(id)?.[0]?.outcome;
      expect(outcome).toMatchObject({ value: { points: [{ id: { id: { $case: "num", value: BigInt(i) } } }] } });
    });
    answers.clear();
    // Failures and cancellation find it too.
    send(2n ** 60n, { vector: vectorOf(0, 1), collection: "nowhere" });
    await eventually(() => expect(codeOf(2n ** 60n)).toBe("COLLECTION_NOT_FOUND"));
    answers.clear();
    send(2n ** 60n, never);
    cancel(2n ** 60n);
    send(2n ** 60n, { vector: vectorOf(1, 1), limit: 1 });
    await eventually(() => expect(codeOf(2n ** 60n)).toBe("OK"));
    expect(ended()).toBeUndefined();
    stream.end();
    await eventually(() => expect(ended()).toBe("OK"));
  });

  test("a cancelled query is not answered and its number is free again; a deadline ends one alone", {
    timeout: 30_000,
  }, async () => {
    const { stream, answers, send, cancel, codeOf, ended } = queries();
    send(1, never);
    send(2, never, 300);
    send(3, never, 20_000);
    send(3, { vector: vectorOf(3, 1) });
    // The number is in flight: the second query of it is refused, the first one goes on.
    await eventually(() => expect(codeOf(3)).toBe("INVALID_ARGUMENT"));
    cancel(1);
    cancel(999);
    send(1, { vector: vectorOf(7, 1), limit: 1 });
    await eventually(() => expect(codeOf(1)).toBe("OK"));
    await eventually(() => expect(codeOf(2)).toBe("DEADLINE_EXCEEDED"));
    expect(answers.get(1)).toHaveLength(1);
    expect(ended()).toBeUndefined();
    // The client vanishes while one query still waits.
    stream.cancel();
    await eventually(() => expect(ended()).toBe("CANCELLED"));
    expect((await handle.query({ vector: vectorOf(9, 1), limit: 1 })).points[0]?.id).toBe(9);
  });

  /** A bulk message of `count` points from `from`. */
  function bulk(requestId: number, from: number, count: number, payloadBytes: number): pb.UpsertStreamRequest {
    const nums = new BigUint64Array(count);
    const matrix = new Float32Array(count * dimension);
    const payload = Buffer.from(JSON.stringify({ version: 1, text: "x".repeat(payloadBytes) }));
    for (let i = 0; i < count; i++) {
      nums[i] = BigInt(from + i);
      matrix.set(vectorOf(from + i, 1), i * dimension);
    }
    const columns = pb.UpsertColumnsRequest.fromPartial({
      collection: "streamed",
      idColumn: { $case: "nums", value: new Uint8Array(nums.buffer) },
      vectors: [{ name: "", matrix: new Uint8Array(matrix.buffer) }],
      payloads: new Array<Uint8Array>(count).fill(payload),
    });
    return { requestId, columns, traceparent: "" };
  }

  test("a bulk writer that does not wait for answers is held back, and loses nothing", {
    timeout: 60_000,
  }, async () => {
    const messages = 300;
    let answered = 0;
    let ahead = 0;
    const failed: string[] = [];
    const stream = openStream(channel, pb.PointsService.upsertStream, {
      onMessage: ({ outcome }) => {
        answered++;
        if (outcome?.$case !== "response") failed.push(outcome?.value.code ?? "nothing");
      },
      onEnd: () => undefined,
    });
    for (let i = 0; i < messages; i++) {
      if (!stream.write(bulk(i, 10_000 + i * 20, 20, 10_000))) await stream.drained();
      ahead = Math.max(ahead, i + 1 - answered);
    }
    await eventually(() => expect(answered).toBe(messages), 40_000);
    expect(failed).toEqual([]);
    // Sixteen in work, and what the windows of HTTP/2 and the client's own buffer hold: far from all.
    expect(ahead).toBeLessThan(messages / 2);
    stream.end();
    expect(await handle.count()).toBe(500 + messages * 20);
  });

  test("a client that disappears in the middle leaves whole messages behind, and a server that works", {
    timeout: 60_000,
  }, async () => {
    const before = await handle.count();
    const acknowledged = new Set<number>();
    const own = createChannel(cluster().target, systemRuntime);
    const stream = openStream(own, pb.PointsService.upsertStream, {
      onMessage: ({ requestId, outcome }) => {
        if (outcome?.$case === "response") acknowledged.add(Number(requestId));
      },
      onEnd: () => undefined,
    });
    for (let i = 0; i < 60; i++) stream.write(bulk(i, 100_000 + i * 10, 10, 100));
    await eventually(() => expect(acknowledged.size).toBeGreaterThan(3));
    stream.cancel();
    own.close();
    for (const message of acknowledged) {
      expect(await handle.get(range(100_000 + message * 10, 10), { consistency: "linearizable" })).toHaveLength(10);
    }
    expect((await handle.count({ consistency: "linearizable" })) - before).toBeLessThanOrEqual(600);
    await handle.upsert(pointOf(1, 1));
    expect((await handle.query({ vector: vectorOf(1, 1), limit: 1 })).points[0]?.id).toBe(1);
  });
});
