import { type ErrorCode, isErrorCode, KithError, sleep, systemRuntime } from "../../../libs/base/index.js";
import { isJsonObject, type JsonObject, type JsonValue, parseJson, printJson } from "../../../libs/model/index.js";

/** Calls are made so often where the server does not answer, or says that it has too much to do. */
const attemptsMax = 6;
const firstPauseMs = 250;
const retried = new Set([429, 502, 503, 504]);

const codes: Readonly<Record<number, ErrorCode>> = {
  400: "INVALID_ARGUMENT",
  401: "UNAUTHENTICATED",
  403: "PERMISSION_DENIED",
  404: "NOT_FOUND",
  409: "ALREADY_EXISTS",
  422: "INVALID_ARGUMENT",
  429: "RESOURCE_EXHAUSTED",
  501: "UNIMPLEMENTED",
};

export interface ServerOptions {
  /** http://host:port, and a prefix of paths where there is one. */
  readonly url: string;
  readonly key: string | undefined;
  /** Of one call, in milliseconds. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** A server that speaks Qdrant's REST API: Qdrant, or Kith. Numbers keep all their digits. */
export class QdrantServer {
  readonly url: string;
  readonly #options: ServerOptions;

  constructor(options: ServerOptions) {
    this.#options = options;
    this.url = options.url.replace(/\/+$/, "");
  }

  /** The `result` of a call. SERVER_UNREACHABLE where nothing answers; else the code of Kith, or that next to the status. */
  async call(method: string, path: string, body?: JsonValue): Promise<JsonValue> {
    const { signal } = this.#options;
    for (let attempt = 1, pauseMs = firstPauseMs; ; attempt++, pauseMs *= 2) {
      const answer = await this.#send(method, path, body);
      if (!(answer instanceof KithError)) return answer;
      const status = answer.details["status"];
      const isPassing = answer.code === "SERVER_UNREACHABLE" || retried.has(Number(status));
      if (!isPassing || attempt === attemptsMax) throw answer;
      await sleep(systemRuntime.clock, pauseMs, signal);
    }
  }

  async #send(method: string, path: string, body: JsonValue | undefined): Promise<JsonValue | KithError> {
    const { key, timeoutMs, signal } = this.#options;
    const deadline = AbortSignal.timeout(timeoutMs);
    try {
      const response = await fetch(this.url + path, {
        method,
        headers: {
          ...(body !== undefined && { "content-type": "application/json" }),
          ...(key !== undefined && { "api-key": key }),
        },
        body: body === undefined ? null : printJson(body),
        // The key would go along to wherever the server says.
        redirect: "manual",
        signal: AbortSignal.any([signal, deadline]),
      });
      const elsewhere = response.headers.get("location");
      if (elsewhere !== null && response.status >= 300 && response.status < 400) {
        const message = `${this.url} leads to ${elsewhere.slice(0, 200)}: give that address where it is meant`;
        return new KithError("INVALID_ADDRESS", message, { details: { status: response.status } });
      }
      const text = await response.text();
      return response.ok ? resultOf(text) : this.#failure(method, path, response.status, text);
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      if (cause instanceof KithError) throw cause;
      const why = deadline.aborted ? `no answer within ${timeoutMs} ms` : reasonOf(cause as Error);
      return new KithError("SERVER_UNREACHABLE", `${this.url} does not answer: ${why}`, { cause });
    }
  }

  #failure(method: string, path: string, status: number, text: string): KithError {
    const { message, code } = failureIn(text);
    const own = isErrorCode(code) ? code : (codes[status] ?? "INTERNAL");
    return new KithError(own, `${this.url} refuses ${method} ${path}: ${message || `status ${status}`}`, {
      details: { status },
    });
  }
}

/** What fetch() says is only that it failed. */
function reasonOf({ message, cause }: Error): string {
  return cause instanceof Error ? cause.message : message;
}

function resultOf(text: string): JsonValue {
  const body = parseJson(text);
  const result = isJsonObject(body) ? body["result"] : undefined;
  if (result !== undefined) return result;
  throw new KithError("INVALID_ARGUMENT", "the answer has no result: this is no server of Qdrant's API");
}

/** `status.error` of Qdrant, and Kith's code beside it. */
function failureIn(text: string): { message: string; code: string } {
  try {
    const body = parseJson(text);
    const status = isJsonObject(body) && isJsonObject(body["status"]) ? body["status"] : {};
    const { error, code } = status;
    return { message: typeof error === "string" ? error : "", code: typeof code === "string" ? code : "" };
  } catch {
    // Whatever stands before the server has answered.
    return { message: text.slice(0, 200), code: "" };
  }
}

/** A part of a path. */
export function pathOf(...parts: string[]): string {
  return `/${parts.map(encodeURIComponent).join("/")}`;
}

export function objectIn(value: JsonValue | undefined): JsonObject {
  return isJsonObject(value) ? value : {};
}

export function listIn(value: JsonValue | undefined): JsonValue[] {
  return Array.isArray(value) ? value : [];
}

export function textIn(value: JsonValue | undefined): string {
  return typeof value === "string" ? value : "";
}
