import { KithError, toKithError } from "../../../libs/base/index.js";
import type { NodeConfig } from "../../../libs/config/index.js";
import type { createLogger } from "../../../libs/telemetry/index.js";
import type { NodeOptions, RunningNode } from "../../node/index.js";
import type { CommandContext } from "../context.js";
import { OutputClosed } from "../io.js";
import { programVersion } from "../version.js";

/** What to do when the work that comes with a running server is done: keep it running until Ctrl-C, or end it. */
export type Next = "stay" | "leave";

/**
 * Runs a node in this process until the process is told to end (SIGINT, SIGTERM, or the parent is gone), then closes it in
 * good order. A node that stops by itself is an error.
 *
 * @param readConfig reads the settings once more: they are taken on SIGHUP, and when their files have changed
 */
export async function serve(
  context: CommandContext,
  config: NodeConfig,
  onReady: (node: RunningNode) => Promise<Next>,
  readConfig?: () => NodeConfig,
): Promise<void> {
  const { io } = context;
  // With the server itself, which commands that only share this file with it need not load.
  const { createLogger } = await import("../../../libs/telemetry/index.js");
  const { startNode } = await import("../../node/index.js");
  const logger = loggerOf(context, config, createLogger);
  const ending = new AbortController();
  const { signal } = ending;
  const told = new Promise<"told">((resolve) => {
    const tell = (): void => {
      ending.abort(new KithError("SHUTTING_DOWN", `the node ${config.nodeId} was told to end`));
      resolve("told");
    };
    const onSignal = (): void => {
      const isAsked = io.parent === undefined && !context.out.json && !(io.signal.reason instanceof OutputClosed);
      if (isAsked) void context.out.note("stopping: calls in flight end first; Ctrl-C again ends it at once");
      tell();
    };
    if (io.signal.aborted) tell();
    io.signal.addEventListener("abort", onSignal, { once: true });
    io.parent?.onGone(tell);
  });
  let node: RunningNode;
  try {
    node = await startNode(config, {
      version: programVersion,
      env: io.env,
      signal,
      ...(logger && { logger }),
      ...(readConfig && { readConfig }),
    });
  } catch (error) {
    if (error === signal.reason) return;
    throw error;
  }
  io.onStarted();
  const stopHearing = io.onHangUp?.(() => void node.reload());
  const closed = node.closed.then(
    () => new KithError("INTERNAL", `the node ${config.nodeId} stopped by itself; see its log`),
    (error: unknown) => toKithError(error),
  );
  type Ended = "told" | "leave" | KithError;
  let ended: Ended;
  try {
    const work = onReady(node).then((next): Ended | Promise<Ended> =>
      next === "leave" ? next : Promise.race([told, closed]),
    );
    // Work that is left behind at Ctrl-C fails when the node closes.
    work.catch(() => undefined);
    ended = await Promise.race<Ended>([told, closed, work]);
  } finally {
    stopHearing?.();
    await node.close();
  }
  if (ended instanceof KithError) throw ended;
}

/**
 * People at a terminal get readable lines. A child writes through the stream that survives the end of its parent: a
 * write to the closed pipe must not disturb its shutdown. Everyone else gets the node's own JSON lines.
 */
function loggerOf(
  { io, globals }: CommandContext,
  config: NodeConfig,
  create: typeof createLogger,
): NodeOptions["logger"] {
  if (io.parent === undefined && !io.stderrIsTerminal) return undefined;
  return (onRecord, level) =>
    create({
      level,
      nodeId: config.nodeId,
      pretty: io.parent === undefined,
      color: io.stderrIsTerminal && globals.color && !io.env["NO_COLOR"],
      write: (line) => void io.stderr.write(line),
      onRecord,
    });
}
