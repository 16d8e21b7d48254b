export { ClusterSecret } from "./cluster-secret.js";
export { LinkClient, type LinkClientOptions, type LinkState } from "./client.js";
export { serveLink } from "./server.js";
export { fetchSnapshot, serveSnapshots, type SnapshotApi } from "./snapshots.js";
export { type BackupWorkApi, runBackupWork, serveBackupWork } from "./backup-work.js";
