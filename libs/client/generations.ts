import { bm25From, pb } from "../wire/index.js";
import { collectionFromWire, datatypeToWire, lookUp, nameOf } from "./decode.js";
import { givenNumber } from "./given.js";
import { wholeNumber } from "./numbers.js";
import { payloadIndexToWire } from "./payload-index.js";
import type {
  AlterPayloadIndexOptions,
  AlterVectorFieldOptions,
  AlteredVectorField,
  GenerationInfo,
  GenerationOptions,
  GenerationState,
  TextGenerationInfo,
} from "./types/generations.js";
import { wellFormed } from "./well-formed.js";

const states: Record<GenerationState, pb.GenerationState> = {
  answering: pb.GenerationState.ANSWERING,
  building: pb.GenerationState.BUILDING,
  ready: pb.GenerationState.READY,
  refused: pb.GenerationState.REFUSED,
  kept: pb.GenerationState.KEPT,
};

export function alterVectorFieldToWire(
  collection: string,
  field: string,
  {
    datatype,
    m = 0,
    efConstruction = 0,
    originals,
    minRecall,
    autoRecall,
    manual = false,
    wait = false,
  }: AlterVectorFieldOptions,
): pb.AlterVectorFieldRequest {
  return {
    ...{ collection, field: wellFormed(field, "field"), manual, wait },
    datatype: datatype === undefined ? pb.Datatype.UNSPECIFIED : lookUp(datatypeToWire, datatype, "datatype"),
    m: wholeNumber(m, "m"),
    efConstruction: wholeNumber(efConstruction, "efConstruction"),
    ...(originals !== undefined && { originals }),
    ...(minRecall !== undefined && { minRecall: givenNumber(minRecall, "minRecall") }),
    ...(autoRecall !== undefined && { autoRecall: givenNumber(autoRecall, "autoRecall") }),
  };
}

export function alterPayloadIndexToWire(
  collection: string,
  path: string,
  { manual = false, wait = false, bm25 }: AlterPayloadIndexOptions,
): pb.AlterPayloadIndexRequest {
  return { collection, manual, wait, index: payloadIndexToWire(path, "bm25", bm25 === undefined ? {} : { bm25 }) };
}

/** What names the generation beside the one that answers. */
export function otherOf(collection: string, field: string, options?: GenerationOptions): pb.DropGenerationRequest {
  return { collection, field: wellFormed(field, "field"), index: wellFormed(options?.index ?? "", "index") };
}

export function alteredFromWire({
  collection,
  generation,
}: pb.AlterVectorFieldResponse | pb.AlterPayloadIndexResponse): AlteredVectorField {
  return { collection: collectionFromWire(collection), generation };
}

export function generationsFromWire(wires: readonly pb.Generation[]): GenerationInfo[] {
  return wires.map(({ state, datatype, recall, shadow, ...generation }) => ({
    ...generation,
    state: nameOf(states, state, "building"),
    datatype: nameOf(datatypeToWire, datatype, "f32"),
    ...(recall && { recall: { ...recall } }),
    ...(shadow && { shadow: { ...shadow } }),
  }));
}

export function textGenerationsFromWire(wires: readonly pb.TextGeneration[]): TextGenerationInfo[] {
  return wires.flatMap(({ state, bm25, index, ...generation }) => {
    // An analyzer of a newer server.
    const options = bm25From(bm25, index);
    return options === undefined
      ? []
      : [{ ...generation, index, state: nameOf(states, state, "building"), bm25: options }];
  });
}
