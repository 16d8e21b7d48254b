export { exactNeighbours, type GroundTruth, readGroundTruth, recallAtK } from "./ground-truth.js";
export { guessFormat, openDataset } from "./open.js";
export { withPayloads } from "./payloads.js";
export { generateMatrix, VectorGenerator } from "./random.js";
export {
  type ColumnType,
  columnTypes,
  type Dataset,
  type DatasetBatch,
  type DatasetFormat,
  datasetFormats,
  type ReadDatasetOptions,
  rowNumberOf,
  valueAt,
} from "./types.js";
