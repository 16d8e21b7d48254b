import type { IncomingMessage, ServerResponse } from "node:http";
import { type DescMessage, type DescMethod, ScalarType } from "@bufbuild/protobuf";
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from "fastify";
import { assert, type Clock, KithError, limits, type Runtime, sleep, toKithError } from "../../../libs/base/index.js";
import { DeadlineSweep, endServerSpan, FailureLog, MethodStats, shuttingDown } from "../../../libs/rpc/common/index.js";
import type { ServerTls, UnaryContext } from "../../../libs/rpc/server/index.js";
import {
  histogramOf,
  type Logger,
  metricsEnabled,
  type Span,
  startSpan,
  traceFrom,
  traceparentOf,
} from "../../../libs/telemetry/index.js";
import { Printers } from "../json/answer.js";
import { callName, Descriptors } from "../json/descriptors.js";
import { type Bound, checkText, Readers, tokenBytes } from "../json/request.js";
import type { Backend } from "./backend.js";
import { compressed, readText } from "./body.js";
import { importPoints } from "./bulk.js";
import { type Answer, parametersOf, partOf, type RestContext, tokenOf } from "./context.js";
import { docsPage, docsPolicy } from "./docs-page.js";
import { HttpCall } from "./http-call.js";
import { openApiOf } from "./openapi.js";
import { serveById } from "./point.js";
import { largeBytes, streamOf } from "./large-body.js";
import { problemOf, withStatus } from "./problem.js";
import { composed, type Route, routes } from "./routes.js";
import { exportPoints, watchChanges } from "./streams.js";
import { UnsentBytes } from "./unsent.js";

export interface RestOptions extends Runtime {
  backend: Backend;
  logger: Logger;
  /** Shown in the OpenAPI document. */
  version: string;
  tls?: ServerTls | undefined;
  /** Time for all headers of a request, in milliseconds; for tests. */
  slowHeadersMs?: number | undefined;
  /**
   * Bytes of answers that clients have not taken, beyond which more are refused. Default: none, for a door in the process of a router, whose own
   * budget counts them.
   */
  unsentBytesMax?: number | undefined;
  /** Origins of web pages that may call, as browsers send them; "*" for all. Default: none. */
  corsOrigins?: readonly string[];
  /** Whether calls can be answered: /readyz. */
  ready: () => boolean;
  /**
   * The page of metrics in Prometheus's text format, for callers that may see the cluster's settings: it has names and sizes of collections.
   * Undefined where metrics are not collected. UNAUTHENTICATED, PERMISSION_DENIED.
   */
  metrics?: ((call: UnaryContext) => Promise<string>) | undefined;
}

/** Deadline of a call whose client gives none; and the longest that it may give, in milliseconds. */
const defaultDeadlineMs = 30_000;
const maxDeadlineMs = 3_600_000;

const serverDuration = histogramOf("rpc.server.call.duration");

/** Answers a call; undefined where it has written to the response itself. */
type Work = (call: HttpCall, request: FastifyRequest) => Promise<Answer | undefined>;

interface Served {
  /** "kith.v1.Points/Query" */
  readonly name: string;
  readonly stats: MethodStats;
  /** Without an end: the client decides how long it lasts. */
  readonly isStream: boolean;
  readonly work: Work;
}

/** The public API as JSON over HTTP: translates each request into the call of the same name, and its answer back. */
export class RestServer implements RestContext {
  readonly clock: Clock;
  readonly backend: Backend;
  readonly readers = new Readers();
  readonly printers = new Printers();
  readonly descriptors = new Descriptors();
  readonly #options: RestOptions;
  readonly #failures: FailureLog;
  readonly #sweep: DeadlineSweep<HttpCall>;
  readonly #app: FastifyInstance;
  readonly #cors: ReadonlySet<string>;
  readonly #unsent: UnsentBytes;
  #running = 0;
  #draining = false;
  #openApi: string | undefined;

  private constructor(options: RestOptions) {
    this.#options = options;
    this.clock = options.clock;
    this.backend = options.backend;
    this.#failures = new FailureLog(options.logger, options);
    this.#sweep = new DeadlineSweep(options.clock);
    this.#cors = new Set(options.corsOrigins);
    this.#unsent = new UnsentBytes(options.unsentBytesMax);
    this.#app = fastify({
      logger: false,
      // Each handler takes the query apart by what its call knows.
      routerOptions: { maxParamLength: 4_096, querystringParser: () => ({}) },
      exposeHeadRoutes: false,
      frameworkErrors: (error, _request, reply) => {
        this.#problem(reply, new KithError("INVALID_ARGUMENT", `the request is not valid: ${error.message}`));
      },
    });
    this.#addRoutes();
  }

  /** Bytes of large answers that clients have not taken yet. */
  get unsentBytes(): number {
    return this.#unsent.bytes;
  }

  static async make(options: RestOptions): Promise<RestServer> {
    const server = new RestServer(options);
    await server.#app.ready();
    return server;
  }

  handle(request: IncomingMessage, response: ServerResponse): void {
    this.#app.routing(request, response);
  }

  /** New calls get SHUTTING_DOWN, those in flight have `timeoutMs`. */
  async drain(timeoutMs: number): Promise<void> {
    const deadlineMs = this.clock.monotonicMs() + timeoutMs;
    this.#draining = true;
    for (const call of this.#sweep) if (call.deadlineMs === Infinity) call.shutDown();
    while (this.#running > 0 && this.clock.monotonicMs() < deadlineMs) await sleep(this.clock, 5);
    for (const call of this.#sweep) call.shutDown();
  }

  report(thrown: unknown, call: HttpCall, method: string): KithError {
    return this.#failures.report(thrown, method, call.trace);
  }

  #addRoutes(): void {
    const app = this.#app;
    // Handlers read bodies themselves, as they need them: whole, or as they come.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser("*", (_request, _payload, done) => done(null, undefined));
    app.setNotFoundHandler((request, reply) => this.#notFound(request, reply));
    const methods = new Map(this.descriptors.methods().map((method) => [callName(method), method]));
    for (const route of routes) {
      const method = methods.get(route.call);
      assert(method !== undefined, `${route.call}, of ${route.path}, is no call`);
      const work = this.#unary(route, method);
      this.#serve(
        route.verb,
        route.path,
        route.call,
        route.call === "kith.v1.Points/Scroll" ? this.#orLines(work, method) : work,
      );
    }
    for (const verb of ["GET", "PUT", "DELETE"] as const) {
      const name = { GET: "kith.v1.Points/Get", PUT: "kith.v1.Points/Upsert", DELETE: "kith.v1.Points/Delete" }[verb];
      this.#serve(verb, composed.point, name, (call, request) => serveById(this, call, request, verb));
    }
    this.#serve(
      "POST",
      composed.import,
      "kith.v1.Points/UpsertColumns",
      (call, request) => importPoints(this, call, request),
      true,
    );
    const watch = (call: HttpCall, request: FastifyRequest) => watchChanges(this, call, request);
    this.#serve("POST", composed.watch, "kith.v1.Changes/Watch", watch, true);
    this.#addPages();
  }

  #addPages(): void {
    const app = this.#app;
    const text = (reply: FastifyReply, status: number, body: string): FastifyReply =>
      reply
        .code(status)
        .headers({ "content-type": "text/plain; charset=utf-8", ...plainHeaders })
        .send(body);
    for (const path of ["/healthz", "/livez"]) app.get(path, (_request, reply) => text(reply, 200, "ok\n"));
    app.get("/readyz", (_request, reply) => {
      const isReady = !this.#draining && this.#options.ready();
      return text(reply, isReady ? 200 : 503, isReady ? "ok\n" : "not ready\n");
    });
    app.get("/metrics", async (request, reply) => {
      const { metrics } = this.#options;
      try {
        if (metrics !== undefined)
          return text(reply, 200, await metrics(HttpCall.plain(request.raw, reply.raw, this.clock)));
        throw new KithError(
          "NOT_FOUND",
          "metrics are not collected here: OTEL_METRICS_EXPORTER=prometheus turns them on",
        );
      } catch (error) {
        return this.#problem(reply, toKithError(error));
      }
    });
    app.get("/openapi.json", (request, reply) => {
      this.#allowOrigin(request, reply);
      return reply
        .headers({ "content-type": "application/json; charset=utf-8", ...plainHeaders })
        .send((this.#openApi ??= JSON.stringify(openApiOf(this.descriptors, this.#options.version))));
    });
    app.get("/docs", (_request, reply) =>
      reply
        .headers({ "content-type": "text/html; charset=utf-8", "content-security-policy": docsPolicy, ...plainHeaders })
        .send(docsPage(openApiOf(this.descriptors, this.#options.version))),
    );
  }

  #serve(verb: Route["verb"], url: string, name: string, work: Work, isStream = false): void {
    const served: Served = { name, work, isStream, stats: new MethodStats(name, serverDuration, "http") };
    this.#app.route({ method: verb, url, handler: (request, reply) => this.#answer(served, request, reply) });
    if (this.#cors.size > 0 && !this.#app.hasRoute({ method: "OPTIONS", url })) {
      this.#app.options(url, (request, reply) => this.#preflight(request, reply));
    }
  }

  /** Never rejects: what goes wrong becomes a problem. */
  async #answer(served: Served, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const now = this.clock.monotonicMs();
    const startMs = metricsEnabled() ? now : 0;
    const { traceparent } = request.headers;
    const parent = traceFrom(typeof traceparent === "string" ? traceparent : "");
    const span = startSpan(parent, served.name, {
      role: "server",
      attributes: {
        "rpc.system.name": "http",
        "http.request.method": request.method,
        "http.route": request.routeOptions.url ?? "",
      },
    });
    const options = { clock: this.clock, trace: span.trace, deadlineMs: Infinity };
    const call = new HttpCall(request.raw, reply.raw, options);
    if (this.#cors.size > 0) this.#allowOrigin(request, reply);
    // Without traces of its own the server hands on what it was given.
    const given = typeof traceparent === "string" && traceparentPattern.test(traceparent) ? traceparent : "";
    const traced = traceparentOf(span.trace) || given;
    if (traced !== "") reply.header("traceparent", traced);
    try {
      return await this.#run(served, call, request, reply, span, now, startMs);
    } catch (thrown) {
      const error = this.#failures.report(thrown, served.name, call.trace);
      endServerSpan(span, error);
      served.stats.record(startMs, this.clock, error);
      if (reply.raw.headersSent) {
        // It was being streamed: the client sees that the end is missing.
        reply.hijack();
        reply.raw.destroy(error);
        return reply;
      }
      return this.#problem(reply, error, partOf(error), !request.raw.complete);
    }
  }

  async #run(
    served: Served,
    call: HttpCall,
    request: FastifyRequest,
    reply: FastifyReply,
    span: Span,
    now: number,
    startMs: number,
  ): Promise<FastifyReply> {
    if (this.#draining) throw shuttingDown();
    if (this.#running >= limits.inFlightCalls) throw tooManyCalls();
    this.#unsent.checkRoom(limits.messageBytes);
    const timeoutMs = timeoutOf(request, served.isStream ? Infinity : defaultDeadlineMs);
    (call as { deadlineMs: number }).deadlineMs = now + timeoutMs;
    const onClose = (): void => {
      if (!reply.raw.writableFinished) call.gone();
    };
    reply.raw.once("close", onClose);
    this.#running++;
    this.#sweep.add(call);
    try {
      const answer = await call.race(served.work(call, request));
      endServerSpan(span);
      served.stats.record(startMs, this.clock);
      if (answer === undefined) {
        reply.hijack();
        return reply;
      }
      return await this.#send(request, reply, answer);
    } finally {
      this.#sweep.delete(call);
      this.#running--;
    }
  }

  async #send(request: FastifyRequest, reply: FastifyReply, answer: Answer): Promise<FastifyReply> {
    const { status = 200, headers, body } = answer;
    reply.code(status).headers(plainHeaders);
    if (headers !== undefined) reply.headers(headers);
    if (this.#draining && request.raw.httpVersionMajor === 1) reply.header("connection", "close");
    if (body === "") return reply.send();
    reply.header("content-type", "application/json; charset=utf-8");
    const { "accept-encoding": accepted } = request.headers;
    const encodings = typeof accepted === "string" ? accepted : undefined;
    if (typeof body !== "string") {
      this.#unsent.count(reply.raw, body.sizeBytes);
      const { stream, encoding } = await streamOf(body, encodings, this.clock);
      return encoded(reply, encoding).send(stream);
    }
    const count = this.#unsent.count(reply.raw, body.length);
    const { bytes, encoding } = await compressed(body, encodings);
    count(bytes.length);
    return encoded(reply, encoding).send(bytes);
  }

  #problem(
    reply: FastifyReply,
    error: KithError,
    more: Readonly<Record<string, number | string>> = {},
    isBodyUnread = false,
  ): FastifyReply {
    const { status, headers, body } = problemOf(error, more);
    // What the client still sends would be read as its next request.
    if (isBodyUnread && reply.request.raw.httpVersionMajor === 1) reply.header("connection", "close");
    return reply.code(status).headers(plainHeaders).headers(headers).send(body);
  }

  #notFound(request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const url = request.raw.url?.split("?", 1)[0] ?? "";
    const allowed = verbs.filter(
      (verb) => this.#app.findRoute({ method: verb, url }) !== null || this.#matches(verb, url),
    );
    if (allowed.length > 0) {
      reply.header("allow", allowed.join(", "));
      const message = `${request.method} is not possible here; ${allowed.join(", ")} is`;
      return this.#problem(reply, withStatus(new KithError("UNIMPLEMENTED", message), 405));
    }
    const error = new KithError(
      "NOT_FOUND",
      `there is nothing at ${JSON.stringify(url.slice(0, 128))}; /docs tells what there is`,
    );
    return this.#problem(reply, error);
  }

  #matches(verb: string, url: string): boolean {
    const parts = url.split("/");
    return [...routes, { verb: "POST", path: composed.import }, { verb: "POST", path: composed.watch }].some(
      (route) =>
        route.verb === verb &&
        route.path.split("/").length === parts.length &&
        route.path.split("/").every((part, i) => part.startsWith(":") || part === parts[i]),
    );
  }

  #allowOrigin(request: FastifyRequest, reply: FastifyReply): boolean {
    const { origin } = request.headers;
    reply.header("vary", "origin");
    if (origin === undefined || !(this.#cors.has(origin) || this.#cors.has("*"))) return false;
    reply.headers({
      "access-control-allow-origin": this.#cors.has("*") ? "*" : origin,
      "access-control-expose-headers": "etag, kith-token, retry-after, traceparent",
    });
    return true;
  }

  #preflight(request: FastifyRequest, reply: FastifyReply): FastifyReply {
    if (this.#allowOrigin(request, reply)) {
      reply.headers({
        "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE",
        "access-control-allow-headers":
          "authorization, api-key, content-type, idempotency-key, if-match, if-none-match, kith-token, kith-timeout-ms, traceparent",
        "access-control-max-age": "600",
      });
    }
    return reply.code(204).send();
  }

  /** The work of a route that is one call: its request from the path, the query or the body, and headers. */
  #unary(route: Route, method: DescMethod): Work {
    const { input, output } = method;
    const parts = route.path.split("/").filter((part) => part.startsWith(":"));
    const fields = parts.map((part) => {
      const name = part.slice(1);
      return { name, path: (route.bind?.[name] ?? name).split(".") };
    });
    const hasBody = route.verb !== "GET" && route.verb !== "DELETE";
    const headers = headerFields(input);
    const token = output.fields.find((field) => field.name === "token" && field.message?.typeName === "kith.v1.Token");
    return async (call, request) => {
      const params = request.params as Record<string, string>;
      const bound: Bound[] = fields.map(({ name, path }) => ({
        path,
        value: checkText(params[name] ?? "", "the path"),
        source: "the path",
      }));
      for (const bind of headers) bind(request, bound);
      const text = hasBody ? await readText(request.raw, this.clock, call.signal) : "";
      const json = queryJson(request, input);
      if (json !== "" && text !== "") {
        throw new KithError(
          "INVALID_ARGUMENT",
          "the request has parameters of the query and a body; give all in the body",
        );
      }
      const bytes = this.readers.encode(input, text === "" ? json : text, bound);
      const answer = await this.backend.unary(route.call, bytes, call);
      const sizeBytes = answer.length;
      const isLarge = sizeBytes > largeBytes;
      const body = isLarge
        ? { pieces: this.printers.pieces(output, answer), sizeBytes }
        : this.printers.print(output, answer);
      const tokenText = token === undefined ? undefined : tokenOf(answer, token.number);
      return {
        body,
        ...(route.status !== undefined && { status: route.status }),
        ...(tokenText !== undefined && { headers: { "kith-token": tokenText } }),
      };
    };
  }

  /** A scroll as all pages in JSON lines, where the client asks for that. */
  #orLines(work: Work, method: DescMethod): Work {
    return (call, request) =>
      String(request.headers.accept ?? "").includes("application/x-ndjson")
        ? exportPoints(this, call, request, method)
        : work(call, request);
  }
}

const traceparentPattern = /^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

const verbs = ["GET", "POST", "PUT", "PATCH", "DELETE"] as const;

function encoded(reply: FastifyReply, encoding: string): FastifyReply {
  return encoding === "" ? reply : reply.headers({ "content-encoding": encoding, vary: "accept-encoding" });
}

/** Nothing that is answered is a page of the web, nor worth keeping. */
const plainHeaders = { "x-content-type-options": "nosniff", "cache-control": "no-store" };

function tooManyCalls(): KithError {
  return new KithError(
    "RESOURCE_EXHAUSTED",
    `the server is answering ${limits.inFlightCalls} calls already; try again shortly`,
    { details: { limit: limits.inFlightCalls }, retryAfterMs: 100 },
  );
}

/** What the header Kith-Timeout-Ms, or the parameter timeoutMs, asks for, in milliseconds. */
function timeoutOf(request: FastifyRequest, defaultMs: number): number {
  const header = request.headers["kith-timeout-ms"];
  const text = typeof header === "string" ? header : parametersOf(request).get("timeoutMs");
  if (text === null) return defaultMs;
  if (!/^[1-9]\d{0,8}$/.test(text)) {
    throw new KithError(
      "INVALID_ARGUMENT",
      `the timeout ${JSON.stringify(text.slice(0, 40))} is no number of milliseconds, at least 1`,
    );
  }
  return Math.min(Number(text), maxDeadlineMs);
}

/** The parameters of the query as the JSON of the request: each is a field of one value. */
function queryJson(request: FastifyRequest, input: DescMessage): string {
  const members: string[] = [];
  for (const [name, value] of parametersOf(request)) {
    if (name === "timeoutMs") continue;
    const field = input.fields.find((each) => each.jsonName === name || each.name === name);
    if (field === undefined || (field.fieldKind !== "scalar" && field.fieldKind !== "enum")) {
      throw new KithError("INVALID_ARGUMENT", `the parameter ${JSON.stringify(name.slice(0, 64))} is unknown here`);
    }
    const isLiteral = /^(true|false|-?\d{1,20}(\.\d{1,20})?)$/.test(value);
    const isText =
      field.fieldKind === "enum" || field.scalar === ScalarType.STRING || field.scalar === ScalarType.BYTES;
    members.push(`${JSON.stringify(name)}:${!isText && isLiteral ? value : JSON.stringify(value)}`);
  }
  return members.length === 0 ? "" : `{${members.join(",")}}`;
}

type BindHeader = (request: FastifyRequest, bound: Bound[]) => void;

/** The headers that are fields of a request, where it has these. */
function headerFields(input: DescMessage): BindHeader[] {
  const found: BindHeader[] = [];
  const has = (message: DescMessage, name: string, type: string): boolean =>
    message.fields.some((field) => field.name === name && field.message?.typeName === type);
  if (has(input, "options", "kith.v1.WriteOptions")) {
    found.push((request, bound) => {
      const key = request.headers["idempotency-key"];
      if (typeof key !== "string") return;
      bound.push({ path: ["options", "idempotency_key"], value: key, source: "the header Idempotency-Key" });
    });
  }
  const query = input.fields.find(({ name, message }) => message?.typeName === "kith.v1.QueryRequest" && name !== "");
  const path = has(input, "consistency", "kith.v1.Consistency")
    ? ["consistency"]
    : query !== undefined
      ? [query.name, "consistency"]
      : undefined;
  if (path !== undefined) {
    found.push((request, bound) => {
      const token = request.headers["kith-token"];
      if (typeof token !== "string") return;
      const bytes = tokenBytes(token);
      // Consistency {at_least = 1}
      const value = Buffer.concat([Buffer.from([0x0a]), varint(bytes.length), bytes]);
      bound.push({ path, value, source: "the header Kith-Token", yields: true });
    });
  }
  return found;
}

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 0x80);
  }
}
