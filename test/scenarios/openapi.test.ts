/** The document of the API: valid, and enough for a generated client, whose program runs against a real server. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createConfig, lintFromString } from "@redocly/openapi-core";
import openapiTS, { astToString } from "openapi-typescript";
import ts from "typescript";
import { afterAll, beforeAll, expect, test } from "vitest";
import { TestServer } from "../cluster/rest-server.js";

/** Within the checkout, so that programs there find its packages; ignored by git. */
const generated = join(process.cwd(), ".kith");

let server: TestServer;
let document: string;
beforeAll(async () => {
  server = await TestServer.start();
  document = (await server.call("GET", "/openapi.json")).text;
});
afterAll(() => server.close());

test("the linter finds nothing", async () => {
  const config = await createConfig({ extends: ["recommended"], rules: { "operation-4xx-response": "off" } });
  const problems = await lintFromString({ source: document, config });
  expect(
    problems.map(({ ruleId, message, location }) => `${ruleId}: ${message} ${JSON.stringify(location[0]?.pointer)}`),
  ).toEqual([]);
});

const program = `
import createClient from "openapi-fetch";
import type { paths } from "./api.js";

export async function run(baseUrl: string): Promise<unknown> {
  const client = createClient<paths>({ baseUrl });
  const path = { collection: "books" };
  const created = await client.POST("/v1/collections", { body: { name: "books", vectors: [{ dimension: 2, metric: "cosine" }] } });
  const points = [{ id: 1, vector: [1, 0], payload: { title: "Dune", year: 1965 } }, { id: "b", vector: [0, 1], payload: { year: 2001 } }];
  const written = await client.POST("/v1/collections/{collection}/points", { params: { path }, body: { points } });
  const found = await client.POST("/v1/collections/{collection}/query", {
    params: { path },
    body: { vector: [1, 0.1], limit: 1, filter: "year < 2000", select: { payload: true } },
  });
  const first: number | undefined = found.data?.points[0]?.score;
  const one = await client.GET("/v1/collections/{collection}/points/{id}", { params: { path: { ...path, id: "b" } } });
  const failed = await client.GET("/v1/collections/{collection}", { params: { path: { collection: "none" } } });
  return { name: created.data?.collection?.name, upserted: written.data?.upserted, first, payload: one.data?.payload, code: failed.error?.code };
}
`;

test("a client that is generated from it compiles and works", { timeout: 60_000 }, async () => {
  mkdirSync(generated, { recursive: true });
  const folder = mkdtempSync(join(generated, "openapi-"));
  try {
    writeFileSync(join(folder, "api.ts"), astToString(await openapiTS(document)));
    writeFileSync(join(folder, "package.json"), '{"type":"module"}');
    writeFileSync(join(folder, "program.ts"), program);
    const compiled = ts.createProgram([join(folder, "program.ts")], {
      strict: true,
      module: ts.ModuleKind.NodeNext,
      moduleResolution: ts.ModuleResolutionKind.NodeNext,
      target: ts.ScriptTarget.ES2022,
      types: [],
      skipLibCheck: true,
      lib: ["lib.es2022.d.ts", "lib.dom.d.ts", "lib.dom.iterable.d.ts"],
    });
    const { diagnostics } = compiled.emit();
    const found = [...ts.getPreEmitDiagnostics(compiled), ...diagnostics];
    expect(found.map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"))).toEqual([]);
    const { run } = (await import(join(folder, "program.js"))) as { run: (url: string) => Promise<unknown> };
    expect(await run(server.url)).toEqual({
      name: "books",
      upserted: 2,
      first: expect.closeTo(0.995, 2) as unknown,
      payload: { year: 2001 },
      code: "COLLECTION_NOT_FOUND",
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
