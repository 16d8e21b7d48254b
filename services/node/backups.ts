import { join } from "node:path";
import {
  type BackupCall,
  type BackupJobKind,
  type BackupJobs,
  type BackupResult,
  type BackupSettings,
  type BackupWorker,
  readBackupJob,
} from "../../libs/backup/index.js";
import { type Clock, KithError } from "../../libs/base/index.js";
import type { NodesView } from "../../libs/cluster/index.js";
import type { NodeConfig } from "../../libs/config/index.js";
import { type BackupWorkApi, runBackupWork } from "../../libs/link/index.js";
import { readSetting } from "./adapters.js";
import type { Trust } from "./trust.js";

/** The worker as others ask for it. */
export function backupWorkOf(worker: BackupWorker): BackupWorkApi {
  return {
    run: async (job, { signal, onProgress }) => {
      const tell = (progress: object): void => onProgress(JSON.stringify(progress));
      return JSON.stringify(await worker.run(readBackupJob(job), { signal, onProgress: tell }));
    },
  };
}

/** Has this node, or another one, work for a backup. */
export function backupRunner(
  own: { id: string; worker: BackupWorker } | undefined,
  nodes: NodesView,
  clock: Clock,
  trust: Trust,
) {
  return async <K extends BackupJobKind>(
    node: string,
    job: BackupJobs[K]["job"] & { kind: K },
    { signal, onProgress }: BackupCall,
  ): Promise<BackupResult<K>> => {
    if (own?.id === node) return own.worker.run<K>(job, { signal, onProgress });
    const address = nodes.get(node)?.linkAddress ?? "";
    if (address === "") throw new KithError("SHARD_UNAVAILABLE", `node ${node} has not told its address`);
    const result = await runBackupWork(JSON.stringify(job), {
      ...{ address, node, clock, signal, ...trust },
      onProgress: (done) => onProgress(JSON.parse(done) as Parameters<typeof onProgress>[0]),
    });
    return JSON.parse(result) as BackupResult<K>;
  };
}

/** Where backups may be; the secret of an object store is read once, at the start. */
export async function backupSettings({ backup, data, log }: NodeConfig): Promise<BackupSettings> {
  const { s3 } = backup;
  const folder = backup.folder ?? (log.kind === "embedded" && data !== undefined ? join(data, "backups") : undefined);
  if (s3 === undefined) return { folder };
  const { secretAccessKeyFile, ...rest } = s3;
  const secret = await readSetting("backup.s3.secretAccessKeyFile", secretAccessKeyFile);
  return { folder, s3: { ...rest, secretAccessKey: secret.toString().trim() } };
}
