import { abortReason, deferred, KithError, withAbort } from "../base/index.js";
import { ipb } from "../wire/index.js";
import { createChannel, openStream, type StreamListener } from "../rpc/client/index.js";
import type { RpcServer, ServerStream } from "../rpc/server/index.js";
import { type ClusterSecret, proofHeader } from "./cluster-secret.js";
import { callPurpose, type FetchOptions, proofOf } from "./snapshots.js";

/** What is asked of a node for a backup, and what it answers: both JSON (libs/backup/jobs.ts). */
export interface BackupWorkApi {
  run(job: string, call: { signal: AbortSignal; onProgress: (done: string) => void }): Promise<string>;
}

/** A node that works says so this often, whether or not there is progress. */
const tellEveryMs = 5_000;
/** A node that says nothing for so long is given up. */
const silenceMaxMs = 30_000;

/** Serves the work of a node for backups, to those who know the cluster's secret where there is one. Before listen(). */
export function serveBackupWork(server: RpcServer, api: BackupWorkApi, secret?: ClusterSecret): void {
  const { path } = ipb.BackupWorkService.run;
  server.addService(ipb.BackupWorkService, {
    run: async (stream) => {
      secret?.check(String(stream.metadata.get(proofHeader)[0] ?? ""), callPurpose(path, server.node));
      await work(stream, api);
    },
  });
}

async function work(stream: ServerStream<ipb.BackupJob, ipb.BackupReport>, api: BackupWorkApi): Promise<void> {
  const { call } = stream;
  const job = deferred<string>();
  stream.onMessage((message) => job.resolve(message.job));
  const ending = new AbortController();
  // A sender that closes its side wants no result any more, and a server that drains ends its work: it is resumed elsewhere.
  void stream.ended.then(() => {
    job.reject(new KithError("CANCELLED", "the stream ended before it asked for work"));
    ending.abort(new KithError("SHUTTING_DOWN", "the work for a backup was ended"));
  });
  const asked = await job.promise;
  let done = "";
  const tell = (): void => {
    if (stream.writable) stream.write({ report: { $case: "progress", value: { done } } });
  };
  const timer = call.clock.every(tell, tellEveryMs);
  try {
    const result = await api.run(asked, {
      signal: AbortSignal.any([ending.signal, call.signal]),
      onProgress: (each) => {
        done = each;
        tell();
      },
    });
    stream.write({ report: { $case: "result", value: result } });
  } finally {
    timer.close();
  }
}

/** Has a node work for a backup, over a connection of its own. Rejects with what the node answers. */
export async function runBackupWork(
  job: string,
  options: FetchOptions & { onProgress: (done: string) => void },
): Promise<string> {
  const { address, clock, tls, signal } = options;
  if (signal.aborted) throw abortReason(signal);
  const channel = createChannel(address, { clock, ...(tls && { tls }) });
  const result = deferred<string>();
  let heardMs = clock.monotonicMs();
  const listener: StreamListener<ipb.BackupReport> = {
    onMessage: ({ report }) => {
      heardMs = clock.monotonicMs();
      if (report?.$case === "result") result.resolve(report.value);
      else if (report?.$case === "progress" && report.value.done !== "") options.onProgress(report.value.done);
    },
    onEnd: (error) =>
      result.reject(error ?? new KithError("SHARD_UNAVAILABLE", "the node ended its work without a result")),
  };
  const { run } = ipb.BackupWorkService;
  const stream = openStream(channel, run, listener, proofOf(options, run.path));
  const timer = clock.every(() => {
    if (clock.monotonicMs() - heardMs < silenceMaxMs) return;
    result.reject(new KithError("SHARD_UNAVAILABLE", `the node has said nothing for ${silenceMaxMs / 1000} s`));
  }, tellEveryMs);
  try {
    stream.write({ job });
    return await withAbort(result.promise, signal);
  } finally {
    timer.close();
    stream.cancel();
    channel.close();
  }
}
