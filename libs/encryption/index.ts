export { type DataKey, KeyRing } from "./key-ring.js";
export { type MasterKey, masterKeysOf } from "./master-keys.js";
export { nonceBytes, type Nonces } from "./nonces.js";
export { openSealed } from "./open-sealed.js";
export { isSealed, missingKeys, sealOverheadBytes } from "./sealed.js";
