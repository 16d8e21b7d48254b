import { CommanderError } from "commander";
import { type ErrorCode, errorTable, KithError, toKithError } from "../../libs/base/index.js";

/** Exit codes; part of the contract with scripts (docs/cli.md). */
export const exitCode = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  unavailable: 4,
  interrupted: 130,
} as const;

/** The command line itself is wrong: shown with a hint to --help, exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** What was to be said is said already; only the exit code is left. */
export class ExitError extends Error {
  override readonly name = "ExitError";
  constructor(readonly exitCode: number) {
    super(`exit ${exitCode}`);
  }
}

/** No connection to begin with: the target is wrong, or nothing is there. A server that goes away later is unavailable. */
export class ConnectError extends KithError {
  constructor({ code, message, details, cause }: KithError) {
    super(code, message, { details, cause });
  }
}

/** Codes of a target at which no Kith server can be reached as asked. */
const wrongTarget = new Set<ErrorCode>(["SERVER_UNREACHABLE", "TLS_MISMATCH", "CERTIFICATE_UNTRUSTED"]);

const grpcNotFound = 5;
const grpcDeadlineExceeded = 4;
const grpcUnavailable = 14;

export function exitCodeOf(error: KithError): number {
  if (error.code === "INVALID_CONFIG" || error.code === "INVALID_ADDRESS") return exitCode.usage;
  if (error instanceof ConnectError && wrongTarget.has(error.code)) return exitCode.usage;
  const status: number = errorTable[error.code].grpcStatus;
  if (status === grpcNotFound) return exitCode.notFound;
  if (status === grpcUnavailable || status === grpcDeadlineExceeded) return exitCode.unavailable;
  return exitCode.failure;
}

export interface Report {
  exitCode: number;
  /** For stderr; empty where everything is said. */
  text: string;
}

/** What a thrown error says to the user: one line with the code and the remedy; with `verbose` the details and causes too. */
export function reportOf(
  thrown: unknown,
  context: { verbose: boolean; interrupted: boolean; target?: string },
): Report {
  if (thrown instanceof ExitError) return { exitCode: thrown.exitCode, text: "" };
  if (thrown instanceof CommanderError) {
    // Commander has printed its own message; help and version end with 0.
    return { exitCode: thrown.exitCode === 0 ? exitCode.ok : exitCode.usage, text: "" };
  }
  if (thrown instanceof UsageError) {
    return { exitCode: exitCode.usage, text: `error: ${thrown.message}\n(add --help for the options and examples)\n` };
  }
  const error = toKithError(thrown);
  if (error.code === "CANCELLED" && context.interrupted)
    return { exitCode: exitCode.interrupted, text: "interrupted\n" };
  const lines = [`error: ${oneLine(error.message)} [${error.code}]`];
  const remedy = remedyOf(error, context.target);
  if (remedy !== undefined) lines.push(remedy);
  if (context.verbose) lines.push(...detailsOf(error));
  return { exitCode: exitCodeOf(error), text: `${lines.join("\n")}\n` };
}

/** Most messages say what to do; these come from below, where nobody knows of the command line. */
function remedyOf(error: KithError, target: string | undefined): string | undefined {
  if (error.code === "LOG_UNAVAILABLE") {
    return "Writes need the log: look after NATS. Reads that know of every write do too; those with --consistency none go on.";
  }
  const status: number = errorTable[error.code].grpcStatus;
  // Its own message says where, why, and what to do.
  if (error.code === "SERVER_UNREACHABLE") return undefined;
  if (status === grpcUnavailable && target !== undefined) {
    return `Is Kith running at ${target}? Start one with "kith dev", or name another with --target or KITH_TARGET.`;
  }
  if (error.code === "UNAUTHENTICATED") return "Give a key with KITH_API_KEY or --api-key.";
  if (error.code === "DEADLINE_EXCEEDED") return "Allow more time with --timeout.";
  if (error.code === "COLLECTION_NOT_FOUND") return 'See what there is with "kith collection list".';
  if (error.code === "INTERNAL") return "Run it again with --verbose for the details, and please report it.";
  return undefined;
}

function oneLine(text: string): string {
  return text.replaceAll(/\s*\n\s*/g, " | ");
}

function detailsOf(error: KithError): string[] {
  const lines = Object.entries(error.details).map(([key, value]) => `  ${key}: ${String(value)}`);
  if (error.retryAfterMs !== undefined) lines.push(`  retry after: ${error.retryAfterMs} ms`);
  for (let cause = error.cause, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth++) {
    lines.push(`  caused by: ${oneLine(cause.message)}`);
  }
  // The stack helps only where the fault is ours.
  if (error.code === "INTERNAL") {
    const origin = error.cause instanceof Error ? error.cause : error;
    lines.push(...(origin.stack?.split("\n").slice(1, 8) ?? []));
  }
  return lines;
}
