export { attractorsOf, averageOf, combineSimilarities, examplesOf, mapScorer } from "./examples.js";
export { checkOrder, checkQuery, type FindField } from "./check.js";
export { evaluate, type FormulaInputs } from "./formula.js";
export { fuse } from "./fuse.js";
export { type Group, groupHits, type GroupValue, mergeFacets, mergeOrdered } from "./groups.js";
export { type Grouping, groupValues, runGroups } from "./group-query.js";
export { limitOf } from "./limits.js";
export { compareHits, mergeHits } from "./merge.js";
export { type Candidate, diversify } from "./mmr.js";
export { type Matrix, type MatrixRequest, runMatrix } from "./matrix.js";
export { contentBytes, mergePages } from "./page.js";
export { finishNearest, type NearestPlan, type NearestRequest, planNearest } from "./plan.js";
export { type Projection, project, projectionOf } from "./project.js";
export {
  orderOfScorer,
  type QuerySource,
  runQuery,
  type Scope,
  type SparseSearch,
  type TextSearch,
  type VectorSearch,
} from "./run.js";
export { checkStrictCondition, checkStrictFilter, checkStrictQuery } from "./strict.js";
export { exactScore, type Order, orderOf, reaches, scoreOf } from "./score.js";
export { fieldSimilarity, similarity, similarityOf } from "./similarity.js";
