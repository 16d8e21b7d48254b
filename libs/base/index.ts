export { defaultTarget, hostPort } from "./address.js";
export { abortReason, backoffMs, type Cancellation, type Deferred, deferred, heardByMany, withAbort } from "./async.js";
export { type Clock, sleep, systemClock, type Timer, withTimeout } from "./clock.js";
export {
  assert,
  AssertionError,
  type ErrorCode,
  type ErrorDetails,
  errorTable,
  isErrorCode,
  KithError,
  type KithErrorOptions,
  reasonOf,
  toKithError,
} from "./errors.js";
export { makeFolder, prepareData } from "./folder.js";
export { type FormatMark, refuseNewer } from "./format.js";
export { crc32c } from "./crc32c.js";
export { giveHeadroom, takeHeadroom } from "./headroom.js";
export { errorChain, levelError, openLevel } from "./leveldb.js";
export { limits } from "./limits.js";
export { getOwn, setOwn } from "./own.js";
export { ownText } from "./own-text.js";
export { segmented } from "./segmented.js";
export { type Random, SeededRandom, systemRandom } from "./random.js";
export { ReopeningDatabase } from "./reopening.js";
export { type Runtime, systemRuntime } from "./runtime.js";
export { Slab } from "./slab.js";
