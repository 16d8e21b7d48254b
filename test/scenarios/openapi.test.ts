/** The document of the API: valid, and enough for a generated client, whose program runs against a real server. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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
  const path = { collection: "own-books" };
  const created = await client.POST("/v1/collections", { body: { name: "own-books", vectors: [{ dimension: 2, metric: "cosine" }] } });
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

/** The requests of the page's examples, as calls of the generated client. */
function examplesOf(page: string): string {
  const { paths } = JSON.parse(document) as { paths: Record<string, object> };
  const lines = page.split("\n").filter((line) => line.startsWith("curl "));
  const calls = lines.map((line) => {
    const [, path = "", body = ""] = /^curl -s localhost:7780(\S+) .*-d '(.*)'$/.exec(line) ?? [];
    const template = Object.keys(paths).find((each) => new RegExp(`^${each.replace(/{\w+}/g, "[^/]+")}$`).test(path));
    if (template === undefined) throw new Error(`there is no path for ${line}`);
    const names = [...template.matchAll(/{(\w+)}/g)].map(([, name = ""]) => name);
    const values = new RegExp(`^${template.replace(/{\w+}/g, "([^/]+)")}$`).exec(path)?.slice(1) ?? [];
    const params = Object.fromEntries(names.map((name, i) => [name, values[i]]));
    const given = names.length === 0 ? "" : `params: { path: ${JSON.stringify(params)} }, `;
    return `answers.push(await client.POST(${JSON.stringify(template)}, { ${given}body: ${body} }));`;
  });
  return `
import createClient from "openapi-fetch";
import type { paths } from "./api.js";

export async function run(baseUrl: string): Promise<unknown> {
  const client = createClient<paths>({ baseUrl });
  const answers: { data?: unknown; error?: unknown }[] = [];
  ${calls.join("\n  ")}
  return answers.map(({ data, error }) => error ?? data);
}
`;
}

type Program = (url: string) => Promise<unknown>;

/** The programs, compiled against the types of the document. */
async function built(folder: string, sources: readonly string[]): Promise<Program[]> {
  writeFileSync(join(folder, "api.ts"), astToString(await openapiTS(document)));
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  const files = sources.map((source, i) => {
    const file = join(folder, `program-${i}.ts`);
    writeFileSync(file, source);
    return file;
  });
  const compiled = ts.createProgram(files, {
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
  return Promise.all(files.map(async (file) => ((await import(file.replace(/ts$/, "js"))) as { run: Program }).run));
}

test("a client that is generated from it compiles, works, and runs the examples of the page", {
  timeout: 60_000,
}, async () => {
  mkdirSync(generated, { recursive: true });
  const folder = mkdtempSync(join(generated, "openapi-"));
  try {
    const examples = examplesOf(readFileSync("docs/rest.md", "utf8"));
    const [own, ofPage] = await built(folder, [program, examples]);
    expect(await own?.(server.url)).toEqual({
      name: "own-books",
      upserted: 2,
      first: expect.closeTo(0.995, 2) as unknown,
      payload: { year: 2001 },
      code: "COLLECTION_NOT_FOUND",
    });
    expect(await ofPage?.(server.url)).toEqual([
      expect.objectContaining({ collection: expect.objectContaining({ name: "books" }) as unknown }),
      expect.objectContaining({ upserted: 1 }),
      expect.objectContaining({
        points: [expect.objectContaining({ id: 1, payload: { title: "Dune", year: 1965 } })],
      }),
    ]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the reference page asks for nothing from anywhere", async () => {
  const { text: page, headers } = await server.call("GET", "/docs");
  expect(headers.get("content-security-policy")).toMatch(/^default-src 'none'; style-src 'unsafe-inline'/);
  const tags = new Set([...page.matchAll(/<([a-z0-9]+)/g)].map(([, tag]) => tag));
  const plain = ["html", "head", "meta", "title", "style", "body", "nav", "section", "p", "a", "code", "span"];
  plain.push("h1", "h2", "h3", "details", "summary", "table", "tr", "th", "td");
  expect([...tags].filter((tag) => !plain.includes(tag ?? ""))).toEqual([]);
  expect(page).not.toMatch(/url\(|@import|\s(src|srcset|data|action|background|on\w+)=/);
  const targets = [...page.matchAll(/href="([^"]*)"/g)].map(([, target = ""]) => target);
  const ids = new Set([...page.matchAll(/id="([^"]*)"/g)].map(([, id]) => `#${id}`));
  expect(targets.length).toBeGreaterThan(50);
  expect(targets.filter((target) => target !== "/openapi.json" && !ids.has(target))).toEqual([]);
});
