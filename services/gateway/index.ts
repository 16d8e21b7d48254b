export { LocalBackend, RemoteBackend } from "./rest/backend.js";
export { RestServer } from "./rest/server.js";
