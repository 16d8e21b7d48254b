import { KithError } from "../../libs/base/index.js";
import { Api } from "./api.js";
import type { OwnServerKind, ServerFlags } from "./options.js";
import { withDescendants } from "./process-stats.js";
import { OwnServer } from "./server.js";

/** The Kith that a benchmark works on. */
export interface Session {
  api: Api;
  target: string;
  /** What tables call it. */
  name: string;
  description: string;
  /** Shards of collections; 0: the default. */
  shards: number;
  own: OwnServer | undefined;
  metricsUrl: string | undefined;
  pids(): number[];
}

const readyTimeoutMs = 10_000;

/** Opens the session, runs the body, and closes everything that it started, also on SIGINT and SIGTERM. */
export function withSession<T>(
  flags: ServerFlags,
  body: (session: Session) => Promise<T>,
  env: Record<string, string> = {},
): Promise<T> {
  return withSessions(
    flags,
    (sessions) => {
      const [session, ...others] = sessions;
      if (session !== undefined && others.length === 0) return body(session);
      throw new KithError("INVALID_ARGUMENT", "this benchmark works on one server: give --self one kind");
    },
    env,
  );
}

/** As `withSession`, for every server that --self names; they run side by side. */
export async function withSessions<T>(
  flags: ServerFlags,
  body: (sessions: Session[]) => Promise<T>,
  env: Record<string, string> = {},
): Promise<T> {
  if ((flags.target === undefined) === (flags.self === undefined)) {
    throw new KithError("INVALID_ARGUMENT", "say where Kith is: either --target host:port or --self embedded (or up)");
  }
  const interrupted = new Promise<never>((_, reject) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.once(signal, () => reject(new KithError("CANCELLED", `ended by ${signal}`)));
    }
  });
  const sessions: Session[] = [];
  try {
    for (const self of flags.self ?? [undefined]) sessions.push(await openSession(flags, self, env));
    return await Promise.race([body(sessions), interrupted]);
  } finally {
    for (const { api, own } of sessions) {
      api.close();
      await own?.stop();
    }
  }
}

async function openSession(
  flags: ServerFlags,
  self: OwnServerKind | undefined,
  env: Record<string, string>,
): Promise<Session> {
  const shards = self?.shards ?? flags.shards;
  const own =
    self === undefined
      ? undefined
      : await OwnServer.start({
          kind: self.kind,
          nodeArgs: flags.nodeArg ?? [],
          // The metrics of several processes would want one port each; a cluster is asked by --metrics.
          metrics: self.kind === "embedded",
          env,
          ...(shards > 0 && { shards }),
          ...(flags.replicas > 0 && { replicas: flags.replicas }),
        });
  const target = own?.target ?? flags.target ?? "";
  const api = new Api(target);
  try {
    await api.ready(readyTimeoutMs);
  } catch (error) {
    api.close();
    await own?.stop();
    throw error;
  }
  const name = self === undefined ? target : self.shards === undefined ? self.kind : `${self.kind}:${self.shards}`;
  return {
    api,
    target,
    name,
    description: own === undefined ? `running at ${target}` : `own, ${name}`,
    shards,
    own,
    metricsUrl: flags.metrics ?? own?.metricsUrl,
    pids: () => own?.pids ?? withDescendants(flags.pid ?? []),
  };
}
