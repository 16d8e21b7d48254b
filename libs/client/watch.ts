import { abortReason, backoffMs, deferred, type Deferred, KithError, sleep } from "../base/index.js";
import { openAnswers } from "../rpc/client/index.js";
import { pb } from "../wire/index.js";
import { pointFromWire } from "./decode.js";
import { filterOf } from "./filter.js";
import { idFromWire } from "./ids.js";
import { onlyKeys } from "./only-keys.js";
import { nearKeys, watchKeys } from "./option-keys.js";
import { selectToWire } from "./query.js";
import { tokenFromWire, tokenToWire } from "./token.js";
import type { Transport } from "./transport.js";
import type { CallOptions, Token } from "./types/calls.js";
import type { Point, SelectOptions } from "./types/points.js";
import type { FilterInput, Id, JsonObject, MatrixInput, VectorInput } from "./types/values.js";
import { vectorToWire } from "./vectors.js";

/** What has become of a point. */
export interface ChangeEvent<P = JsonObject> {
  /** "truncate": all points of the shard were deleted at once; it has no id. */
  kind: "insert" | "update" | "delete" | "truncate";
  id: Id | undefined;
  shard: number;
  /** Of the shard's log: the version that the point has afterwards. */
  sequence: number;
  /** Where it was asked for and is known. */
  before?: Point<P>;
  /** Missing of deletions, and where the point was changed again before this could be read: then a later change tells. */
  after?: Point<P>;
  /** Of the vector, with `near`. */
  score?: number;
  /** To go on with once this change is dealt with: nothing is missed behind it; changes that came with this one may come again. */
  token: Token;
}

export interface WatchOptions extends Pick<CallOptions, "signal">, SelectOptions {
  /** Of a write, a read or a change: what came behind it. Default: what comes from now on. */
  from?: Token;
  /** Only changes of points that pass before or afterwards. */
  filter?: FilterInput;
  /** Whether to tell what a point was before. Default: false. */
  before?: boolean;
  /** A standing query: only points that are written with a vector so near: cosine and dot at least, l2 at most. */
  near?: { vector: VectorInput | MatrixInput; using?: string; threshold: number };
  /** Called when the watch has begun, and with each further token, also where nothing has changed that is wanted. */
  onToken?: (token: Token) => void;
}

/** Changes that wait for the reader before the server is held. */
const waitingMax = 1_024;
const reopenPause = { initialMs: 50, maxMs: 5_000 };

/** The changes of a collection, over as many streams as it takes: one that breaks goes on from the last token. */
export async function* watchCollection<P>(
  transport: Transport,
  collection: string,
  options: WatchOptions,
): AsyncGenerator<ChangeEvent<P>, void, undefined> {
  onlyKeys(options, watchKeys, "options");
  if (options.near !== undefined) onlyKeys(options.near, nearKeys, "options.near");
  const { near, before = false, onToken } = options;
  const { closing } = transport;
  const signal = options.signal === undefined ? closing : AbortSignal.any([options.signal, closing]);
  let from = options.from && tokenToWire(options.from);
  const request = {
    ...{ collection, filter: filterOf(options.filter), before, select: selectToWire(options), batch: 0 },
    near: near && {
      using: near.using ?? "",
      vector: vectorToWire(near.vector, near.using ?? ""),
      threshold: near.threshold,
    },
  };
  for (let attempt = 0; ; attempt++) {
    if (signal.aborted) throw abortReason(signal);
    const answers = new Answers(transport, { ...request, from }, signal);
    try {
      for (;;) {
        const answer = await answers.next();
        attempt = 0;
        const token = tokenFromWire(answer.token);
        // It is behind all of the message: who goes on behind another change of it than the last has the message again.
        const again = from === undefined ? token : tokenFromWire(from);
        from = answer.token;
        const last = answer.changes.length - 1;
        yield* answer.changes.map((change, i) => eventOf<P>(change, i === last ? token : again, transport));
        onToken?.(token);
      }
    } catch (error) {
      if (!(error instanceof KithError) || !error.retryable || signal.aborted) throw error;
      await sleep(transport.clock, error.retryAfterMs ?? backoffMs(attempt, reopenPause, transport.random), signal);
    } finally {
      answers.close();
    }
  }
}

const kinds: Record<number, ChangeEvent["kind"] | undefined> = {
  [pb.ChangeKind.INSERT]: "insert",
  [pb.ChangeKind.UPDATE]: "update",
  [pb.ChangeKind.DELETE]: "delete",
  [pb.ChangeKind.TRUNCATE]: "truncate",
};

function eventOf<P>(change: pb.Change, token: Token, { parsePayload }: Transport): ChangeEvent<P> {
  const kind = kinds[change.kind];
  if (kind === undefined) {
    throw new KithError(
      "UNIMPLEMENTED",
      `the server tells of changes of the kind ${change.kind}, which this client does not know`,
    );
  }
  const { id, shard, sequence, before, after, score } = change;
  return {
    ...{ kind, id: id && idFromWire(id), shard, sequence, token },
    ...(before && { before: pointFromWire<P>(before, parsePayload) }),
    ...(after && { after: pointFromWire<P>(after, parsePayload) }),
    ...(score !== undefined && { score }),
  };
}

/** The messages of one stream that have come; while too many wait, HTTP/2 flow control holds the server. */
class Answers {
  readonly #stream: ReturnType<typeof openAnswers>;
  readonly #waiting: pb.WatchResponse[] = [];
  readonly #signal: AbortSignal;
  readonly #onAbort = (): void => this.#arrived?.resolve();
  #count = 0;
  #arrived: Deferred<void> | undefined;
  #end: KithError | undefined;

  constructor(transport: Transport, request: pb.WatchRequest, signal: AbortSignal) {
    this.#signal = signal;
    signal.addEventListener("abort", this.#onAbort, { once: true });
    this.#stream = openAnswers(
      transport.channel,
      pb.ChangesService.watch,
      request,
      {
        onMessage: (answer) => {
          this.#waiting.push(answer);
          this.#count += answer.changes.length;
          if (this.#count >= waitingMax) this.#stream.pause();
          this.#arrived?.resolve();
        },
        onEnd: (error) => {
          this.#end = error ?? new KithError("SERVER_UNREACHABLE", "the server ended the stream");
          this.#arrived?.resolve();
        },
      },
      { metadata: transport.headers },
    );
  }

  async next(): Promise<pb.WatchResponse> {
    for (;;) {
      if (this.#signal.aborted) throw abortReason(this.#signal);
      const answer = this.#waiting.shift();
      if (answer !== undefined) {
        this.#count -= answer.changes.length;
        if (this.#count < waitingMax) this.#stream.resume();
        return answer;
      }
      if (this.#end !== undefined) throw this.#end;
      this.#arrived = deferred();
      await this.#arrived.promise;
    }
  }

  close(): void {
    this.#signal.removeEventListener("abort", this.#onAbort);
    this.#stream.cancel();
  }
}
