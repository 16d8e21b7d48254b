import { LazyDoor } from "./lazy-door.js";
import type { RestOptions } from "./server.js";

/** The port of the REST service. */
export class RestDoor extends LazyDoor {
  constructor(options: RestOptions) {
    super(options, "the REST service", async () => {
      const { RestServer } = await import("./server.js");
      return RestServer.make(options);
    });
  }
}
