import { type KithError, toKithError } from "../base/index.js";
import type { UnaryDefinition } from "../rpc/common/index.js";
import { type SpanCollector, traceparentOf } from "../telemetry/index.js";
import { pb } from "../wire/index.js";
import { onlyKeys } from "./only-keys.js";
import { type CollectionCall, optionKeys } from "./option-keys.js";
import {
  type QueryStream,
  type StreamedKind,
  type StreamedKinds,
  type StreamedRequest,
  streamedFrame,
  streamedResponse,
} from "./request-stream.js";
import type { Session } from "./token.js";
import type { Call, Transport } from "./transport.js";
import type { CallOptions, ReadConsistency } from "./types/calls.js";
import { unknownOutcome } from "./write.js";

const { PointsService: points } = pb;

/** What goes on the stream, as unary calls. */
const unaryOf: {
  readonly [K in StreamedKind]: UnaryDefinition<StreamedKinds[K]["request"], StreamedKinds[K]["response"]>;
} = {
  query: points.query,
  groups: points.queryGroups,
  matrix: points.searchMatrix,
  facet: points.facet,
  scroll: points.scroll,
  count: points.count,
};

/** A call's options, of a read with its consistency. */
export interface ConsistentCallOptions extends CallOptions {
  consistency?: ReadConsistency;
}

/** How the calls of one collection go out: options checked, spans, retries, the session's tokens, the stream where the server has one. */
export class CollectionCalls {
  readonly transport: Transport;
  readonly session: Session;
  readonly #queries: QueryStream;

  constructor(transport: Transport, queries: QueryStream, session: Session) {
    this.transport = transport;
    this.session = session;
    this.#queries = queries;
  }

  /** Asks once more where the name is an alias that means another collection by now than the one that the session's token is of. */
  async afresh<T>(ask: () => Promise<T>): Promise<T> {
    try {
      return await ask();
    } catch (error) {
      const { code, details } = toKithError(error);
      if (code !== "INVALID_TOKEN" || details["alias"] === undefined) throw error;
      return ask();
    }
  }

  streamed<K extends StreamedKind>(
    name: CollectionCall,
    kind: K,
    request: StreamedKinds[K]["request"],
    options: ConsistentCallOptions | undefined,
  ): Promise<StreamedKinds[K]["response"]> {
    return this.call(name, options, (call) => this.sendStreamed(kind, request, call));
  }

  /** A request on the stream, or as a unary call where the server has no stream. */
  async sendStreamed<K extends StreamedKind>(
    kind: K,
    request: StreamedKinds[K]["request"],
    call: Call,
    traceparent = traceparentOf(call.span.trace),
  ): Promise<StreamedKinds[K]["response"]> {
    const frame = streamedFrame({ kind, request } as StreamedRequest, traceparent);
    return this.transport.retrier.run(call, async () => {
      if (!this.#queries.refused) {
        try {
          return streamedResponse(kind, await this.#queries.send(frame, call));
        } catch (error) {
          if (!this.#queries.refused || toKithError(error).code !== "UNIMPLEMENTED") throw error;
        }
      }
      return this.transport.unary(unaryOf[kind], request, call);
    });
  }

  read<Req, Res>(
    name: CollectionCall,
    method: UnaryDefinition<Req, Res>,
    request: Req,
    options: ConsistentCallOptions | undefined,
  ): Promise<Res> {
    return this.call(name, options, (call) => this.transport.retried(method, request, call));
  }

  async write<Req, Res extends { token: pb.Token | undefined }>(
    name: CollectionCall,
    method: UnaryDefinition<Req, Res>,
    request: Req,
    write: pb.WriteOptions,
    options: CallOptions | undefined,
  ): Promise<Res> {
    const { epoch } = this.session;
    try {
      const response = await this.read(name, method, request, options);
      this.session.wrote(response.token, epoch);
      return response;
    } catch (error) {
      throw unknownOutcome(toKithError(error), write.idempotencyKey);
    }
  }

  async call<T>(
    name: CollectionCall,
    options: ConsistentCallOptions | undefined,
    body: (call: Call) => Promise<T>,
    collector?: SpanCollector,
  ): Promise<T> {
    const { epoch } = this.session;
    const known = Object.hasOwn(optionKeys, name) ? optionKeys[name as keyof typeof optionKeys] : undefined;
    if (options !== undefined && known !== undefined) onlyKeys(options, known, "options");
    try {
      return await this.transport.call(`kith.client.${name}`, options, body, collector);
    } catch (thrown) {
      const error = toKithError(thrown);
      this.forgetRefused(error, options?.consistency, epoch);
      throw error;
    }
  }

  /**
   * Where the session's own token was refused, the next read starts afresh with whatever has the name. COLLECTION_NOT_FOUND
   * proves nothing: a router may not know yet of a collection that was just made.
   */
  forgetRefused({ code }: KithError, consistency: ReadConsistency = "session", epoch: number): void {
    if (code === "INVALID_TOKEN" && consistency === "session") this.session.clear(epoch);
  }
}
