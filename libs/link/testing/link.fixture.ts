import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach } from "vitest";
import { KithError, systemRuntime } from "../../base/index.js";
import { eventually } from "../../base/testing.js";
import type { CallContext } from "../../call/index.js";
import type { ShardCount, ShardId } from "../../model/index.js";
import { noTrace } from "../../telemetry/index.js";
import { createRpcServer, type RpcServer } from "../../rpc/server/index.js";
import type { ReadAnswer, ReadKind, ReadRequest, ShardApi } from "../../shard-api/index.js";
import { LinkClient, type LinkClientOptions } from "../client.js";
import { serveLink } from "../server.js";

export const replica = { collectionId: "c1", shard: 3 };
export const call: CallContext = { trace: noTrace };
export const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

export const counted = (count: number): ShardCount => ({ count, sequence: 0 });

const unused = (): never => {
  throw new KithError("UNIMPLEMENTED", "not part of this test");
};
/** The reads and the other calls that a test answers. */
type Answers = { [K in ReadKind]?: (...args: ReadArguments<K>) => Promise<ReadAnswer<K>> } & Partial<ShardApi>;
type ReadArguments<K extends ReadKind> = [ShardId, ReadRequest<K>, CallContext];

function apiOf(answers: Answers): ShardApi {
  const reads: { [K in ReadKind]: (...args: ReadArguments<K>) => Promise<ReadAnswer<K>> } = {
    query: unused,
    get: unused,
    scroll: unused,
    count: unused,
    search: unused,
    order: unused,
    sample: unused,
    facet: unused,
    terms: unused,
    text: unused,
    indices: unused,
    sparse: unused,
    trial: unused,
    changes: unused,
    ...answers,
  };
  return {
    read: (kind, ...args) => reads[kind](...args),
    wait: unused,
    waitIndexed: unused,
    status: unused,
    ...answers,
  };
}

export async function serve(api: Answers, port = 0): Promise<{ server: RpcServer; port: number }> {
  const server = createRpcServer({ ...systemRuntime, node: "shard-1" });
  serveLink(server, apiOf(api), "shard-1");
  const bound = await server.listen("127.0.0.1", port);
  cleanups.push(() => server.drain(0));
  return { server, port: bound };
}

export async function linkTo(port: number, options: Partial<LinkClientOptions> = {}): Promise<LinkClient> {
  const backoff = { initialMs: 5, maxMs: 50 };
  const link = new LinkClient({ ...systemRuntime, address: `127.0.0.1:${port}`, backoff, ...options });
  cleanups.push(() => link.close());
  await eventually(() => link.state === "connected");
  return link;
}

/** A TCP proxy whose connections the test can cut or hold. */
export async function proxyTo(port: number): Promise<{ port: number; sockets: Set<Socket>; cut(): void }> {
  const sockets = new Set<Socket>();
  const proxy: Server = createServer((inner) => {
    const outer = connect(port, "127.0.0.1");
    for (const socket of [inner, outer]) {
      sockets.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => sockets.delete(socket));
    }
    inner.pipe(outer).pipe(inner);
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  const cut = (): void => {
    for (const socket of sockets) socket.destroy();
  };
  cleanups.push(async () => {
    cut();
    await new Promise((resolve) => proxy.close(resolve));
  });
  return { port: (proxy.address() as AddressInfo).port, sockets, cut };
}
