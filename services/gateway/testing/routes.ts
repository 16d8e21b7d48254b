export { type QdrantRoute, routes as qdrantRoutes } from "../qdrant/routes.js";
export { routes as restRoutes } from "../rest/routes.js";
