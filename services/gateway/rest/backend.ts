import type { KithError } from "../../../libs/base/index.js";
import { assert, type Deferred, deferred, toKithError } from "../../../libs/base/index.js";
import { type Channel, openAnswers, unaryCall } from "../../../libs/rpc/client/index.js";
import { MethodStats, type ServerStreamDefinition, type UnaryDefinition } from "../../../libs/rpc/common/index.js";
import type {
  Handlers,
  ServerStream,
  StreamHandler,
  UnaryContext,
  UnaryHandler,
} from "../../../libs/rpc/server/index.js";
import { histogramOf } from "../../../libs/telemetry/index.js";
import { Encoded } from "../../../libs/wire/index.js";
import { decoded } from "./decoded.js";
import { GatheredBytes } from "./gathered.js";
import type { HttpCall } from "./http-call.js";

const serverDuration = histogramOf("rpc.server.call.duration");

/** Where messages of a stream of answers go. `pause` and `resume` hold the sender back. */
export interface AnswerSink {
  onMessage(bytes: Uint8Array): void;
  onEnd(error: KithError | undefined): void;
}

export interface AnswerSource {
  pause(): void;
  resume(): void;
  cancel(): void;
}

/** What answers the calls that come over HTTP; requests and answers are bytes of protobuf. */
export interface Backend {
  /** Of answers that are put together of several of its answers. */
  readonly gathered: GatheredBytes;
  /** "kith.v1.Points/Query" */
  unary(call: string, request: Uint8Array, context: UnaryContext): Promise<Uint8Array>;
  /** The same with messages: of a router in this process, without bytes in between. */
  message<Req extends object, Res extends object>(
    definition: UnaryDefinition<Req, Res>,
    request: Req,
    context: UnaryContext,
  ): Promise<Res>;
  /** The same with the answer as bytes, which the router of this process has already for some calls. */
  encoded<Req extends object, Res extends object>(
    definition: UnaryDefinition<Req, Res>,
    request: Req,
    context: UnaryContext,
  ): Promise<Uint8Array>;
  answers(call: string, request: Uint8Array, context: HttpCall, sink: AnswerSink): AnswerSource;
}

interface AnyDefinition {
  readonly path: string;
  readonly responseStream: boolean;
  readonly requestDeserialize: (bytes: Buffer) => object;
  readonly responseSerialize: (message: object) => Buffer;
}

/** The handlers of the router in this process: the same that gRPC has. */
export class LocalBackend implements Backend {
  readonly gathered = new GatheredBytes();
  readonly #unary = new Map<string, { definition: AnyDefinition; handler: UnaryHandler<object, object> }>();
  readonly #streams = new Map<string, { definition: AnyDefinition; handler: StreamHandler<object, object> }>();

  /** Takes the handlers of a service, as a server of gRPC does. */
  addService<D extends object>(definition: D, handlers: Handlers<D>): void {
    for (const [name, method] of Object.entries(definition) as [string, AnyDefinition][]) {
      const handler = (handlers as Record<string, unknown>)[name];
      const call = method.path.slice(1);
      if (method.responseStream) {
        this.#streams.set(call, { definition: method, handler: handler as StreamHandler<object, object> });
      } else this.#unary.set(call, { definition: method, handler: handler as UnaryHandler<object, object> });
    }
  }

  async encoded<Req extends object, Res extends object>(
    { path, responseSerialize }: UnaryDefinition<Req, Res>,
    request: Req,
    context: UnaryContext,
  ): Promise<Uint8Array> {
    const answer = await this.#handlerOf(path)(request, context);
    return answer instanceof Encoded ? answer.bytes : responseSerialize(answer as Res);
  }

  #handlerOf(path: string): UnaryHandler<object, object> {
    const found = this.#unary.get(path.slice(1));
    assert(found !== undefined, `no handler answers ${path}`);
    return found.handler;
  }

  async message<Req extends object, Res extends object>(
    { path, responseDeserialize }: UnaryDefinition<Req, Res>,
    request: Req,
    context: UnaryContext,
  ): Promise<Res> {
    const answer = await this.#handlerOf(path)(request, context);
    return answer instanceof Encoded ? responseDeserialize(answer.bytes) : (answer as Res);
  }

  async unary(call: string, request: Uint8Array, context: UnaryContext): Promise<Uint8Array> {
    const found = this.#unary.get(call);
    assert(found !== undefined, `no handler answers ${call}`);
    const { definition, handler } = found;
    const answer = await handler(requestOf(definition, request), context);
    return answer instanceof Encoded ? answer.bytes : definition.responseSerialize(answer);
  }

  answers(call: string, request: Uint8Array, context: HttpCall, sink: AnswerSink): AnswerSource {
    const found = this.#streams.get(call);
    assert(found !== undefined, `no handler answers ${call}`);
    const { definition, handler } = found;
    const stream = new LocalStream(definition, requestOf(definition, request), context, sink);
    void handler(stream).then(
      () => sink.onEnd(undefined),
      (thrown: unknown) => sink.onEnd(stream.failed(thrown)),
    );
    return stream;
  }
}

function requestOf({ requestDeserialize }: AnyDefinition, request: Uint8Array): object {
  return decoded({ decode: requestDeserialize }, Buffer.from(request.buffer, request.byteOffset, request.byteLength));
}

/** One request with its answers, for a handler that expects a stream of gRPC. */
class LocalStream implements ServerStream<object, object>, AnswerSource {
  readonly call: HttpCall;
  readonly stats: MethodStats;
  readonly #definition: AnyDefinition;
  readonly #request: object;
  readonly #sink: AnswerSink;
  readonly #ended = deferred<void>();
  #drained: Deferred<void> | undefined;

  constructor(definition: AnyDefinition, request: object, call: HttpCall, sink: AnswerSink) {
    this.call = call;
    this.#definition = definition;
    this.#request = request;
    this.#sink = sink;
    this.stats = new MethodStats(definition.path.slice(1), serverDuration, "http");
  }

  get metadata() {
    return this.call.metadata;
  }
  get peer(): string {
    return this.call.peer;
  }
  get peerCommonName(): string | undefined {
    return this.call.peerCommonName;
  }
  get ended(): Promise<void> {
    return this.#ended.promise;
  }
  get draining(): boolean {
    return this.call.aborted;
  }
  onMessage(listener: (message: object) => void): void {
    listener(this.#request);
  }
  pause(): void {
    this.#drained ??= deferred();
  }
  resume(): void {
    this.#drained?.resolve();
    this.#drained = undefined;
  }
  write(message: object): boolean {
    if (!this.call.aborted) {
      this.#sink.onMessage(message instanceof Encoded ? message.bytes : this.#definition.responseSerialize(message));
    }
    return this.writable;
  }
  get writable(): boolean {
    return this.#drained === undefined;
  }
  drained(): Promise<void> {
    return this.#drained?.promise ?? Promise.resolve();
  }
  failure(thrown: unknown): KithError {
    return toKithError(thrown);
  }
  failed(thrown: unknown): KithError {
    return this.failure(thrown);
  }
  open(): void {
    // The headers leave with the first answer, or at once where the caller wants them to.
  }
  cancel(): void {
    this.#ended.resolve();
    this.resume();
  }
}

const asIs = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

/** A router elsewhere, by gRPC. */
export class RemoteBackend implements Backend {
  readonly gathered = new GatheredBytes();
  readonly #channel: Channel;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  async message<Req extends object, Res extends object>(
    { path, requestSerialize, responseDeserialize }: UnaryDefinition<Req, Res>,
    request: Req,
    context: UnaryContext,
  ): Promise<Res> {
    const bytes = await this.unary(path.slice(1), requestSerialize(request), context);
    return responseDeserialize(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  }

  encoded<Req extends object, Res extends object>(
    { path, requestSerialize }: UnaryDefinition<Req, Res>,
    request: Req,
    context: UnaryContext,
  ): Promise<Uint8Array> {
    return this.unary(path.slice(1), requestSerialize(request), context);
  }

  unary(call: string, request: Uint8Array, context: UnaryContext): Promise<Uint8Array> {
    const method: UnaryDefinition<Uint8Array, Uint8Array> = {
      path: `/${call}`,
      requestStream: false,
      responseStream: false,
      requestSerialize: asIs,
      requestDeserialize: asIs,
      responseSerialize: asIs,
      responseDeserialize: asIs,
    };
    const { signal, deadlineMs, trace } = context;
    return unaryCall(this.#channel, method, request, { signal, deadlineMs, trace, metadata: callerOf(context) });
  }

  answers(call: string, request: Uint8Array, context: HttpCall, sink: AnswerSink): AnswerSource {
    const method: ServerStreamDefinition<Uint8Array, Uint8Array> = {
      path: `/${call}`,
      requestStream: false,
      responseStream: true,
      requestSerialize: asIs,
      requestDeserialize: asIs,
      responseSerialize: asIs,
      responseDeserialize: asIs,
    };
    return openAnswers(this.#channel, method, request, sink, { trace: context.trace, metadata: callerOf(context) });
  }
}

/** The credentials of a caller, who is the router's affair. */
function callerOf(context: UnaryContext): Record<string, string> {
  const caller: Record<string, string> = {};
  for (const [name, value] of Object.entries(context.metadata.getMap())) {
    if (typeof value === "string") caller[name] = value;
  }
  return caller;
}
