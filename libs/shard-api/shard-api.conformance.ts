import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { CallContext } from "../call/index.js";
import { idFromNum, type ShardId } from "../model/index.js";
import type { ShardApi } from "./port.js";
import type { ReadKind, ReadRequest, ShardScope } from "./reads.js";

/** One implementation, over one active replica that is empty at first. */
export interface ShardApiHarness {
  api: ShardApi;
  /** Of a collection with one field "" of two dimensions, a sparse field "words", and an index "words" by BM25 that answers. */
  replica: ShardId;
  /** Of the log, where the suite begins; default 0. */
  sequence?: number;
  /** What each call carries, without deadline and signal. */
  call: CallContext;
  /** A point with this number and the payload {"n":num} is written; the replica has it soon. Gives the sequence and the operation's id. */
  write(num: number): Promise<{ sequence: number; operationId: Uint8Array }>;
  /** The id of a replica that cannot be asked; called last. */
  unavailable(): Promise<ShardId>;
  dispose(): Promise<void>;
}

const select = { payload: false, vectors: [] };

function requestsAt(minSequence: number): { [K in ReadKind]: ReadRequest<K> } {
  const scope: ShardScope = { minSequence, filter: undefined, ids: undefined, exclude: [] };
  const vector = Float32Array.of(1, 2);
  const wanted = { field: "", k: 3, ef: 0, exact: true, select };
  return {
    query: { ...wanted, vector, minSequence },
    get: { ids: [idFromNum(1)], select, minSequence },
    scroll: { after: undefined, limit: 3, select, minSequence },
    count: { minSequence },
    search: { ...scope, ...wanted, scorer: { kind: "nearest", vector } },
    order: { ...scope, orderBy: { key: "n", direction: "ascending", startFrom: undefined }, limit: 3, select },
    sample: { ...scope, limit: 3, select },
    facet: { ...scope, key: "n" },
    terms: { index: "words", terms: [], expansions: [], minSequence },
    text: { ...scope, index: "words", clauses: [], terms: [], phrases: [], averages: [1], k: 3, select },
    indices: { field: "words", indices: [7], minSequence },
    sparse: {
      ...{ ...scope, field: "words", k: 3, select },
      vector: { indices: Uint32Array.of(7), values: Float32Array.of(1) },
    },
    trial: { field: "", target: 0.9, minSequence },
    changes: {
      ...{ minSequence, after: undefined, limit: 10, filter: undefined, near: undefined },
      ...{ select, before: false, waitMs: 0 },
    },
  };
}

const kinds = Object.keys(requestsAt(0)) as ReadKind[];

/** What every implementation of the port between routers and replicas must do. */
export function describeShardApi(adapter: string, makeHarness: () => Promise<ShardApiHarness>): void {
  describe(`shard API: ${adapter}`, () => {
    let harness: ShardApiHarness;
    let api: ShardApi;
    let replica: ShardId;
    let call: CallContext;
    let last = 0;

    const write = async (num: number): Promise<Uint8Array> => {
      const { sequence, operationId } = await harness.write(num);
      expect(sequence).toBe(++last);
      return operationId;
    };

    beforeAll(async () => {
      harness = await makeHarness();
      ({ api, replica, call } = harness);
      last = harness.sequence ?? 0;
    });
    afterAll(() => harness.dispose());

    it.each(kinds)("answers the read %s with a sequence that is no earlier than asked", async (kind) => {
      expect((await api.read(kind, replica, requestsAt(0)[kind], call)).sequence).toBe(last);
      await write(1);
      expect((await api.read(kind, replica, requestsAt(last)[kind], call)).sequence).toBe(last);
    });

    it("gives the points that exist, in the order asked", async () => {
      await write(1);
      await write(2);
      const ids = [2, 9, 1].map(idFromNum);
      const { points } = await api.read("get", replica, { ids, select, minSequence: last }, call);
      expect(points.map(({ id }) => Buffer.from(id))).toEqual([2, 1].map((num) => Buffer.from(idFromNum(num))));
    });

    it("gives each operation's outcome once its record is applied", async () => {
      const pending = api.wait(replica, last + 1, [], call);
      const operationId = await write(3);
      expect(await pending).toEqual([]);
      expect(await api.wait(replica, last, [operationId], call)).toEqual([{ affected: 1, failures: [] }]);
    });

    it("waits for what a read asks for", async () => {
      const order: string[] = [];
      const pending = api.read("count", replica, { minSequence: last + 1 }, call).then((answer) => {
        order.push("answered");
        return answer;
      });
      // Answered after the other one, which was asked later and waits for nothing.
      await api.read("count", replica, { minSequence: 0 }, call);
      order.push("written");
      await write(4);
      expect((await pending).sequence).toBe(last);
      expect(order).toEqual(["written", "answered"]);
    });

    it("ends a wait with its deadline, and with its caller", async () => {
      const never = last + 1_000;
      const waits = (each: CallContext): Promise<unknown>[] => [
        api.read("get", replica, requestsAt(never).get, each),
        api.wait(replica, never, [], each),
      ];
      const endsOf = async (calls: Promise<unknown>[]): Promise<unknown[]> =>
        (await Promise.allSettled(calls)).map(
          (each) => each.status === "rejected" && (each.reason as { code?: string }).code,
        );
      const late = waits({ ...call, deadlineMs: performance.now() + 30 });
      expect(await endsOf(late)).toEqual(["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"]);
      const caller = new AbortController();
      const cancelled = waits({ ...call, signal: caller.signal });
      const before = waits({ ...call, signal: AbortSignal.abort() });
      caller.abort();
      expect(new Set(await endsOf([...cancelled, ...before]))).toEqual(new Set(["CANCELLED"]));
    });

    it("says what the replica has", async () => {
      await write(5);
      await api.wait(replica, last, [], call);
      const status = await api.status(replica, last, call);
      expect(status).toMatchObject({ state: "active", appliedSequence: last, fault: "" });
      expect(status.pointCount).toBe((await api.read("count", replica, { minSequence: 0 }, call)).count);
      expect(await api.waitIndexed(replica, call)).toBe(status.pointCount);
    });

    it("refuses every call for a replica that cannot be asked", async () => {
      const other = await harness.unavailable();
      const calls: Promise<unknown>[] = [
        ...kinds.map((kind) => api.read(kind, other, requestsAt(0)[kind], call)),
        api.wait(other, 1, [], call),
        api.waitIndexed(other, call),
        api.status(other, 0, call),
      ];
      for (const each of await Promise.allSettled(calls)) {
        expect(each).toMatchObject({ status: "rejected", reason: { code: "SHARD_UNAVAILABLE", retryable: true } });
      }
    });
  });
}
