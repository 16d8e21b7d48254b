export { metricsFor } from "./metrics-page.js";
export { LocalBackend, RemoteBackend } from "./rest/backend.js";
export { QdrantDoor } from "./qdrant/door.js";
export { createQdrantGrpc } from "./qdrant/door-grpc.js";
export { RestDoor } from "./rest/door.js";
