export * from "./ground-truth.js";
export { guessFormat, openDataset } from "./open.js";
export { withPayloads } from "./payloads.js";
export * from "./random.js";
export * from "./types.js";
