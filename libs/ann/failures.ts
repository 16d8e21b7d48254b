import { KithError } from "../base/index.js";
import type { Layout } from "./layout.js";

/** errno numbers that Linux and macOS share. */
const errno = { noMemory: 12, tooManyOpen: 23, tooManyOpenHere: 24, noSpace: 28 } as const;

/**
 * What a native failure becomes for the caller. `at` is the errno where a file could not be used.
 */
export function toKithFailure(names: Layout["failure"], code: number, text: string, at = 0): KithError {
  switch (code) {
    case names.notFinite:
      return new KithError(
        "VECTOR_NOT_FINITE",
        "the query has a component that is NaN or infinite; send finite numbers",
      );
    case names.zeroVector:
      return new KithError(
        "ZERO_VECTOR",
        "the query is the zero vector, which has no direction; cosine cannot compare it",
      );
    case names.outOfRange:
      return new KithError("VECTOR_OUT_OF_RANGE", text);
    case names.resources:
      return new KithError("RESOURCE_EXHAUSTED", text === "" ? "the process has no memory left; free some" : text);
    case names.corrupt:
      return new KithError("CORRUPT_DATA", `${text}; delete the index folder and rebuild it`);
    case names.io:
      return ioError(text, at);
    case names.cancelled:
      return new KithError("CANCELLED", text === "" ? "the call was cancelled" : text);
    case names.closed:
      return new KithError("SHUTTING_DOWN", text);
    case names.invalid:
      return new KithError("INVALID_ARGUMENT", text);
    default:
      return new KithError("INTERNAL", `the native index failed with code ${code}: ${text}`);
  }
}

/** What goes wrong with files and may go right later is told apart from the rest. */
function ioError(text: string, at: number): KithError {
  const details = { errno: at };
  if (at === errno.noSpace) return new KithError("DISK_FULL", `${text}; free space and try again`, { details });
  if (at === errno.tooManyOpen || at === errno.tooManyOpenHere) {
    return new KithError("RESOURCE_EXHAUSTED", `${text}; raise the limit on open files (ulimit -n)`, { details });
  }
  if (at === errno.noMemory) return new KithError("RESOURCE_EXHAUSTED", `${text}; free memory`, { details });
  return new KithError("INTERNAL", text, { details });
}
