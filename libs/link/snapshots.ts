import { abortReason, type Clock, deferred, type Deferred, KithError, type Timer, withAbort } from "../base/index.js";
import type {
  ShardId,
  Snapshot,
  SnapshotBlock,
  SnapshotChunk,
  SnapshotManifest,
  SnapshotWanted,
} from "../model/index.js";
import { ipb } from "../wire/index.js";
import {
  type Channel,
  type ChannelTls,
  type ClientStream,
  createChannel,
  openStream,
  type StreamListener,
} from "../rpc/client/index.js";
import { type ClusterSecret, proofHeader } from "./cluster-secret.js";
import type { BidiDefinition } from "../rpc/common/index.js";
import { shuttingDown } from "../rpc/common/index.js";
import type { RpcServer } from "../rpc/server/index.js";
import type { ServerStream } from "../rpc/server/index.js";

/** View of encoded bytes as the Buffer that grpc-js wants; Buffer.from() would copy them once more. */
function viewOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
/** A plain view, so that the fields of bytes within are plain Uint8Arrays and no Buffers. */
function plain(bytes: Buffer): Uint8Array {
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Snapshots.Fetch with codecs that do not copy. */
export const snapshotService = {
  fetch: {
    path: ipb.SnapshotsService.fetch.path,
    requestStream: true,
    responseStream: true,
    requestSerialize: (value) => viewOf(ipb.SnapshotRequest.encode(value).finish()),
    requestDeserialize: (value) => ipb.SnapshotRequest.decode(plain(value)),
    responseSerialize: (value) => viewOf(ipb.SnapshotPart.encode(value).finish()),
    responseDeserialize: (value) => ipb.SnapshotPart.decode(plain(value)),
  } satisfies BidiDefinition<ipb.SnapshotRequest, ipb.SnapshotPart>,
};

/** A peer that neither sends nor takes anything for so long is given up: a snapshot holds disk space where it is taken. */
const idleMaxMs = 30_000;
/** Parts that wait for their reader before the sender is held. */
const waitingPartsMax = 4;

/** A node whose replicas may be copied. */
export interface SnapshotApi {
  snapshot(replica: ShardId, wanted: SnapshotWanted): Promise<Snapshot>;
}

type PartStream = ServerStream<ipb.SnapshotRequest, ipb.SnapshotPart>;

/** Serves copies of a node's replicas, to those who know the cluster's secret where there is one. Before listen(). */
export function serveSnapshots(server: RpcServer, api: SnapshotApi, secret?: ClusterSecret): void {
  const { path } = snapshotService.fetch;
  server.addService(snapshotService, {
    fetch: async (stream) => {
      secret?.check(String(stream.metadata.get(proofHeader)[0] ?? ""), callPurpose(path, server.node));
      await send(stream, api);
    },
  });
}

/** What the proof of a call between nodes is for. */
export function callPurpose(path: string, node: string): string {
  return `${path} of ${node}`;
}

/** The headers by which a call says that a node of the cluster makes it. */
export function proofOf({ secret, node }: FetchOptions, path: string): { metadata?: Record<string, string> } {
  return secret === undefined ? {} : { metadata: { [proofHeader]: secret.prove(callPurpose(path, node)) } };
}

async function send(stream: PartStream, api: SnapshotApi): Promise<void> {
  const request = await requestOf(stream);
  const { replica, incarnation, minSequence, resumeId, afterKey, withChanges, takesFiles, resumeFile } = request;
  if (replica === undefined) throw new KithError("INVALID_ARGUMENT", "the request for a snapshot names no replica");
  const snapshot = await api.snapshot(replica, {
    incarnation,
    minSequence,
    ...(withChanges && { withChanges }),
    ...(takesFiles && { takesFiles }),
    ...(resumeId !== "" && { resume: { id: resumeId, afterKey, ...(resumeFile && { file: resumeFile }) } }),
  });
  try {
    const { manifest, chunks, blocks } = snapshot;
    const { withChanges: hasChanges = false, files = [] } = manifest;
    await write(stream, { $case: "manifest", value: { ...manifest, withChanges: hasChanges, files: [...files] } });
    let entryCount = 0;
    if (blocks !== undefined) {
      for await (const { file, offset, data, crc32c } of blocks) {
        await write(stream, { $case: "block", value: { place: { file, offset }, data, crc32c } });
        entryCount++;
      }
    } else {
      for await (const { keys, values } of chunks) {
        await write(stream, { $case: "entries", value: { keys, values } });
        entryCount += keys.length;
      }
    }
    await write(stream, { $case: "end", value: { entryCount } });
  } finally {
    await snapshot.close();
  }
}

async function requestOf(stream: PartStream): Promise<ipb.SnapshotRequest> {
  const request = new Promise<ipb.SnapshotRequest>((resolve) => stream.onMessage(resolve));
  const ended = stream.ended.then(() => {
    throw stream.draining
      ? shuttingDown()
      : new KithError("INVALID_ARGUMENT", "the stream ended before it asked for a snapshot");
  });
  return Promise.race([withIdleLimit(stream.call.clock, request), ended]);
}

async function write(stream: PartStream, part: NonNullable<ipb.SnapshotPart["part"]>): Promise<void> {
  const { call } = stream;
  if (stream.draining) throw shuttingDown();
  if (!stream.write({ part })) await withIdleLimit(call.clock, stream.drained());
  if (call.aborted) throw abortReason(call);
}

export interface FetchOptions {
  clock: Clock;
  /** "host:port" of the link of the node that has the replica. */
  address: string;
  /** The node there. */
  node: string;
  tls?: ChannelTls;
  /** Of the cluster. */
  secret?: ClusterSecret | undefined;
  signal: AbortSignal;
}

/** A snapshot of a replica of another node, over a connection of its own. Rejects with what that node answers. */
export async function fetchSnapshot(
  replica: ShardId,
  wanted: SnapshotWanted,
  options: FetchOptions,
): Promise<Snapshot> {
  const { address, clock, tls } = options;
  const channel = createChannel(address, { clock, ...(tls && { tls }) });
  const inbox = new Inbox(channel, options);
  const { incarnation, minSequence, resume, withChanges = false, takesFiles = false } = wanted;
  const afterKey = resume?.afterKey ?? new Uint8Array(0);
  const resumed = { resumeId: resume?.id ?? "", afterKey, resumeFile: resume?.file };
  inbox.send({ replica, incarnation, minSequence, withChanges, takesFiles, ...resumed });
  try {
    const part = await inbox.next();
    if (part?.$case !== "manifest") throw malformed("its first part is no manifest");
    const manifest = manifestOf(part.value);
    return {
      manifest,
      chunks: chunksOf(inbox),
      ...(manifest.files && { blocks: blocksOf(inbox) }),
      close: async () => inbox.close(),
    };
  } catch (error) {
    inbox.close();
    throw error;
  }
}

function manifestOf(message: ipb.SnapshotManifest): SnapshotManifest {
  const { format, incarnation, sequence, pointCount, id, sizeBytes, withChanges, files } = message;
  return {
    ...{ format, incarnation, sequence, pointCount, id, sizeBytes },
    ...(withChanges && { withChanges }),
    ...(files.length > 0 && { files }),
  };
}

async function* blocksOf(inbox: Inbox): AsyncGenerator<SnapshotBlock> {
  let count = 0;
  for (;;) {
    const part = await inbox.next();
    if (part?.$case === "end") {
      if (part.value.entryCount === count) return;
      throw malformed(`${count} blocks have come, and ${part.value.entryCount} were sent`);
    }
    if (part?.$case !== "block") throw malformed("it broke off");
    const { place, data, crc32c } = part.value;
    if (place === undefined) throw malformed("a block has no place");
    count++;
    yield { ...place, data, crc32c };
  }
}

async function* chunksOf(inbox: Inbox): AsyncGenerator<SnapshotChunk> {
  let entryCount = 0;
  for (;;) {
    const part = await inbox.next();
    if (part?.$case === "end") {
      if (part.value.entryCount === entryCount) return;
      throw malformed(`${entryCount} entries have come, and ${part.value.entryCount} were sent`);
    }
    if (part?.$case !== "entries") throw malformed("it broke off");
    const { keys, values } = part.value;
    if (keys.length !== values.length) throw malformed("keys and values are not aligned");
    entryCount += keys.length;
    yield { keys, values };
  }
}

type Part = ipb.SnapshotPart["part"];

/** The parts that have come and wait for their reader: few, since the stream pauses meanwhile. */
class Inbox {
  readonly #channel: Channel;
  readonly #stream: ClientStream<ipb.SnapshotRequest>;
  readonly #parts: Part[] = [];
  readonly #signal: AbortSignal;
  #arrived: Deferred<void> | undefined;
  #end: KithError | "ended" | undefined;

  constructor(channel: Channel, options: FetchOptions) {
    this.#channel = channel;
    this.#signal = options.signal;
    const listener: StreamListener<ipb.SnapshotPart> = {
      onMessage: ({ part }) => {
        this.#parts.push(part);
        if (this.#parts.length >= waitingPartsMax) this.#stream.pause();
        this.#arrived?.resolve();
      },
      onEnd: (error) => {
        this.#end = error ?? "ended";
        this.#arrived?.resolve();
      },
    };
    const { fetch } = snapshotService;
    this.#stream = openStream(channel, fetch, listener, proofOf(options, fetch.path));
  }

  send(request: ipb.SnapshotRequest): void {
    this.#stream.write(request);
  }

  /** Undefined at the end. Rejects where the stream fails, nothing comes for too long, or the signal aborts. */
  async next(): Promise<Part> {
    while (this.#parts.length === 0) {
      if (this.#end !== undefined) {
        if (this.#end === "ended") return undefined;
        throw this.#end;
      }
      this.#arrived = deferred();
      await withAbort(withIdleLimit(this.#channel.clock, this.#arrived.promise), this.#signal);
    }
    const part = this.#parts.shift();
    this.#stream.resume();
    return part;
  }

  close(): void {
    this.#stream.cancel();
    this.#channel.close();
  }
}

async function withIdleLimit<T>(clock: Clock, promise: Promise<T>): Promise<T> {
  let timer: Timer | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = clock.setTimer(
      () => reject(new KithError("DEADLINE_EXCEEDED", `nothing has moved for ${idleMaxMs / 1000} s`)),
      idleMaxMs,
    );
  });
  try {
    return await Promise.race([promise, limit]);
  } finally {
    timer?.close();
  }
}

function malformed(what: string): KithError {
  return new KithError("SHARD_UNAVAILABLE", `the snapshot cannot be used: ${what}`);
}
