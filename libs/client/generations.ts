import { pb } from "../wire/index.js";
import { collectionFromWire, datatypeToWire, lookUp, nameOf } from "./decode.js";
import { wholeNumber } from "./numbers.js";
import type { AlteredVectorField, AlterVectorFieldOptions, GenerationInfo, GenerationState } from "./types.js";
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
  { datatype, m = 0, efConstruction = 0, originals, minRecall, manual = false, wait = false }: AlterVectorFieldOptions,
): pb.AlterVectorFieldRequest {
  return {
    ...{ collection, field: wellFormed(field, "field"), manual, wait },
    datatype: datatype === undefined ? pb.Datatype.UNSPECIFIED : lookUp(datatypeToWire, datatype, "datatype"),
    m: wholeNumber(m, "m"),
    efConstruction: wholeNumber(efConstruction, "efConstruction"),
    ...(originals !== undefined && { originals }),
    ...(minRecall !== undefined && { minRecall }),
  };
}

export function alteredFromWire({ collection, generation }: pb.AlterVectorFieldResponse): AlteredVectorField {
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
