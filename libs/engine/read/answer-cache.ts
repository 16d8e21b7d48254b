import { deserialize, serialize } from "node:v8";
import { LRUCache } from "lru-cache";
import type { ReadAnswer, ReadKind, ReadRequest } from "../../shard-api/index.js";
import { counterOf } from "../../telemetry/index.js";
import type { OpenReplica } from "../replica/open-replica.js";

const lookups = counterOf("kith.cache.lookups");
const hit = { "kith.cache": "answers", "kith.cache.hit": true };
const miss = { "kith.cache": "answers", "kith.cache.hit": false };

/** Reads whose answer says the same as long as nothing is applied: samples are drawn anew, and changes are read once. */
const cachedKinds: ReadonlySet<ReadKind> = new Set(["query", "search", "text", "facet", "count", "order", "scroll"]);

/**
 * Answers to reads of one open replica, for as long as nothing is applied: the same request gets the same answer. One entry costs its answer as bytes,
 * so that whoever changes what it was given changes nothing here.
 */
export class AnswerCache {
  readonly #replica: OpenReplica;
  readonly #answers: LRUCache<string, Buffer>;
  /** The state that all answers here are of. */
  #stamp = "";

  /** `maxBytes`: of answers and requests together. */
  constructor(replica: OpenReplica, maxBytes: number) {
    this.#replica = replica;
    this.#answers = new LRUCache({
      maxSize: maxBytes,
      // An entry costs about 200 bytes besides.
      sizeCalculation: (answer, key) => answer.length + key.length + 200,
    });
  }

  get memoryBytes(): number {
    return this.#answers.calculatedSize;
  }

  async read<K extends ReadKind>(
    kind: K,
    request: ReadRequest<K>,
    read: () => Promise<ReadAnswer<K>>,
  ): Promise<ReadAnswer<K>> {
    if (!cachedKinds.has(kind) || ("explain" in request && request.explain === true)) return read();
    const stamp = this.#stateNow();
    const key = this.#keyOf(kind, request);
    const known = this.#answers.get(key);
    lookups.add(1, known === undefined ? miss : hit);
    if (known !== undefined) return deserialize(known) as ReadAnswer<K>;
    const { writeEpoch } = this.#replica;
    const answer = await read();
    // What was read beside a write may be of before it or of after it.
    const isOfOneState = writeEpoch % 2 === 0 && this.#replica.writeEpoch === writeEpoch;
    if (isOfOneState && this.#stateNow() === stamp) this.#answers.set(key, serialize(answer));
    return answer;
  }

  /** What is applied, which points have expired, and by which generations of the indexes is searched. Forgets the answers of another state. */
  #stateNow(): string {
    const { appliedSequence, expiries, indexes } = this.#replica;
    const stamp = `${appliedSequence} ${expiries.over.size} ${indexes.promotions}`;
    if (stamp !== this.#stamp) {
      this.#answers.clear();
      this.#stamp = stamp;
    }
    return stamp;
  }

  /** All that a request asks for; not from which sequence on, which is applied. For a recall it is answered again once a wider beam is known to be needed. */
  #keyOf<K extends ReadKind>(kind: K, request: ReadRequest<K>): string {
    const isTargeted = "recallTarget" in request && request.recallTarget !== undefined;
    const widenings = isTargeted ? this.#replica.recall.widenings : 0;
    return `${kind} ${widenings} ${serialize({ ...request, minSequence: 0 }).toString("latin1")}`;
  }
}
