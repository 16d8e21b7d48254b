import { KithError, toKithError } from "../../../libs/base/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { NamedCollection } from "../../../libs/cluster/index.js";
import {
  type Bm25Options,
  type Collection,
  type GenerationStatus,
  type OtherTextGeneration,
  parsePath,
  payloadIndexOf,
  type PayloadIndexRecord,
} from "../../../libs/model/index.js";
import { payloadIndexTo, pb } from "../../../libs/wire/index.js";
import { notFound } from "../access.js";
import { collectionTo, indexFrom } from "./collection-wire.js";
import type { GenerationsOptions } from "./generations.js";
import { namedCollection } from "./named.js";
import { activeStatuses, type Wish } from "./schema-changes.js";

type TextGenerationsOptions = Omit<GenerationsOptions, "log">;

/** Further builds of indexes by BM25: begun, listed, and changed for each other. */
export class TextGenerations {
  readonly #options: TextGenerationsOptions;

  constructor(options: TextGenerationsOptions) {
    this.#options = options;
  }

  /** Where the index is built like that already, or is being, nothing is begun. */
  async alter(request: pb.AlterPayloadIndexRequest, call: CallContext): Promise<pb.AlterPayloadIndexResponse> {
    const { path, bm25, kind } = indexFrom(request.index);
    const before = this.#named(request.collection, call);
    const index = payloadIndexOf(before.record.payloadIndexes, path);
    if (bm25 === undefined) {
      throw new KithError(
        "INVALID_SCHEMA",
        `an index of the kind ${kind} cannot be altered, but one of the kind bm25: drop it, and make it otherwise`,
        { details: { path, kind } },
      );
    }
    const building = index.otherText?.state === "building" ? index.otherText : undefined;
    const isThere = building === undefined ? isSame(index.bm25, bm25) : isSame(building.bm25, bm25);
    const wish: Wish = { kind: "beginTextGeneration", path, bm25, isManual: request.manual };
    const after = isThere ? before.record : await this.#options.schemaChanges.change(before, wish, call);
    const begun = payloadIndexOf(after.payloadIndexes, path);
    const generation = begun.otherText?.state === "building" ? begun.otherText.number : (begun.generation ?? 0);
    if (!request.wait) return { collection: this.#toWire(after), generation };
    const answering = await this.#untilAnswering(before, path, generation, call);
    return { collection: this.#toWire(answering), generation };
  }

  async list(request: pb.ListGenerationsRequest, call: CallContext): Promise<pb.TextGeneration[]> {
    const { record } = this.#named(request.collection, call);
    const altered = record.payloadIndexes.flatMap((index) => {
      const { otherText, bm25 } = index;
      return otherText === undefined || bm25 === undefined ? [] : [{ index, otherText, bm25 }];
    });
    if (altered.length === 0) return [];
    const shards = await activeStatuses(this.#options.routingTable, record.name, call);
    const infoOf = (path: string, number: number, bm25: Bm25Options): { info: pb.TextGeneration; isReady: boolean } => {
      const said = shards.map((replicas) =>
        replicas.map(({ generations = [] }) => generations.find((each) => isOf(each, path, number))),
      );
      const info = { index: path, number, state: pb.GenerationState.ANSWERING, bm25: wireOf(path, bm25) };
      let rowCount = 0;
      let memoryBytes = 0;
      for (const replicas of said) {
        // The one that has furthest to go.
        const rows = replicas.map((each) => each?.rowCount ?? 0);
        const last = replicas[rows.indexOf(Math.min(...rows))];
        rowCount += last?.rowCount ?? 0;
        memoryBytes += last?.memoryBytes ?? 0;
      }
      const isReady = said.flat().every((each) => each?.isReady === true);
      return { info: { ...info, rowCount, memoryBytes }, isReady };
    };
    return altered.flatMap(({ index: { path, generation = 0 }, otherText, bm25 }) => {
      const { info: answering } = infoOf(path, generation, bm25);
      const { info: other, isReady } = infoOf(path, otherText.number, otherText.bm25);
      const built = isReady ? pb.GenerationState.READY : pb.GenerationState.BUILDING;
      return [answering, { ...other, state: otherText.state === "kept" ? pb.GenerationState.KEPT : built }];
    });
  }

  async promote(request: pb.PromoteGenerationRequest, call: CallContext): Promise<pb.PromoteGenerationResponse> {
    const { before, path, other } = this.#other(request, call, "building");
    const listed = await this.list({ collection: request.collection }, call);
    const info = listed.find((each) => each.index === path && each.number === other.number);
    if (info?.state !== pb.GenerationState.READY) {
      const rows = info?.rowCount ?? 0;
      throw new KithError(
        "FAILED_PRECONDITION",
        `generation ${other.number} of the index "${path}" does not answer: it is not whole on every replica; ${rows} points are in it`,
        { details: { index: path, generation: other.number, rows } },
      );
    }
    return { collection: this.#toWire(await this.#switch(before, path, other, call)) };
  }

  async rollback(request: pb.RollbackGenerationRequest, call: CallContext): Promise<pb.RollbackGenerationResponse> {
    const { before, path, other } = this.#other(request, call, "kept");
    return { collection: this.#toWire(await this.#switch(before, path, other, call)) };
  }

  async drop(request: pb.DropGenerationRequest, call: CallContext): Promise<pb.DropGenerationResponse> {
    const { before, path, other } = this.#other(request, call);
    const wish: Wish = { kind: "dropTextGeneration", path, generation: other.number };
    return { collection: this.#toWire(await this.#options.schemaChanges.change(before, wish, call)) };
  }

  #switch(before: NamedCollection, path: string, other: OtherTextGeneration, call: CallContext): Promise<Collection> {
    const wish: Wish = { kind: "switchTextGeneration", path, generation: other.number };
    return this.#options.schemaChanges.change(before, wish, call);
  }

  /** The generation beside the one that answers; FAILED_PRECONDITION where there is none of this state. */
  #other(
    { collection, index, field }: pb.DropGenerationRequest,
    call: CallContext,
    state?: OtherTextGeneration["state"],
  ): { before: NamedCollection; path: string; other: OtherTextGeneration } {
    if (field !== "") {
      throw new KithError(
        "INVALID_ARGUMENT",
        `the request names the vector field "${field}" and the index "${index}"; name one of them`,
        { details: { field, index } },
      );
    }
    const before = this.#named(collection, call);
    const { text: path } = parsePath(index);
    const { otherText } = payloadIndexOf(before.record.payloadIndexes, path);
    if (otherText !== undefined && (state === undefined || otherText.state === state)) {
      return { before, path, other: otherText };
    }
    const lacks =
      state === undefined ? "beside the one that answers" : state === "building" ? "being built" : "that is kept";
    throw new KithError("FAILED_PRECONDITION", `the index "${path}" has no generation ${lacks}`, {
      details: { index: path },
    });
  }

  /** Until the generation answers; FAILED_PRECONDITION where it will not. */
  async #untilAnswering(
    { key, record }: NamedCollection,
    path: string,
    generation: number,
    call: CallContext,
  ): Promise<Collection> {
    const { view } = this.#options;
    const indexIn = (found: Collection | undefined): PayloadIndexRecord | undefined =>
      found?.id === record.id ? found.payloadIndexes.find((index) => index.path === path) : undefined;
    const isWaiting = (index: PayloadIndexRecord | undefined): boolean =>
      index !== undefined && (index.generation ?? 0) !== generation && index.otherText?.number === generation;
    try {
      await view.until(key, (found) => !isWaiting(indexIn(found)), call.signal);
    } catch (error) {
      const { code } = toKithError(error);
      const message = `generation ${generation} of the index "${path}" is still being built; it goes on by itself`;
      throw new KithError(code, message, { details: { index: path, generation }, cause: error });
    }
    const after = view.get(key)?.value;
    const index = indexIn(after);
    if (after === undefined || index === undefined) throw notFound(record.name);
    if ((index.generation ?? 0) === generation) return { ...after, name: record.name };
    throw new KithError("FAILED_PRECONDITION", `generation ${generation} of the index "${path}" was dropped`, {
      details: { index: path, generation },
    });
  }

  #named(collection: string, call: CallContext): NamedCollection {
    return namedCollection(this.#options.view, collection, call);
  }

  #toWire(record: Collection): pb.Collection {
    return collectionTo(record, this.#options.view.naming);
  }
}

function isOf({ field, isText, number }: GenerationStatus, path: string, wanted: number): boolean {
  return isText === true && field === path && number === wanted;
}

function wireOf(path: string, bm25: Bm25Options): pb.PayloadIndex["bm25"] {
  return payloadIndexTo({ path, kind: "bm25", isTenant: false, isPrincipal: false, bm25 }).bm25;
}

function isSame(a: Bm25Options | undefined, b: Bm25Options): boolean {
  if (a === undefined) return false;
  const textOf = (options: Bm25Options): string => JSON.stringify(wireOf("", options));
  return textOf(a) === textOf(b);
}
