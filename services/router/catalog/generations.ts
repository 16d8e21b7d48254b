import { type Clock, KithError, toKithError } from "../../../libs/base/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import type { CollectionsView, NamedCollection } from "../../../libs/cluster/index.js";
import type { Log } from "../../../libs/log/index.js";
import {
  buildFor,
  buildIn,
  checkRecallTarget,
  chooseBuild,
  type Collection,
  type FieldBuild,
  type FieldChoice,
  fieldOf,
  generationOf,
  type GenerationPlan,
  type GenerationRefusal,
  type GenerationShadow,
  type GenerationStatus,
  judgeGeneration,
  keepsOriginals,
  type OtherGeneration,
  textOfRefusal,
  type VectorField,
  withBuilding,
  withChoice,
} from "../../../libs/model/index.js";
import { datatypeFrom, datatypeTo, pb } from "../../../libs/wire/index.js";
import { notFound } from "../access.js";
import { readLog } from "../query/read-options.js";
import type { RoutingTable } from "../routing/routing-table.js";
import { collectionTo } from "./collection-wire.js";
import { namedCollection } from "./named.js";
import { activeStatuses, type SchemaChanges } from "./schema-changes.js";

export interface GenerationsOptions {
  clock: Clock;
  view: CollectionsView;
  log: Log;
  routingTable: RoutingTable;
  schemaChanges: SchemaChanges;
}

/** Further builds of the indexes of vector fields: begun, listed, and changed for each other. */
export class Generations {
  readonly #options: GenerationsOptions;

  constructor(options: GenerationsOptions) {
    this.#options = options;
  }

  /** Where the field is built like that already, or is being, nothing is begun. */
  async alter(request: pb.AlterVectorFieldRequest, call: CallContext): Promise<pb.AlterVectorFieldResponse> {
    const before = this.#named(request.collection, call);
    const field = fieldOf(before.record, request.field);
    const { autoRecall } = request;
    const wanted = autoRecall === undefined ? request : await this.#chosen(request, autoRecall, before, field, call);
    const build = buildOf(wanted, field);
    const plan = planOf(request);
    const isBuilding = field.other?.state === "building" && isSame(field.other, build);
    const isThere = isBuilding || (field.other?.state !== "building" && isSame(field, build));
    const after = isThere
      ? before.record
      : await this.#change(before, { kind: "beginGeneration", name: field.name, build, plan }, call);
    const begun = fieldOf(after, field.name);
    const generation = begun.other?.state === "building" ? begun.other.number : generationOf(begun);
    if (!request.wait) return { collection: this.#toWire(after), generation };
    const answering = await this.#untilAnswering(before, field.name, generation, call);
    return { collection: this.#toWire(answering), generation };
  }

  /** The request with the datatype that the data pick. The choice is in the record when this returns. */
  async #chosen(
    request: pb.AlterVectorFieldRequest,
    target: number,
    { key, record }: NamedCollection,
    field: VectorField,
    call: CallContext,
  ): Promise<pb.AlterVectorFieldRequest> {
    checkRecallTarget(target, "auto_recall");
    if (request.datatype !== pb.Datatype.UNSPECIFIED || request.originals !== undefined) {
      throw new KithError(
        "INVALID_ARGUMENT",
        "the request names auto_recall and a datatype, or originals; give one of them",
        {
          details: { field: "auto_recall" },
        },
      );
    }
    // Refuses fields of matrices, and while another one is built, before anything is measured.
    withBuilding(field, buildIn(field));
    const { view, log, routingTable, clock } = this.#options;
    const answers = await routingTable.epochs.retrying(record.name, call, async () => {
      const collection = routingTable.resolve(record.name, call);
      // What was written before this call is tried with the rest.
      const endOf = await readLog(collection, log);
      return Promise.all(
        collection.shards.map((shard) => {
          const asked = { field: field.name, target, minSequence: endOf(shard.id.shard) };
          return shard.ask(call, (api, context) => api.read("trial", shard.id, asked, context));
        }),
      );
    });
    const tried = answers.filter(({ trials }) => trials.length > 0);
    const rows = answers.reduce((sum, each) => sum + each.rows, 0);
    if (tried.length === 0) {
      throw new KithError(
        "FAILED_PRECONDITION",
        `${titleOf(field.name)} has ${rows} vectors, in ${answers.length} shards: too few to choose a datatype by`,
        { details: { field: field.name, vectors: rows } },
      );
    }
    const picked = chooseBuild(
      target,
      tried.map(({ trials }) => trials),
    );
    const choice: FieldChoice = { ...picked, target, rows, atMs: clock.nowMs() };
    await view.modify(key, (found) => {
      if (found.id !== record.id) throw notFound(record.name);
      return withChoice(found, field.name, choice, true);
    });
    const { originals = false } = buildFor(field, picked.datatype);
    return { ...request, datatype: datatypeTo(picked.datatype), originals };
  }

  async list(request: pb.ListGenerationsRequest, call: CallContext): Promise<pb.ListGenerationsResponse> {
    const { record } = this.#named(request.collection, call);
    const shards = await activeStatuses(this.#options.routingTable, record.name, call);
    const said = (field: string, number: number): GenerationStatus[][] =>
      shards.map((replicas) =>
        replicas.flatMap(({ generations = [] }) =>
          generations.filter((each) => each.isText !== true && each.field === field && each.number === number),
        ),
      );
    const replicaCount = shards.reduce((sum, replicas) => sum + replicas.length, 0);
    const generations = record.fields.flatMap((field) => {
      const answering = answeringInfo(field, said(field.name, generationOf(field)));
      if (field.other === undefined) return [answering];
      const statuses = said(field.name, field.other.number);
      return [answering, otherInfo(field, field.other, statuses, statuses.flat().length === replicaCount)];
    });
    return { generations, textGenerations: [] };
  }

  async promote(request: pb.PromoteGenerationRequest, call: CallContext): Promise<pb.PromoteGenerationResponse> {
    const before = this.#named(request.collection, call);
    const field = fieldOf(before.record, request.field);
    const other = otherOf(field, "building");
    const { generations } = await this.list({ collection: request.collection }, call);
    const info = generations.find((each) => each.field === field.name && each.number === other.number);
    if (info === undefined || info.state === pb.GenerationState.BUILDING) {
      const rows = `${info?.rowCount ?? 0} vectors are in it, ${info?.unindexedCount ?? 0} of them not in its graph yet`;
      const details = { rows: info?.rowCount ?? 0, unindexed: info?.unindexedCount ?? 0 };
      throw refused(field, other, `it is not whole on every replica, or not measured yet: ${rows}`, details);
    }
    if (info.state === pb.GenerationState.REFUSED && info.recall !== undefined && !request.force) {
      throw recallTooLow(field, other, info.recall);
    }
    return { collection: this.#toWire(await this.#switch(before, field, other, call)) };
  }

  async rollback(request: pb.RollbackGenerationRequest, call: CallContext): Promise<pb.RollbackGenerationResponse> {
    const before = this.#named(request.collection, call);
    const field = fieldOf(before.record, request.field);
    const after = await this.#switch(before, field, otherOf(field, "kept"), call);
    return { collection: this.#toWire(after) };
  }

  async drop(request: pb.DropGenerationRequest, call: CallContext): Promise<pb.DropGenerationResponse> {
    const before = this.#named(request.collection, call);
    const field = fieldOf(before.record, request.field);
    const { number: generation } = otherOf(field);
    const wish = { kind: "dropGeneration" as const, name: field.name, generation };
    return { collection: this.#toWire(await this.#change(before, wish, call)) };
  }

  #switch(before: NamedCollection, field: VectorField, other: OtherGeneration, call: CallContext): Promise<Collection> {
    return this.#change(before, { kind: "switchGeneration", name: field.name, generation: other.number }, call);
  }

  #change(
    before: NamedCollection,
    wish: Parameters<SchemaChanges["change"]>[1],
    call: CallContext,
  ): Promise<Collection> {
    return this.#options.schemaChanges.change(before, wish, call);
  }

  /** Until the generation answers; FAILED_PRECONDITION where it will not. */
  async #untilAnswering(
    { key, record }: NamedCollection,
    name: string,
    generation: number,
    call: CallContext,
  ): Promise<Collection> {
    const { view } = this.#options;
    const fieldIn = (found: Collection | undefined): VectorField | undefined =>
      found?.id === record.id ? found.fields.find((field) => field.name === name) : undefined;
    const isWaiting = (field: VectorField | undefined): boolean =>
      field !== undefined &&
      generationOf(field) !== generation &&
      field.other?.number === generation &&
      field.plan?.refusal === undefined;
    try {
      await view.until(key, (found) => !isWaiting(fieldIn(found)), call.signal);
    } catch (error) {
      const { code } = toKithError(error);
      const message = `generation ${generation} of ${titleOf(name)} is still being built; it goes on by itself`;
      throw new KithError(code, message, { details: { field: name, generation }, cause: error });
    }
    const after = view.get(key)?.value;
    const field = fieldIn(after);
    if (after === undefined || field === undefined) throw notFound(record.name);
    if (generationOf(field) === generation) return { ...after, name: record.name };
    const { other, plan } = field;
    if (other?.number === generation && plan?.refusal !== undefined) throw recallTooLow(field, other, plan.refusal);
    throw new KithError("FAILED_PRECONDITION", `generation ${generation} of ${titleOf(name)} was dropped`, {
      details: { field: name, generation },
    });
  }

  #named(collection: string, call: CallContext): NamedCollection {
    return namedCollection(this.#options.view, collection, call);
  }

  #toWire(record: Collection): pb.Collection {
    return collectionTo(record, this.#options.view.naming);
  }
}

function buildOf(
  { datatype, m, efConstruction, originals }: pb.AlterVectorFieldRequest,
  field: VectorField,
): FieldBuild {
  const known = datatype === pb.Datatype.UNSPECIFIED ? field.datatype : datatypeFrom(datatype);
  if (known === undefined) {
    throw new KithError("INVALID_SCHEMA", `the datatype ${datatype} is not known`, {
      details: { field: field.name, datatype },
    });
  }
  return buildIn({
    datatype: known,
    m: m === 0 ? field.m : m,
    efConstruction: efConstruction === 0 ? field.efConstruction : efConstruction,
    originals: originals ?? field.originals ?? false,
  });
}

function planOf({ minRecall, manual }: pb.AlterVectorFieldRequest): GenerationPlan {
  if (minRecall !== undefined && !(minRecall >= 0 && minRecall <= 1)) {
    throw new KithError("INVALID_ARGUMENT", `min_recall is ${minRecall}; it must be in 0..1`, {
      details: { field: "min_recall", value: minRecall },
    });
  }
  return { ...(minRecall !== undefined && { minRecall }), ...(manual && { isManual: true }) };
}

function isSame(a: FieldBuild, b: FieldBuild): boolean {
  const isBuiltLike = a.datatype === b.datatype && a.m === b.m && a.efConstruction === b.efConstruction;
  return isBuiltLike && keepsOriginals(a) === keepsOriginals(b);
}

/** FAILED_PRECONDITION where the field has no such other generation. */
function otherOf(field: VectorField, state?: OtherGeneration["state"]): OtherGeneration {
  const { other } = field;
  if (other !== undefined && (state === undefined || other.state === state)) return other;
  const lacks =
    state === undefined ? "but the one that answers" : state === "building" ? "that is being built" : "that is kept";
  throw new KithError("FAILED_PRECONDITION", `${titleOf(field.name)} has no generation ${lacks}`, {
    details: { field: field.name },
  });
}

function recallTooLow(
  field: VectorField,
  other: OtherGeneration,
  { recall, wanted, samples }: Pick<GenerationRefusal, "recall" | "wanted" | "samples">,
): KithError {
  const refusal = { recall, wanted, samples };
  return refused(field, other, textOfRefusal(refusal, other), refusal);
}

function refused(
  field: VectorField,
  { number }: OtherGeneration,
  why: string,
  details: Record<string, number>,
): KithError {
  return new KithError(
    "FAILED_PRECONDITION",
    `generation ${number} of ${titleOf(field.name)} does not answer: ${why}`,
    {
      details: { field: field.name, generation: number, ...details },
    },
  );
}

function titleOf(name: string): string {
  return name === "" ? "the vector field" : `the vector field "${name}"`;
}

function answeringInfo(field: VectorField, said: readonly GenerationStatus[][]): pb.Generation {
  const number = generationOf(field);
  return { ...infoOf(field, { ...field, number }, said), state: pb.GenerationState.ANSWERING };
}

function otherInfo(
  field: VectorField,
  other: OtherGeneration,
  said: readonly GenerationStatus[][],
  isEverywhere: boolean,
): pb.Generation {
  const info = { ...infoOf(field, other, said), shadow: shadowOf(said.flat()) };
  if (other.state === "kept") return { ...info, state: pb.GenerationState.KEPT };
  const verdict = isEverywhere ? judgeGeneration(said.flat(), field.plan) : undefined;
  if (verdict === undefined || verdict.kind === "building") return { ...info, state: pb.GenerationState.BUILDING };
  const state = verdict.kind === "ready" ? pb.GenerationState.READY : pb.GenerationState.REFUSED;
  return { ...info, state, recall: { ...verdict.refusal, baseline: verdict.baseline } };
}

function infoOf(
  { name }: VectorField,
  { number, ...build }: FieldBuild & { number: number },
  said: readonly GenerationStatus[][],
): pb.Generation {
  const { datatype, m, efConstruction } = build;
  const info: pb.Generation = {
    ...{ field: name, number, state: pb.GenerationState.UNSPECIFIED, recall: undefined, shadow: undefined },
    originals: keepsOriginals(build),
    ...{ datatype: datatypeTo(datatype), m, efConstruction, rowCount: 0, unindexedCount: 0, memoryBytes: 0 },
  };
  for (const replicas of said) {
    // The one that has furthest to go.
    const left = (each: GenerationStatus): number => each.unindexedCount - each.rowCount;
    const [last] = [...replicas].sort((a, b) => left(b) - left(a));
    info.rowCount += last?.rowCount ?? 0;
    info.unindexedCount += last?.unindexedCount ?? 0;
    info.memoryBytes += last?.memoryBytes ?? 0;
  }
  return info;
}

/** What the replicas of all shards found, each by its samples; the interval is that of a mean of independent ones. */
function shadowOf(statuses: readonly GenerationStatus[]): pb.GenerationShadow | undefined {
  const known = statuses.flatMap(({ shadow }) => (shadow === undefined ? [] : [shadow]));
  const samples = known.reduce((sum, each) => sum + each.samples, 0);
  if (samples === 0) return undefined;
  const mean = (of: (each: GenerationShadow) => number): number =>
    known.reduce((sum, each) => sum + each.samples * of(each), 0) / samples;
  return {
    samples: Math.round(samples),
    k: mean(({ k }) => k),
    overlap: mean(({ overlap }) => overlap),
    recall: mean(({ recall }) => recall),
    baseline: mean(({ baseline }) => baseline),
    margin: Math.sqrt(known.reduce((sum, each) => sum + ((each.samples / samples) * each.margin) ** 2, 0)),
    searchUs: mean(({ searchUs }) => searchUs),
    baselineUs: mean(({ baselineUs }) => baselineUs),
  };
}
