import type { IncomingMessage, ServerResponse } from "node:http";
import { pipeline } from "node:stream";
import { KithError, limits, sleep, toKithError } from "../../../libs/base/index.js";
import { isJsonObject, isWellFormed, type JsonObject, parseJson } from "../../../libs/model/index.js";
import { DeadlineSweep, endServerSpan, FailureLog, MethodStats, shuttingDown } from "../../../libs/rpc/common/index.js";
import { histogramOf, metricsEnabled, startSpan, traceFrom, traceparentOf } from "../../../libs/telemetry/index.js";
import { compressed, readText } from "../rest/body.js";
import { HttpCall } from "../rest/http-call.js";
import { type LargeBody, largeBytes, streamOf } from "../rest/large-body.js";
import { UnsentBytes } from "../rest/unsent.js";
import { deadlineAfter, greetingOf, type Operation, type Self } from "./api.js";
import { printError } from "./errors.js";
import type { QdrantOptions } from "./options.js";
import { Router, type Routed } from "./path-router.js";
import { routes } from "./routes.js";
import { accepted, printReply, type Reply, replyBytes, replyPieces } from "./values.js";

const serverDuration = histogramOf("rpc.server.call.duration");

interface Served {
  readonly name: string;
  readonly operation: Operation;
  readonly stats: MethodStats;
}

/** Answers Qdrant's REST API by calls of the router. */
export class QdrantServer {
  readonly #options: QdrantOptions;
  readonly #failures: FailureLog;
  readonly #sweep: DeadlineSweep<HttpCall>;
  readonly #router = new Router<Served>();
  readonly #self: Self;
  #running = 0;
  readonly #unsent = new UnsentBytes();
  #draining = false;

  constructor(options: QdrantOptions, self: Self) {
    this.#options = options;
    this.#self = self;
    this.#failures = new FailureLog(options.logger, options);
    this.#sweep = new DeadlineSweep(options.clock);
    for (const { verb, path, operation } of routes) {
      const name = `qdrant ${verb} ${path}`;
      this.#router.add(verb, path, { name, operation, stats: new MethodStats(name, serverDuration, "http") });
    }
  }

  /** Bytes of answers that clients have not taken yet. */
  get unsentBytes(): number {
    return this.#unsent.bytes;
  }

  /** New calls get SHUTTING_DOWN, those in flight have `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    const { clock } = this.#options;
    const deadlineMs = clock.monotonicMs() + timeoutMs;
    this.#draining = true;
    while (this.#running > 0 && clock.monotonicMs() < deadlineMs) await sleep(clock, 5);
    for (const call of this.#sweep) call.shutDown();
  }

  handle(request: IncomingMessage, response: ServerResponse): void {
    const url = request.url ?? "/";
    const at = url.indexOf("?");
    const path = at < 0 ? url : url.slice(0, at);
    if (this.#page(request, response, path)) return;
    void this.#answer(request, response, path, at < 0 ? "" : url.slice(at + 1));
  }

  /** What is asked without saying who one is. */
  #page(request: IncomingMessage, response: ServerResponse, path: string): boolean {
    if (request.method !== "GET") return false;
    switch (path) {
      case "/": {
        this.#plain(response, 200, "application/json", JSON.stringify(greetingOf(this.#self)));
        return true;
      }
      case "/healthz":
      case "/livez":
        this.#plain(response, 200, "text/plain", "healthz check passed");
        return true;
      case "/readyz": {
        const isReady = !this.#draining && this.#options.ready();
        this.#plain(response, isReady ? 200 : 503, "text/plain", isReady ? "all shards are ready" : "not ready");
        return true;
      }
      case "/metrics":
        void this.#metrics(request, response);
        return true;
      default:
        return false;
    }
  }

  async #metrics(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { clock, metrics } = this.#options;
    if (metrics === undefined) {
      this.#plain(
        response,
        404,
        "text/plain",
        "metrics are not collected here: OTEL_METRICS_EXPORTER=prometheus turns them on",
      );
      return;
    }
    try {
      const page = await metrics(HttpCall.plain(request, response, clock));
      this.#plain(response, 200, "text/plain; version=0.0.4", page);
    } catch (error) {
      this.#fail(request, response, {}, toKithError(error), 0);
    }
  }

  #plain(response: ServerResponse, status: number, type: string, body: string): void {
    response.writeHead(status, { "content-type": type, ...plainHeaders }).end(body);
  }

  /** Never rejects: what goes wrong becomes an answer. */
  async #answer(request: IncomingMessage, response: ServerResponse, path: string, parameters: string): Promise<void> {
    const { clock } = this.#options;
    const now = clock.monotonicMs();
    const { traceparent } = request.headers;
    const found = this.#find(request.method ?? "", path);
    const name = found instanceof KithError ? "qdrant" : found.value.name;
    const span = startSpan(traceFrom(typeof traceparent === "string" ? traceparent : ""), name, {
      role: "server",
      attributes: { "rpc.system.name": "http", "http.request.method": request.method ?? "" },
    });
    const call = new HttpCall(request, response, { clock, trace: span.trace, deadlineMs: Infinity });
    const headers: Record<string, string> = {};
    const requestId = request.headers["x-request-id"];
    if (typeof requestId === "string") headers["x-request-id"] = requestId;
    const traced = traceparentOf(span.trace);
    if (traced !== "") headers["traceparent"] = traced;
    const startMs = metricsEnabled() ? now : 0;
    const seconds = (): number => Math.round((clock.monotonicMs() - now) * 1000) / 1e6;
    try {
      if (found instanceof KithError) throw found;
      const result = await this.#run(found, call, new URLSearchParams(parameters), now);
      endServerSpan(span);
      found.value.stats.record(startMs, clock);
      if (result === accepted) {
        const body = `{"result":null,"status":"accepted","time":${seconds()}}`;
        await this.#send(request, response, headers, body, 202);
        return;
      }
      const sizeBytes = replyBytes(result);
      if (sizeBytes > largeBytes) {
        const pieces = replyPieces({ result, status: "ok", time: seconds() });
        await this.#stream(request, response, headers, { pieces, sizeBytes });
      } else {
        const body = `{"result":${printReply(result)},"status":"ok","time":${seconds()}}`;
        await this.#send(request, response, headers, body);
      }
    } catch (thrown) {
      const error = this.#failures.report(thrown, name, call.trace);
      endServerSpan(span, error);
      if (!(found instanceof KithError)) found.value.stats.record(startMs, clock, error);
      this.#fail(request, response, headers, error, seconds());
    }
  }

  #find(verb: string, path: string): Routed<Served> | KithError {
    try {
      const found = this.#router.find(verb, path);
      if (found !== undefined) return found;
    } catch (error) {
      if (error instanceof KithError) return error;
      throw error;
    }
    return new KithError("NOT_FOUND", `there is no call ${verb} ${path.slice(0, 128)}`);
  }

  async #run({ value, path }: Routed<Served>, call: HttpCall, query: URLSearchParams, now: number): Promise<Reply> {
    if (this.#draining) throw shuttingDown();
    if (this.#running >= limits.inFlightCalls) throw tooManyCalls();
    const params = new Map(query);
    (call as { deadlineMs: number }).deadlineMs = now + deadlineAfter(params.get("timeout"));
    const { response } = call;
    response.once("close", () => {
      if (!response.writableFinished) call.gone();
    });
    this.#running++;
    this.#sweep.add(call);
    try {
      return await call.race(this.#work(value.operation, call, path, params));
    } finally {
      this.#sweep.delete(call);
      this.#running--;
    }
  }

  async #work(
    operation: Operation,
    call: HttpCall,
    path: Readonly<Record<string, string>>,
    params: ReadonlyMap<string, string>,
  ): Promise<Reply> {
    const { backend, clock } = this.#options;
    const hasBody = call.request.method !== "GET" && call.request.method !== "DELETE";
    const body = hasBody ? bodyOf(await readText(call.request, clock, call.signal)) : {};
    const gathering = backend.gathered.begin();
    try {
      return await operation({ backend, call, path, params, body, gathering, self: this.#self });
    } finally {
      gathering.release();
    }
  }

  async #send(
    request: IncomingMessage,
    response: ServerResponse,
    headers: Readonly<Record<string, string>>,
    body: string,
    status = 200,
  ): Promise<void> {
    const encodings = request.headers["accept-encoding"];
    const count = this.#unsent.count(response, body.length);
    const { bytes, encoding } = await compressed(body, typeof encodings === "string" ? encodings : undefined);
    const length = Buffer.byteLength(bytes);
    count(length);
    response
      .writeHead(status, {
        ...headers,
        ...plainHeaders,
        "content-type": "application/json",
        "content-length": String(length),
        ...(encoding !== "" && { "content-encoding": encoding, vary: "accept-encoding" }),
        ...(this.#draining && request.httpVersionMajor === 1 && { connection: "close" }),
      })
      .end(bytes);
  }

  async #stream(
    request: IncomingMessage,
    response: ServerResponse,
    headers: Readonly<Record<string, string>>,
    body: LargeBody,
  ): Promise<void> {
    this.#unsent.count(response, body.sizeBytes);
    const encodings = request.headers["accept-encoding"];
    const { stream, encoding } = await streamOf(
      body,
      typeof encodings === "string" ? encodings : undefined,
      this.#options.clock,
    );
    response.writeHead(200, {
      ...headers,
      ...plainHeaders,
      "content-type": "application/json",
      ...(encoding !== "" && { "content-encoding": encoding, vary: "accept-encoding" }),
      ...(this.#draining && request.httpVersionMajor === 1 && { connection: "close" }),
    });
    // A client that has gone, or takes nothing, ends both.
    pipeline(stream, response, () => undefined);
  }

  #fail(
    request: IncomingMessage,
    response: ServerResponse,
    headers: Readonly<Record<string, string>>,
    error: KithError,
    seconds: number,
  ): void {
    if (response.headersSent) {
      response.destroy(error);
      return;
    }
    const { status, headers: more, body } = printError(error, seconds);
    // What the client still sends would be read as its next request.
    const isUnread = !request.complete && request.httpVersionMajor === 1;
    response
      .writeHead(status, {
        ...headers,
        ...more,
        ...plainHeaders,
        "content-type": "application/json",
        ...(isUnread && { connection: "close" }),
      })
      .end(body);
  }
}

const plainHeaders = { "x-content-type-options": "nosniff", "cache-control": "no-store" };

function tooManyCalls(): KithError {
  return new KithError(
    "RESOURCE_EXHAUSTED",
    `the server is answering ${limits.inFlightCalls} calls already; try again shortly`,
    { details: { limit: limits.inFlightCalls }, retryAfterMs: 100 },
  );
}

/** The body of a request; nothing is an empty object. */
function bodyOf(text: string): JsonObject {
  if (text.trim() === "") return {};
  const value = parseJson(text);
  if (!isWellFormed(text))
    throw new KithError("INVALID_ARGUMENT", "the body has a lone surrogate, which UTF-8 cannot hold");
  if (isJsonObject(value)) return value;
  throw new KithError("INVALID_ARGUMENT", "the body is no JSON object");
}
