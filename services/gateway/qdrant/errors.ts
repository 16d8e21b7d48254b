import { type ErrorCode, errorTable, type KithError } from "../../../libs/base/index.js";
import { messageOf } from "./door-errors.js";
import { InvalidValue, printReply } from "./values.js";

/** Where Qdrant's clients know another status than Kith's table has. */
const statuses: Partial<Record<ErrorCode, number>> = {
  DEADLINE_EXCEEDED: 408,
  FAILED_PRECONDITION: 400,
  CONDITION_FAILED: 400,
  VERSION_MISMATCH: 400,
  // 409 is for collections that exist alone.
  ALREADY_EXISTS: 400,
};

/** The router checks names. */
function isInvalid(error: KithError): boolean {
  return error instanceof InvalidValue || error.code === "INVALID_NAME";
}

/** An error as a body of the REST API: `status.error` is for people, `status.code` and `status.details` are Kith's. */
export function printError(
  error: KithError,
  seconds: number,
): { status: number; headers: Readonly<Record<string, string>>; body: string } {
  const { code, details, retryAfterMs } = error;
  const headers: Record<string, string> = {};
  if (retryAfterMs !== undefined) headers["retry-after"] = String(Math.max(1, Math.ceil(retryAfterMs / 1000)));
  const status = { error: messageOf(error), code, details };
  const body = printReply({ status, result: null, time: seconds });
  return {
    status: isInvalid(error) ? 422 : (statuses[code] ?? errorTable[code].httpStatus),
    headers,
    body,
  };
}
