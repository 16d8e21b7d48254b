export { limitOf } from "./limits.js";
export { compareHits, mergeHits } from "./merge.js";
export { mergePages } from "./page.js";
export { finishNearest, type NearestPlan, type NearestRequest, planNearest } from "./plan.js";
export { type Order, orderOf, reaches, scoreOf } from "./score.js";
