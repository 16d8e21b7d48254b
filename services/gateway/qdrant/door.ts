import { LazyDoor } from "../rest/lazy-door.js";
import type { QdrantOptions } from "./options.js";

/** The port of Qdrant's REST API. */
export class QdrantDoor extends LazyDoor {
  constructor(options: QdrantOptions) {
    super(options, "the service of Qdrant's API", async () => {
      const { QdrantServer } = await import("./server.js");
      const { selfOf } = await import("./self.js");
      return new QdrantServer(options, selfOf(options));
    });
  }
}
