export { exactIndexesAnswering } from "./testing/exact-index.fixture.js";
export { Model, type ModelPoint } from "./testing/model.fixture.js";
export { given, upsert, World } from "./testing/harness.fixture.js";
export { MultiGeneration } from "./index/multi-generation.js";
export { SparseGeneration } from "./index/sparse-generation.js";
export { TextGeneration } from "./index/text-generation.js";
export { partOf } from "./apply/part-of-record.js";
