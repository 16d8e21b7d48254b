import { KithError, limits } from "../../libs/base/index.js";
import { answerEach, type ServerStream } from "../../libs/rpc/server/index.js";
import { toFailure } from "../../libs/rpc/common/index.js";
import type { CallContext } from "../../libs/call/index.js";
import { traceFrom } from "../../libs/telemetry/index.js";
import type { Encoded, pb } from "../../libs/wire/index.js";
import type { Gate } from "./door.js";
import type { Queries } from "./query/queries.js";
import type { Reads } from "./query/reads.js";
import type { Writes } from "./write/writes.js";

/** Requests of one stream that may be in work at once; more stay in the client, by HTTP/2 flow control. */
const queriesInFlight = 1_024;
const upsertsInFlight = 16;
/** Bytes of answers that one stream may be working on, as far as they are foreseen; further requests wait their turn. */
const streamAnswerBytes = 4 * 1024 * 1024;

export function serveQueries(
  stream: ServerStream<pb.QueryStreamRequest, pb.QueryStreamResponse | Encoded<pb.QueryStreamResponse>>,
  queries: Queries,
  reads: Reads,
  gate: Gate,
): Promise<void> {
  stream.open();
  return answerEach(stream, {
    inFlightMax: queriesInFlight,
    answerBytesMax: streamAnswerBytes,
    expectedBytesOf: ({ query, other }) => {
      const { call } = stream;
      if (query !== undefined) return queries.expectedBytes(query, call);
      if (other?.$case === "groups") return queries.expectedGroupsBytes(other.value, call);
      return other?.$case === "scroll" ? reads.expectedBytes(other.value, call) : 0;
    },
    defaultTimeoutMs: 30_000,
    idOf: (request) => request.requestId,
    timeoutMsOf: (request) => request.timeoutMs,
    isCancel: (request) => request.cancel,
    answer(request, call) {
      call.trace = traceFrom(request.traceparent);
      const { requestId, query, other } = request;
      const { value } = other ?? {};
      const asked = query ?? (value !== undefined && "query" in value ? value.query : (value as Named | undefined));
      return gate.run(asked?.collection ?? "", call, async () => {
        if (query !== undefined && other !== undefined) {
          throw new KithError("INVALID_ARGUMENT", `the request has both a query and another request (${other.$case})`);
        }
        if (query !== undefined) return queries.answerStreamed(requestId, query, call);
        if (other === undefined) throw new KithError("INVALID_ARGUMENT", "the request has no query");
        return queries.writer.streamedOther(requestId, await answerOther(other, queries, reads, call));
      });
    },
    fail: ({ requestId }, error) => ({ requestId, outcome: failed(error) }),
  });
}

/** A request that names its collection. */
interface Named {
  readonly collection: string;
}

/** What a stream carries beside queries. */
async function answerOther(
  other: NonNullable<pb.QueryStreamRequest["other"]>,
  queries: Queries,
  reads: Reads,
  call: CallContext,
): Promise<NonNullable<pb.QueryStreamResponse["outcome"]>> {
  switch (other.$case) {
    case "groups":
      return { $case: "groups", value: await queries.groups(other.value, call) };
    case "matrix":
      return { $case: "matrix", value: await queries.matrix(other.value, call) };
    case "facet":
      return { $case: "facet", value: await reads.facet(other.value, call) };
    case "scroll":
      return { $case: "scroll", value: await reads.scroll(other.value, call) };
    case "count":
      return { $case: "count", value: await reads.count(other.value, call) };
  }
}

export function serveUpserts(
  stream: ServerStream<pb.UpsertStreamRequest, pb.UpsertStreamResponse>,
  writes: Writes,
  gate: Gate,
): Promise<void> {
  stream.open();
  return answerEach(stream, {
    inFlightMax: upsertsInFlight,
    defaultTimeoutMs: 120_000,
    idOf: (request) => request.requestId,
    timeoutMsOf: () => 0,
    isCancel: () => false,
    answer(request, call): Promise<pb.UpsertStreamResponse> {
      call.trace = traceFrom(request.traceparent);
      const { requestId, columns } = request;
      return gate.run(columns?.collection ?? "", call, async () => {
        if (columns === undefined) throw new KithError("INVALID_ARGUMENT", "the request has no columns");
        const value = await writes.upsertColumns(columns, call);
        return { requestId, outcome: { $case: "response", value } };
      });
    },
    fail: ({ requestId }, error) => ({ requestId, outcome: failed(error) }),
  });
}

function failed(error: KithError): { $case: "failure"; value: pb.Failure } {
  return { $case: "failure", value: toFailure(error) };
}

/** The queries of one QueryBatch, each with its own outcome. */
export async function queryBatch(
  request: pb.QueryBatchRequest,
  queries: Queries,
  call: CallContext,
): Promise<Encoded<pb.QueryBatchResponse>> {
  const { length } = request.queries;
  if (length === 0) throw new KithError("INVALID_ARGUMENT", "the batch has no queries; give at least one");
  if (length > limits.queryBatch) {
    throw new KithError(
      "BATCH_TOO_LARGE",
      `the batch has ${length} queries; at most ${limits.queryBatch} are allowed`,
      {
        details: { count: length, limit: limits.queryBatch },
      },
    );
  }
  return queries.batch(request.queries, call);
}
