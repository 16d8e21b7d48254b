import { KithError } from "../../../libs/base/index.js";

/** What a request's bytes say. INVALID_ARGUMENT where they say what no request may, such as a version beyond 2^53. */
export function decoded<T>(message: { decode(bytes: Uint8Array): T }, bytes: Uint8Array): T {
  try {
    return message.decode(bytes);
  } catch (cause) {
    if (cause instanceof KithError) throw cause;
    throw new KithError("INVALID_ARGUMENT", `the request is not valid: ${(cause as Error).message}`, { cause });
  }
}
