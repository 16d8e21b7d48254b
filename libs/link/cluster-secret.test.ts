import { afterEach, describe, expect, test } from "vitest";
import { SeededRandom, systemClock, systemRuntime } from "../base/index.js";
import { eventually, ManualClock } from "../base/testing.js";
import type { Snapshot } from "../model/index.js";
import { createRpcServer, type RpcServer } from "../rpc/server/index.js";
import { runBackupWork, serveBackupWork } from "./backup-work.js";
import { LinkClient } from "./client.js";
import { ClusterSecret } from "./cluster-secret.js";
import { serveLink } from "./server.js";
import { fetchSnapshot, serveSnapshots } from "./snapshots.js";
import { call, counted, replica } from "./testing/link.fixture.js";

const secretText = "a-secret-of-the-cluster-of-this-test";
const otherText = "another-secret-that-nobody-else-has-";
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

describe("proofs", () => {
  const clock = new ManualClock();
  const make = (text: string): ClusterSecret => new ClusterSecret(text, { clock, random: new SeededRandom(1) });

  test("a proof is good once, for what it was made for, and for some minutes", async () => {
    const [one, other] = [make(secretText), make(secretText)];
    const proof = one.prove("a");
    expect(proof).not.toContain(secretText);
    expect(() => other.check(proof, "b")).toThrow(/another secret/);
    other.check(proof, "a");
    expect(() => other.check(proof, "a")).toThrow(/used before/);
    const late = one.prove("a");
    await clock.advance(300_001);
    expect(() => other.check(late, "a")).toThrow(/clocks/);
  });

  test("what is no proof, and one of another secret, are refused", () => {
    const own = make(secretText);
    const proof = make(otherText).prove("a");
    for (const bad of ["", "x", proof.slice(1), `${proof}x`, proof.replace(/.$/, "=")])
      expect(() => own.check(bad, "a")).toThrow(/cluster/);
    expect(() => own.check(proof, "a")).toThrow(expect.objectContaining({ code: "UNAUTHENTICATED" }));
  });

  test("a secret is changed node by node: the second line is taken, the first is used", () => {
    const [before, after] = [make(secretText), make(secretText)];
    after.replace(`${otherText}\n${secretText}\n`);
    after.check(before.prove("a"), "a");
    expect(() => before.check(after.prove("a"), "a")).toThrow(/another secret/);
    before.replace(otherText);
    before.check(after.prove("a"), "a");
    expect(() => make("short")).toThrow(/32 random characters/);
    expect(() => before.replace(" \n")).toThrow(expect.objectContaining({ code: "INVALID_CONFIG" }));
    before.check(after.prove("b"), "b");
  });
});

const secretOf = (text: string | undefined): ClusterSecret | undefined =>
  text === undefined ? undefined : new ClusterSecret(text, systemRuntime);

/** The doors of a node, with nothing behind them but what tells that somebody is in. */
async function serve(secret: string | undefined): Promise<{ server: RpcServer; address: string }> {
  const server = createRpcServer({ ...systemRuntime, node: "shard-1" });
  const unused = (): never => {
    throw new Error("not asked for");
  };
  const api = {
    ...{ read: async () => counted(7) as never, wait: unused, waitIndexed: unused, status: unused },
  };
  serveLink(server, api, "shard-1", secretOf(secret));
  const manifest = { format: 1, incarnation: "i", sequence: 9, pointCount: 0, id: "s", sizeBytes: 0 };
  const chunks = (async function* () {})();
  serveSnapshots(
    server,
    { snapshot: async (): Promise<Snapshot> => ({ manifest, chunks, close: async () => undefined }) },
    secretOf(secret),
  );
  serveBackupWork(server, { run: async () => "done" }, secretOf(secret));
  const address = `127.0.0.1:${await server.listen("127.0.0.1", 0)}`;
  cleanups.push(() => server.drain(0));
  return { server, address };
}

/** What a node with that secret is told at the three doors of another. */
async function enter(address: string, text: string | undefined): Promise<string[]> {
  const secret = secretOf(text);
  const link = new LinkClient({ ...systemRuntime, address, node: "shard-1", self: "router-1", secret });
  const count = link.read("count", replica, { minSequence: 0 }, call);
  const { signal } = new AbortController();
  const call2 = { address, node: "shard-1", clock: systemClock, signal, secret };
  const snapshot = fetchSnapshot(replica, { incarnation: "i", minSequence: 0 }, call2);
  const work = runBackupWork("{}", { ...call2, onProgress: () => undefined });
  const outcomes = await Promise.allSettled([count, snapshot.then((each) => each.close()), work]);
  link.close();
  return outcomes.map((each) => (each.status === "fulfilled" ? "in" : (each.reason as { code: string }).code));
}

describe("doors between nodes", () => {
  test("let in those who prove to know the secret", async () => {
    const { address } = await serve(secretText);
    expect(await enter(address, secretText)).toEqual(["in", "in", "in"]);
  });

  test.each([
    ["nothing", undefined],
    ["another secret", otherText],
  ])("let nobody in who has %s", async (_, text) => {
    const { address } = await serve(secretText);
    expect(await enter(address, text)).toEqual(["SHARD_UNAVAILABLE", "UNAUTHENTICATED", "UNAUTHENTICATED"]);
  });

  test("a node does not speak to one that cannot prove to be of the cluster", async () => {
    const { address } = await serve(undefined);
    const link = new LinkClient({ ...systemRuntime, address, node: "shard-1", secret: secretOf(secretText) });
    cleanups.push(() => link.close());
    await eventually(async () => {
      const failure = link.read("count", replica, { minSequence: 0 }, call);
      await expect(failure).rejects.toThrow(/does not prove to be a node of this cluster/);
    });
  });
});
