import { KithError } from "../../libs/base/index.js";
import { Api } from "./api.js";
import type { ServerFlags } from "./options.js";
import { withDescendants } from "./process-stats.js";
import { OwnServer } from "./server.js";

/** The Kith that a benchmark works on. */
export interface Session {
  api: Api;
  target: string;
  /** What the report calls it. */
  description: string;
  own: OwnServer | undefined;
  metricsUrl: string | undefined;
  pids(): number[];
}

const readyTimeoutMs = 10_000;

/** Opens the session, runs the body, and closes everything that it started, also on SIGINT and SIGTERM. */
export async function withSession<T>(
  flags: ServerFlags,
  body: (session: Session) => Promise<T>,
  env: Record<string, string> = {},
): Promise<T> {
  if ((flags.target === undefined) === (flags.self === undefined)) {
    throw new KithError("INVALID_ARGUMENT", "say where Kith is: either --target host:port or --self embedded (or up)");
  }
  const own =
    flags.self === undefined
      ? undefined
      : await OwnServer.start({
          kind: flags.self,
          nodeArgs: flags.nodeArg ?? [],
          // The metrics of several processes would want one port each; a cluster is asked by --metrics.
          metrics: flags.self === "embedded",
          env,
          ...(flags.shards > 0 && { shards: flags.shards }),
          ...(flags.replicas > 0 && { replicas: flags.replicas }),
        });
  const target = own?.target ?? flags.target ?? "";
  const api = new Api(target);
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.once(signal, () => reject(new KithError("CANCELLED", `ended by ${signal}`)));
    }
  });
  try {
    await api.ready(readyTimeoutMs);
    const session: Session = {
      api,
      target,
      description: own === undefined ? `running at ${target}` : `own, ${flags.self}`,
      own,
      metricsUrl: flags.metrics ?? own?.metricsUrl,
      pids: () => own?.pids ?? withDescendants(flags.pid ?? []),
    };
    return await Promise.race([body(session), interrupted]);
  } finally {
    api.close();
    await own?.stop();
  }
}
