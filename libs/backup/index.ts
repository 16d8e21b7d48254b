export type {
  BackupCall,
  BackupJob,
  BackupJobKind,
  BackupJobs,
  BackupProgress,
  BackupResult,
  BackupWorker,
  DigestJob,
  FedFiles,
  FedPart,
  FeedPartJob,
  MergeJob,
  MergePlace,
  ShardContentDigest,
  Until,
  WritePartJob,
} from "./jobs.js";
export { chunkBytes, chunkHash, decodeChunk, encodeChunk } from "./chunk-file.js";
export {
  backupKey,
  begunKey,
  chunkKey,
  chunksPrefix,
  newBackupId,
  outcomesKey,
  partialKey,
  partKey,
  pointsKey,
  sharedPrefixesOf,
} from "./layout.js";
export { BackupLocations, type BackupSettings } from "./location.js";
export {
  type BackedCollection,
  type BackupPart,
  type BackupRecord,
  type BegunBackup,
  type CopiedFile,
  encodeJson,
  findJson,
  formatMark,
  type PointsFile,
  sharedFilesOf,
} from "./manifest.js";
export { ContentDigest, forEachPoint, type PointPart } from "./point-digests.js";
export { decodePoints, encodePoints } from "./points-file.js";
export { readBackupJob } from "./read-job.js";
export { BackupRepository, type VerifiedBackup } from "./repository.js";
export { isWhole } from "./store/sealed.js";
export type { FileStore } from "./store/port.js";
