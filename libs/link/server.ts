import { KithError } from "../base/index.js";
import type { CallContext } from "../call/index.js";
import { histogramOf, SpanCollector, startSpan, traceFrom } from "../telemetry/index.js";
import type { ipb } from "../wire/index.js";
import { endServerSpan, MethodStats } from "../rpc/common/index.js";
import { toFailure } from "../rpc/common/index.js";
import { type CallOf, linkService, outcomeToWire, readCodecs, spansToWire } from "./codec.js";
import { answerEach, type RequestContext } from "../rpc/server/index.js";
import type { RpcServer } from "../rpc/server/index.js";
import type { ServerStream } from "../rpc/server/index.js";
import type { ShardId } from "../model/index.js";
import type { ReadKind, ShardApi } from "../shard-api/index.js";

/** Requests of one stream that are answered at once; reading stops there. Above what a LinkClient sends. */
const inFlightMax = 8_192;
/** Time for a request that came without a deadline. */
const defaultTimeoutMs = 60_000;

type Call = NonNullable<ipb.LinkRequest["call"]>;
type Outcome = NonNullable<ipb.LinkResponse["outcome"]>;

const duration = histogramOf("rpc.server.call.duration");
const stats = new Map<string, MethodStats>();

function statsOf(call: ipb.LinkRequest["call"]): MethodStats {
  const name = call?.$case ?? "unknown";
  let found = stats.get(name);
  if (found === undefined) {
    found = new MethodStats(`kith.internal.v1.Link/${name}`, duration);
    stats.set(name, found);
  }
  return found;
}

/** Serves the link: a router's requests for the replicas of `node`, over long-lived streams. Before listen(). */
export function serveLink(server: RpcServer, api: ShardApi, node: string): void {
  server.addService(linkService, {
    open: (stream) => {
      // The headers tell the client that this node answers, before the first request does.
      stream.open();
      return answerEach(stream, {
        inFlightMax,
        defaultTimeoutMs,
        idOf: (request) => request.requestId,
        timeoutMsOf: (request) => request.timeoutMs,
        isCancel: (request) => request.call?.$case === "cancel",
        statsOf: (request) => statsOf(request.call),
        answer: (request, call) => answer(stream, api, node, request, call),
        fail: (request, error) => failed(request.requestId, error, undefined),
      });
    },
  });
}

function failed(requestId: number, error: KithError, collector: SpanCollector | undefined): ipb.LinkResponse {
  const trace = collector === undefined ? [] : spansToWire(collector.spans);
  return { requestId, outcome: { $case: "failure", value: toFailure(error) }, trace };
}

type LinkStream = ServerStream<ipb.LinkRequest, ipb.LinkResponse>;

/** Answers one request; failures are answers too, so that a traced request brings its spans home. */
async function answer(
  stream: LinkStream,
  api: ShardApi,
  node: string,
  request: ipb.LinkRequest,
  call: RequestContext,
): Promise<ipb.LinkResponse> {
  const { call: asked, replica, requestId } = request;
  const collector = request.collectTrace ? new SpanCollector(node) : undefined;
  const span = startSpan(
    traceFrom(request.traceparent, collector, request.parentSpanId),
    statsOf(asked).method,
    serverRole,
  );
  call.trace = span.trace;
  try {
    if (asked === undefined || replica === undefined) throw incomplete(requestId);
    const outcome = await perform(api, replica, asked, call);
    endServerSpan(span);
    return { requestId, outcome, trace: collector === undefined ? [] : spansToWire(collector.spans) };
  } catch (thrown) {
    const error = stream.failure(thrown, call.trace);
    endServerSpan(span, error);
    call.failure = error;
    return failed(requestId, error, collector);
  }
}
const serverRole = { role: "server", attributes: { "rpc.system.name": "grpc" } } as const;

function incomplete(requestId: number): KithError {
  return new KithError("INVALID_ARGUMENT", `the link request ${requestId} names no replica or asks for nothing known`);
}

async function perform(api: ShardApi, replica: ShardId, call: Call, context: CallContext): Promise<Outcome> {
  switch (call.$case) {
    case "wait": {
      const outcomes = await api.wait(replica, call.value.sequence, call.value.operationIds, context);
      return { $case: "wait", value: { results: outcomes.map(outcomeToWire) } };
    }
    case "waitIndexed":
      return { $case: "waitIndexed", value: { indexedVectorCount: await api.waitIndexed(replica, context) } };
    case "status":
      return { $case: "status", value: await api.status(replica, call.value.minSequence, context) };
    case "cancel":
      throw new KithError("INVALID_ARGUMENT", "a cancel frame is not answered");
    default:
      return read(api, call.$case, replica, call.value, context);
  }
}

async function read<K extends ReadKind>(
  api: ShardApi,
  kind: K,
  replica: ShardId,
  message: CallOf<K>,
  context: CallContext,
): Promise<Outcome> {
  const codec = readCodecs[kind];
  const answer = await api.read(kind, replica, codec.requestFromWire(message), context);
  return { $case: kind, value: codec.answerToWire(answer) } as Outcome;
}
