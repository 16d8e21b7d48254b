import type { TestProject } from "vitest/node";
import { exampleGrpcurl, examplePython } from "./examples.js";

/**
 * Before any test: makes what the examples' tests need, which keeps both cores busy for a while the first time, and would make
 * tests beside it late. Only where these tests run. What cannot be made fails them, with the reason; the others run.
 */
export async function setup(project: TestProject): Promise<void> {
  if (!project.vitest.state.getPaths().some((path) => path.endsWith("examples.test.ts"))) return;
  for (const make of [examplePython, exampleGrpcurl]) {
    await make(console.log).catch((error: unknown) => console.log(String(error)));
  }
}
