import { DiscardPolicy, RetentionPolicy, type StreamConfig, type StreamInfo, StorageType } from "@nats-io/jetstream";
import { nanos } from "@nats-io/transport-node";
import { crc32c, KithError, toKithError } from "../../base/index.js";
import { apiCode, apiErrorCode, type NatsLink, NatsOutage } from "../../nats/index.js";
import type { Continuation, CreateOptions, LogState } from "../port.js";

/** What a server takes by default, headers included. */
const messageBytesMax = 1024 * 1024;
const duplicateWindowMs = 5 * 60_000;
const incarnationKey = "kith_incarnation";
const continuesKey = "kith_continues";
const repeatsKey = "kith_repeats";

export interface StreamNaming {
  /** Of the stream: KITH_<cluster>_<collection>-<shard>. */
  stream: string;
  /** Of its records: kith.<cluster>.log.<collection>-<shard>. */
  subject: string;
  /** Of its seal. */
  sealSubject: string;
}

export function naming(cluster: string, logKey: string): StreamNaming {
  const subject = `kith.${cluster}.log.${logKey}`;
  return { stream: `KITH_${cluster}_${logKey}`, subject, sealSubject: `${subject}.seal` };
}

/**
 * Nothing is dropped by itself: no limit of age, count or bytes; single records cannot be deleted; purging is allowed,
 * because trimming is purging. `mark`, a random one, tells two streams of the same name apart, beside their creation times; one that repeats
 * another log has that one's identity.
 */
export function streamConfig(
  { stream, subject, sealSubject }: StreamNaming,
  replicas: number,
  mark: string,
  { afterSequence = 0, incarnation }: CreateOptions,
): Partial<StreamConfig> & { name: string } {
  return {
    name: stream,
    subjects: [subject, sealSubject],
    ...(afterSequence > 0 && { first_seq: afterSequence + 1 }),
    retention: RetentionPolicy.Limits,
    storage: StorageType.File,
    discard: DiscardPolicy.New,
    num_replicas: replicas,
    max_msg_size: messageBytesMax,
    duplicate_window: nanos(duplicateWindowMs),
    deny_delete: true,
    deny_purge: false,
    allow_rollup_hdrs: false,
    metadata: { [incarnationKey]: mark, ...(incarnation !== undefined && { [repeatsKey]: incarnation }) },
  };
}

export function toState(info: StreamInfo): LogState {
  const { state } = info;
  return {
    firstSequence: state.messages === 0 ? state.last_seq + 1 : state.first_seq,
    lastSequence: state.last_seq,
    incarnation:
      info.config.metadata?.[repeatsKey] ?? `${info.created}/${info.config.metadata?.[incarnationKey] ?? ""}`,
    sizeBytes: state.bytes,
    ...continuesOf(info.config),
  };
}

function continuesOf({ metadata }: StreamConfig): Pick<LogState, "continues"> {
  const text = metadata?.[continuesKey];
  return text === undefined ? {} : { continues: JSON.parse(text) as Continuation };
}

/** The metadata of a stream that was mended. */
export function continuing(metadata: Record<string, string> | undefined, to: Continuation): Record<string, string> {
  return { ...metadata, [continuesKey]: JSON.stringify(to) };
}

/** CRC-32C of a message's data; undefined where the stream does not hold it. */
export async function checksumOf(link: NatsLink, naming: StreamNaming, seq: number): Promise<number | undefined> {
  const data = await dataOf(link, naming, seq);
  return data && crc32c(data);
}

/** A message's data; undefined where the stream does not hold it. */
export async function dataOf(link: NatsLink, { stream }: StreamNaming, seq: number): Promise<Uint8Array | undefined> {
  try {
    const message = await link.request(() => link.manager.streams.getMessage(stream, { seq }));
    return message === null ? undefined : message.data;
  } catch (error) {
    if (apiErrorCode(error) === apiCode.noMessage) return undefined;
    throw error;
  }
}

const fullCodes: ReadonlySet<number> = new Set([
  apiCode.insufficientResources,
  apiCode.storageExceeded,
  apiCode.memoryExceeded,
]);

/** What a request to JetStream threw, as the port's error. */
export function logError(error: unknown, what: string): KithError {
  if (error instanceof KithError) return error;
  if (error instanceof NatsOutage) {
    if (error.reason === "closed")
      return new KithError("SHUTTING_DOWN", `${what}: the log is closed`, { cause: error });
    return new KithError("LOG_UNAVAILABLE", `${what}: ${error.message}; the log server is away, try again later`, {
      cause: error,
      retryAfterMs: 500,
    });
  }
  const code = apiErrorCode(error);
  if (code === undefined) return toKithError(error);
  const { message } = error as Error;
  const details = { natsErrorCode: code };
  if (fullCodes.has(code) || (code === apiCode.storeFailed && /no space|insufficient/i.test(message))) {
    return new KithError(
      "DISK_FULL",
      `${what}: the storage of the NATS server is full (${message}); nothing was written. Give its disk or its max_file_store more, or lower the ` +
        "settings of the cluster that keep logs (log-retention-ms, log-retention-bytes)",
      { cause: error, details, retryAfterMs: 1_000 },
    );
  }
  if (code === apiCode.accountResourcesExceeded || (code === apiCode.storeFailed && /maximum/i.test(message))) {
    const limit = code === apiCode.storeFailed ? "the stream of the log" : "the JetStream account";
    return new KithError(
      "RESOURCE_EXHAUSTED",
      `${what}: a limit of ${limit} is reached (${message}); nothing was written. Raise it in NATS, or lower the settings of the cluster that ` +
        "keep logs (log-retention-ms, log-retention-bytes)",
      { cause: error, details, retryAfterMs: 1_000 },
    );
  }
  if (code === apiCode.noPeers || code === apiCode.replicasNotSupported) {
    return new KithError(
      "INVALID_CONFIG",
      `${what}: the NATS servers cannot hold so many replicas (${message}); lower the log's replicas or add servers`,
      { cause: error, details },
    );
  }
  return new KithError("INTERNAL", `${what}: ${message}`, { cause: error, details });
}
