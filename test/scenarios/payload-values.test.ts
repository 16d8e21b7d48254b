/** Texts that UTF-8 cannot hold and numbers that no double holds: every door refuses them with their path; all others are kept as written. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, type ItemError, type KithClient } from "../../libs/client/index.js";
import { TestServer } from "../cluster/rest-server.js";

let server: TestServer;
let client: KithClient;
beforeAll(async () => {
  server = await TestServer.start({}, { qdrant: { httpPort: 0 } });
  client = await connect(server.node.address);
  await client.collection("values").create({ vectors: { dimension: 2, metric: "l2" } });
});
afterAll(async () => {
  client.close();
  await server.close();
});

const refused: [payload: string, path: string][] = [
  ['{"a":["x\\ud800y"]}', "a[0]"],
  ['{"a":{"\\udc00":1}}', "a"],
  ['{"n":{"m":1e400}}', "n.m"],
  ['{"n":-1E309}', "n"],
];
const kept = '{"n":-0,"m":1e-400,"o":1.50,"big":12345678901234567890,"a":"\\ud83d\\ude00"}';

/** The status of a request with this text, and what the answer says. */
async function send(method: string, url: string, body?: string, type = "application/json"): Promise<[number, string]> {
  const response = await fetch(url, { method, body: body ?? null, headers: { "content-type": type } });
  return [response.status, await response.text()];
}

test("every door refuses them with their path", async () => {
  const values = client.collection("values");
  const rest = `http://${server.node.httpAddress}/v1/collections/values/points`;
  const qdrant = `http://${server.node.qdrantAddress}/collections/values/points`;
  for (const [payload, path] of refused) {
    const error = { code: "INVALID_PAYLOAD", details: { path } };
    const point = { id: 1, vector: [0, 1], payload: Buffer.from(payload) };
    await expect(values.upsert(point)).rejects.toMatchObject(error);
    await expect(values.setPayload(1, Buffer.from(payload))).rejects.toMatchObject(error);
    for (const [method, url, body] of [
      ["POST", rest, `{"points":[{"id":1,"vector":[0,1],"payload":${payload}}]}`],
      ["PUT", `${rest}/1`, `{"vector":[0,1],"payload":${payload}}`],
      ["PUT", `${qdrant}?wait=true`, `{"points":[{"id":1,"vector":[0,1],"payload":${payload}}]}`],
      ["POST", `${qdrant}/payload?wait=true`, `{"points":[1],"payload":${payload}}`],
    ] as const) {
      const [status, text] = await send(method, url, body);
      expect([url, status, text]).toEqual([url, 400, expect.stringMatching(/INVALID_PAYLOAD/)]);
      expect(text).toContain(`"path":"${path}"`);
    }
    const line = `{"id":1,"vector":[0,1],"payload":${payload}}\n`;
    const [, imported] = await send("POST", `${rest}/import`, line, "application/x-ndjson");
    expect(imported).toContain("INVALID_PAYLOAD");
  }
  expect(await values.count()).toBe(0);
  await expect(values.upsert({ id: 1, vector: [0, 1], payload: { a: [{ b: Number.NaN }] } })).rejects.toMatchObject({
    code: "INVALID_PAYLOAD",
    details: { path: "a[0].b" },
  });
});

test("a refused point of many is told with its own place alone", async () => {
  const source = Array.from({ length: 5 }, (_, id) => ({ id, vector: [0, 1], payload: Buffer.from('{"a":1}') }));
  source[3] = { id: 3, vector: [0, 1], payload: Buffer.from('{"a":"\\ud800"}') };
  const errors: ItemError[] = [];
  await client.collection("values").upsertMany(source, { onItemError: (e) => errors.push(e) });
  const message = expect.stringMatching(/^the payload at a: /) as string;
  expect(errors).toEqual([{ index: 3, code: "INVALID_PAYLOAD", message }]);
});

test("what is kept is given as it was written, and reads agree on it", async () => {
  const values = client.collection("values");
  await values.upsert({ id: 9, vector: [0, 1], payload: Buffer.from(kept) });
  const base = `http://${server.node.httpAddress}/v1/collections/values`;
  expect((await send("GET", `${base}/points/9`))[1]).toContain(`"payload":${kept}`);
  const query = '{"vector":[0,1],"limit":9,"select":{"payload":true},"filter":{"must":[{"has_id":[9]}]}}';
  expect((await send("POST", `${base}/query`, query))[1]).toContain(`"payload":${kept}`);
  const ids = async (condition: object): Promise<unknown[]> => {
    const { points } = await values.query({ vector: [0, 1], filter: { must: [condition as never] } });
    return points.map(({ id }) => id);
  };
  expect(await ids({ key: "n", match: { value: 0 } })).toEqual([9]);
  expect(await ids({ key: "m", range: { gte: 0, lte: 0 } })).toEqual([9]);
  expect(await ids({ key: "a", match: { value: "😀" } })).toEqual([9]);
  expect((await values.facet("n")).hits).toEqual([{ value: 0, count: 1 }]);
  expect((await values.facet("big")).hits).toEqual([{ value: "12345678901234567890", count: 1 }]);
  expect((await values.facet("a", { filter: { must: [{ has_id: [9] }] } })).hits).toEqual([{ value: "😀", count: 1 }]);
});
