export { LocalBackend, RemoteBackend } from "./rest/backend.js";
export { RestDoor } from "./rest/door.js";
