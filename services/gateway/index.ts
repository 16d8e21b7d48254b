export { LocalBackend, RemoteBackend } from "./rest/backend.js";
export { QdrantDoor } from "./qdrant/door.js";
export { RestDoor } from "./rest/door.js";
