import { KithError, toKithError } from "../base/index.js";
import type { CallContext } from "../call/index.js";
import { type ByteReader, malformed } from "./bytes.js";
import type { ShardId } from "../model/index.js";
import type { RpcServer } from "../rpc/server/index.js";
import type { ReadKind, ShardApi } from "../shard-api/index.js";
import type { LinkCodec } from "./link-codec.js";
import { readCodecs, statusCodec, waitCodec, waitIndexedCodec } from "./codec.js";
import type { ClusterSecret } from "./cluster-secret.js";
import { preface } from "./greeting.js";
import { ServedConnection, type ServedKind } from "./served-connection.js";
import { serverStats } from "./stats.js";

/** What a decoder throws at bytes that are no message of its kind is the sender's fault, whichever library it comes from. */
function readRequest<Request, Answer>(codec: LinkCodec<Request, Answer>, body: ByteReader): Request {
  try {
    return codec.readRequest(body);
  } catch (cause) {
    if (cause instanceof KithError) throw cause;
    throw malformed(toKithError(cause).message);
  }
}

function served<Request, Answer>(
  name: string,
  codec: LinkCodec<Request, Answer>,
  answer: (replica: ShardId, request: Request, call: CallContext) => Promise<Answer>,
): [number, ServedKind] {
  const kind: ServedKind = {
    stats: serverStats(name),
    perform: (replica, body, call) => answer(replica, readRequest(codec, body), call),
    write: (to, value) => codec.writeAnswer(to, value as Answer),
  };
  return [codec.type, kind];
}

function servedRead<K extends ReadKind>(api: ShardApi, kind: K): [number, ServedKind] {
  return served(kind, readCodecs[kind], (replica, request, call) => api.read(kind, replica, request, call));
}

/** What a node answers, by type of frame. */
function servedKinds(api: ShardApi): ReadonlyMap<number, ServedKind> {
  return new Map([
    ...(Object.keys(readCodecs) as ReadKind[]).map((kind) => servedRead(api, kind)),
    served("wait", waitCodec, (replica, { sequence, operationIds }, call) =>
      api.wait(replica, sequence, operationIds, call),
    ),
    served("waitIndexed", waitIndexedCodec, (replica, _request, call) => api.waitIndexed(replica, call)),
    served("status", statusCodec, (replica, minSequence, call) => api.status(replica, minSequence, call)),
  ]);
}

/**
 * Serves the link on the port of `server`, beside gRPC: a router's requests for the replicas of `node`, over long-lived
 * connections, for those who know the cluster's secret where there is one. Before listen().
 */
export function serveLink(server: RpcServer, api: ShardApi, node: string, secret?: ClusterSecret): void {
  const kinds = servedKinds(api);
  server.addProtocol({
    service: "kith.internal.v1.Link",
    preface,
    serve: (socket, port) => new ServedConnection(socket, { kinds, node, secret, port }),
  });
}
