import { JsHeaders, type StoredMsg } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import type { MsgHdrs } from "@nats-io/transport-node";
import { KithError, toKithError } from "../../base/index.js";
import { apiCode, apiErrorCode, checkCluster, type NatsLink, NatsOutage } from "../../nats/index.js";

/** How long the mark of a deleted or expired key stays, so that watchers that were away still see it. */
export const markerTtlMs = 15 * 60_000;

/** Names of the bucket's stream and subjects, as NATS KV lays them out. */
export interface Bucket {
  stream: string;
  /** `$KV.<bucket>.`; the key follows. */
  subjectPrefix: string;
}

export function bucketOf(cluster: string): Bucket & { bucket: string } {
  checkCluster(cluster);
  const bucket = `KITH_${cluster}`;
  return { bucket, stream: `KV_${bucket}`, subjectPrefix: `$KV.${bucket}.` };
}

/**
 * Makes the bucket if it is not there, but where it is to be taken as it is, and refuses one that was made otherwise. Direct reads are off: they may come
 * from a server that lags behind, and a compare-and-set decided on them would fail for no reason.
 */
export async function openBucket(link: NatsLink, cluster: string, replicas: number | "as it is"): Promise<Bucket> {
  const { bucket, stream, subjectPrefix } = bucketOf(cluster);
  try {
    const kvm = new Kvm(link.jetstream);
    const kv = await link.request(() => {
      if (replicas === "as it is") return kvm.open(bucket);
      return kvm.create(bucket, {
        description: `Kith catalog of cluster ${cluster}`,
        history: 1,
        replicas,
        markerTTL: markerTtlMs,
        allow_direct: false,
      });
    });
    const { streamInfo } = await link.request(() => kv.status());
    if (streamInfo.config.max_msgs_per_subject !== 1 || streamInfo.config.allow_msg_ttl !== true) {
      throw new KithError(
        "INVALID_CONFIG",
        `the NATS KV bucket ${bucket} exists, but not with a history of 1 and per-key TTL; choose another cluster name or remove it`,
        { details: { bucket } },
      );
    }
  } catch (error) {
    throw catalogError(error, `opening the NATS KV bucket ${bucket} failed`);
  }
  return { stream, subjectPrefix };
}

/** Whether a message of the bucket says that its key is gone: deleted, purged or expired. */
export function isDeletion(headers: MsgHdrs | undefined): boolean {
  if (headers === undefined) return false;
  const operation = headers.get("KV-Operation");
  return operation === "DEL" || operation === "PURGE" || headers.get("Nats-Marker-Reason") !== "";
}

/** The last message of a key, which may be the mark of its deletion; undefined where there is none. */
export async function lastMessage(link: NatsLink, bucket: Bucket, key: string): Promise<StoredMsg | undefined> {
  try {
    const query = { last_by_subj: bucket.subjectPrefix + key };
    return (await link.manager.streams.getMessage(bucket.stream, query)) ?? undefined;
  } catch (error) {
    if (apiErrorCode(error) === apiCode.noMessage) return undefined;
    throw error;
  }
}

export const rollupHeader = { name: JsHeaders.RollupHdr, value: JsHeaders.RollupValueSubject } as const;

/** What a request to NATS threw, as the port's error. */
export function catalogError(error: unknown, what: string): KithError {
  if (error instanceof KithError) return error;
  if (error instanceof NatsOutage) {
    if (error.reason === "closed") {
      return new KithError("SHUTTING_DOWN", `${what}: the catalog is closed`, { cause: error });
    }
    return new KithError("CATALOG_UNAVAILABLE", `${what}: ${error.message}; the catalog's server is away, try again`, {
      cause: error,
      retryAfterMs: 500,
    });
  }
  const code = apiErrorCode(error);
  if (code === undefined) return toKithError(error);
  const { message } = error as Error;
  const options = { cause: error, details: { natsErrorCode: code } };
  switch (code) {
    case apiCode.streamNotFound:
      return new KithError("CATALOG_UNAVAILABLE", `${what}: the catalog's bucket is gone (${message})`, options);
    case apiCode.insufficientResources:
    case apiCode.storageExceeded:
    case apiCode.memoryExceeded:
      return new KithError("DISK_FULL", `${what}: the server's storage is full (${message})`, options);
    case apiCode.noPeers:
    case apiCode.replicasNotSupported:
      return new KithError("INVALID_CONFIG", `${what}: the servers cannot hold so many replicas (${message})`, options);
    default:
      return new KithError("INTERNAL", `${what}: ${message}`, options);
  }
}
