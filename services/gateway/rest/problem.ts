import { errorTable, type KithError } from "../../../libs/base/index.js";
import { printJson } from "../../../libs/model/index.js";

/** Statuses of HTTP that the table of codes does not tell, because they are of HTTP alone. */
const special = new WeakMap<KithError, number>();

/** The same error, answered with this status of HTTP. */
export function withStatus(error: KithError, status: number): KithError {
  special.set(error, status);
  return error;
}

const titles: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  406: "Not Acceptable",
  408: "Request Timeout",
  409: "Conflict",
  412: "Precondition Failed",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  429: "Too Many Requests",
  499: "Client Closed Request",
  500: "Internal Server Error",
  501: "Not Implemented",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

export interface Problem {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Longest text of a message in an answer, in characters. */
const detailLengthMax = 2_048;

/** An error as problem details (RFC 9457): `code` is the same as over gRPC, and what to switch on. */
export function problemOf(error: KithError, more: Readonly<Record<string, number | string>> = {}): Problem {
  const status = special.get(error) ?? errorTable[error.code].httpStatus;
  const { retryAfterMs } = error;
  const body = printJson({
    type: `urn:kith:error:${error.code}`,
    title: titles[status] ?? error.code,
    status,
    detail: error.message.slice(0, detailLengthMax),
    code: error.code,
    retryable: error.retryable,
    ...(retryAfterMs !== undefined && { retryAfterMs: Math.ceil(retryAfterMs) }),
    details: { ...error.details },
    ...more,
  });
  const headers: Record<string, string> = { "content-type": "application/problem+json; charset=utf-8" };
  if (retryAfterMs !== undefined) headers["retry-after"] = String(Math.max(1, Math.ceil(retryAfterMs / 1000)));
  if (status === 401) headers["www-authenticate"] = "Bearer";
  return { status, headers, body };
}
