import type { TestProject } from "vitest/node";
import { findTestNatsServer } from "../../libs/nats-server/testing.js";

/**
 * Before any test: finds a nats-server, or fetches one, which takes longer than a single test may. Where there is none, the
 * tests that need it fail and say why; the others run.
 */
export async function setup(project: TestProject): Promise<void> {
  const found = await findTestNatsServer(process.env["PATH"] ?? "", console.log);
  project.provide("natsServer", found);
  console.log("missing" in found ? found.missing : `nats-server of the tests: ${found.path}, ${found.version}`);
}
