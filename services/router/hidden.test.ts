/**
 * What a caller may do is decided before anything is looked up: for a collection that it may not know of, and for one that there is not, a router does
 * the same, which is nothing: it asks neither the catalog nor the log nor a shard.
 */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { Principal, rpcRules, type Verb } from "../../libs/auth/index.js";
import { BackupLocations } from "../../libs/backup/index.js";
import { systemRandom, toKithError } from "../../libs/base/index.js";
import type { CallContext } from "../../libs/call/index.js";
import { NodesView, SettingsView } from "../../libs/cluster/index.js";
import { silentLogger, untraced } from "../../libs/telemetry/index.js";
import { Encoded, pb } from "../../libs/wire/index.js";
import { Router } from "./router.js";
import { collectionRecord, FakeNode, routed } from "./testing/router.js";

/** What was asked of the catalog, the log and the node. */
const steps: string[] = [];
/** A collection that the caller may not know of, and none. */
const [hidden, absent] = ["hidden", "absent"];

let router: Router;
let closers: (() => unknown)[];

beforeAll(async () => {
  const node = new FakeNode("a").withPoints(3);
  const around = await routed([node]);
  const { log, view, catalog, operations, clock } = around;
  const record = { ...collectionRecord(hidden, ["a"]), sparseFields: [{ name: "sparse" }] };
  await catalog.put(`collections.${hidden}`, JSON.stringify(record));
  const nodes = new NodesView(catalog, clock);
  const settings = new SettingsView(catalog);
  await Promise.all([nodes.start(), settings.start()]);
  router = new Router({
    ...{ cluster: "c", version: "test", nodeId: "r", zone: "", defaultReplicationFactor: 1, logKind: "embedded" },
    ...{ catalog, log, collections: view, operations, nodes, settings, clock, random: systemRandom },
    ...{
      logger: silentLogger,
      slowQueryMs: () => 0,
      findNode: () => node,
      backups: new BackupLocations({}, systemRandom),
    },
  });
  closers = [() => router.close(), () => nodes.close(), () => settings.close(), () => around.close()];
  const watched: [string, object, string[]][] = [
    ["catalog", catalog, ["get", "list", "create", "update", "delete"]],
    ["log", log, ["append", "state", "read", "checksum", "sealedAt"]],
    ["node", node, ["read", "wait", "waitIndexed"]],
  ];
  for (const [title, object, methods] of watched) {
    const own = object as Record<string, (...args: unknown[]) => unknown>;
    for (const method of methods) {
      const before = own[method]?.bind(object) as (...args: unknown[]) => unknown;
      vi.spyOn(own, method).mockImplementation((...args) => {
        steps.push(`${title}.${method}`);
        return before(...args);
      });
    }
  }
});

afterAll(async () => {
  for (const close of closers) await close();
});

/** May do all that is of one collection with "c". */
const rules = [{ verbs: ["read", "write", "create", "alter", "drop", "backup"] as Verb[], collections: ["c"] }];
const caller = new Principal({ kind: "key", id: "k", name: "", roles: [{ name: "r", rules }], collections: ["*"] });

interface Method {
  path: string;
  requestStream: boolean;
  responseStream: boolean;
  requestDeserialize(bytes: Buffer): object;
}

type Handler = (request: object, call: CallContext, gate?: object) => Promise<unknown>;

const services = {
  collections: pb.CollectionsService,
  points: pb.PointsService,
  backups: pb.BackupsService,
  changes: pb.ChangesService,
} as unknown as Record<string, Record<string, Method>>;
/** Calls whose requests have the name deeper within; their cases are below. Streams of requests do for each message what these calls do. */
const deeper = ["updateAliases", "queryGroups", "queryBatch"];
const methods = Object.entries(services).flatMap(([service, own]) =>
  Object.entries(own)
    .filter(([, { path, requestStream }]) => rpcRules[path]?.on === "collection" && !requestStream)
    .filter(([name]) => !deeper.includes(name))
    .map(([name, method]) => ({ service, name, method })),
);

/** How a call ends, and what was done on its account. */
async function outcomeOf(service: string, name: string, request: object): Promise<{ end: unknown; done: string[] }> {
  const { path, responseStream } = services[service]?.[name] as Method;
  const access = caller.accessFor(path, rpcRules[path] as (typeof rpcRules)[string]);
  const call: CallContext = { trace: untraced, signal: new AbortController().signal, access };
  const handler = (router.api as unknown as Record<string, Record<string, Handler>>)[service]?.[name] as Handler;
  steps.length = 0;
  try {
    if (!responseStream) {
      const end = await handler(request, call);
      return { end: end instanceof Encoded ? Buffer.from(end.bytes).toString("latin1") : end, done: [...steps] };
    }
    const stream = {
      call,
      open: () => undefined,
      ended: new Promise(() => undefined),
      onMessage: (tell: (message: object) => void) => tell(request),
    };
    const gate = { run: (_asked: string, _call: object, work: () => Promise<unknown>) => work() };
    return { end: await handler(stream, gate as never), done: [...steps] };
  } catch (error) {
    const { code, message, details, retryAfterMs } = toKithError(error);
    return { end: { code, message, details, retryAfterMs }, done: [...steps] };
  }
}

/** Names stand in field 1 of all requests that are about one collection. */
function naming(method: Method, name: string): object {
  return method.requestDeserialize(Buffer.from(pb.GetCollectionRequest.encode({ name }).finish()));
}

/** Those that a name in field 1 does not say, or where the collection's schema or a second name decides. */
const cases: [service: string, name: string, request: (name: string) => object][] = [
  ["collections", "create", (name) => pb.CreateCollectionRequest.fromPartial({ name, payloadOnly: true })],
  ["collections", "rename", (name) => ({ name, newName: "c" })],
  ["collections", "rename", (name) => ({ name: "c", newName: name })],
  ...(["create", "switch"] as const).map(($case): (typeof cases)[number] => [
    "collections",
    "updateAliases",
    (collection) => ({ actions: [{ action: { $case, value: { alias: "d", collection } } }] }),
  ]),
  ["points", "query", (collection) => pb.QueryRequest.fromPartial({ collection, using: "sparse", exactScores: true })],
  ["points", "query", (collection) => pb.QueryRequest.fromPartial({ collection, using: "sparse", oversampling: 2 })],
  [
    "points",
    "queryBatch",
    (collection) => pb.QueryBatchRequest.fromPartial({ queries: [{ collection }, { collection }] }),
  ],
  ["points", "queryGroups", (collection) => pb.QueryGroupsRequest.fromPartial({ query: { collection }, groupBy: "n" })],
];

test("nothing is asked on account of a collection that the caller may not know of, or that there is not", async () => {
  expect(methods.length).toBeGreaterThan(35);
  const all = [
    ...methods.map(({ service, name, method }) => ({ service, name, of: (each: string) => naming(method, each) })),
    ...cases.map(([service, name, of]) => ({ service, name, of })),
  ];
  for (const { service, name, of } of all) {
    const [first, second] = [await outcomeOf(service, name, of(hidden)), await outcomeOf(service, name, of(absent))];
    const text = (each: object, which: string): string => JSON.stringify(each).replaceAll(which, "NAME");
    expect(text(first, hidden), name).toBe(text(second, absent));
    expect([name, first.done]).toEqual([name, []]);
  }
});

test("what is asked for the caller's own collection is counted", async () => {
  const { done, end } = await outcomeOf("points", "count", pb.CountRequest.fromPartial({ collection: "c" }));
  expect(end).toMatchObject({ count: 3 });
  expect(done).toEqual(["node.read"]);
  const rename = await outcomeOf("collections", "rename", { name: "c", newName: "c" });
  expect(rename.done).toEqual([]);
});
