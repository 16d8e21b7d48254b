import { testNatsBinary } from "../../libs/nats-server/testing.js";

/** Before any test: finds a nats-server, or fetches one, which takes longer than a single test may. */
export async function setup(): Promise<void> {
  console.log(`nats-server of the tests: ${await testNatsBinary()}`);
}
