import type { Server } from "@grpc/grpc-js";
import { HealthImplementation } from "grpc-health-check";

/** grpc.health.v1.Health: what Kubernetes' gRPC probes and load balancers ask. */
export class HealthService {
  readonly #health = new HealthImplementation({ "": "NOT_SERVING" });

  addTo(server: Server): void {
    this.#health.addToServer(server);
  }

  set(service: string, serving: boolean): void {
    this.#health.setStatus(service, serving ? "SERVING" : "NOT_SERVING");
  }
}
