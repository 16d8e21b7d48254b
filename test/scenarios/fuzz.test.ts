/** A short and repeatable form of `npm run test:fuzz`: mutated requests at every door break nothing. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { testNatsServer, type TestNatsServer } from "../../libs/nats-server/testing.js";
import { rpcRules } from "../../libs/auth/index.js";
import { SeededRandom } from "../../libs/base/index.js";
import { qdrantRoutes, restRoutes } from "../../services/gateway/testing/routes.js";
import { RequestGenerator } from "../fuzz/generate-json.js";
import { generatedGrpc, QdrantGrpcAsker, QdrantRestAsker, routedRest } from "../fuzz/qdrant-doors.js";
import { fuzz } from "../fuzz/run.js";
import { publicMethods, startTarget, type Target } from "../fuzz/target.js";

let nats: TestNatsServer;
let target: Target;
beforeAll(async () => {
  nats = await testNatsServer();
  target = await startTarget(nats.url);
});
afterAll(async () => {
  await target.close();
  await nats.dispose();
});

test("fields that nobody knows are ignored in requests of Qdrant's clients", async () => {
  const rest = new QdrantRestAsker(target.node.qdrantAddress);
  const grpc = new QdrantGrpcAsker(target.node.qdrantGrpcAddress);
  const unknown = Buffer.from([0xf8, 0x7c, 0x01, 0x82, 0x7d, 0x02, 0x08, 0x01]);
  try {
    for (const { method, path, body } of target.qdrant.rest.filter(({ body }) => body !== "")) {
      const known = await rest.ask({ method, path, body: Buffer.from(body) });
      const more = JSON.stringify({ ...(JSON.parse(body) as object), no_such_field: { a: [1] } });
      expect(await rest.ask({ method, path, body: Buffer.from(more) }), `${method} ${path} ${body}`).toBe(known);
    }
    for (const { path, bytes } of target.qdrant.grpc) {
      const known = await grpc.ask(path, bytes);
      expect(await grpc.ask(path, Buffer.concat([bytes, unknown])), path).toBe(known);
    }
  } finally {
    rest.close();
    grpc.close();
  }
});

test("there is a request of each call of every door, and each is known to it", async () => {
  const random = new SeededRandom(1);
  const grpc = new QdrantGrpcAsker(target.node.qdrantGrpcAddress);
  const rest = new QdrantRestAsker(target.node.qdrantAddress);
  try {
    for (const method of publicMethods("qdrant")) {
      const { path, bytes } = generatedGrpc(method, random);
      // A call that there is not would be answered without the details of an error, which the asker refuses.
      await grpc.ask(path, bytes);
    }
    for (const route of qdrantRoutes) {
      const { method, path, body } = routedRest(route, target.qdrant.rest, random);
      await rest.ask({ method, path, body: Buffer.from(body) });
    }
  } finally {
    grpc.close();
    rest.close();
  }
  const own = target.methods.map(({ parent, name }) => `/${parent.typeName}/${name}`);
  expect(own.sort()).toEqual(Object.keys(rpcRules).sort());
  const operations = new RequestGenerator(target.openApi, target.words).paths;
  expect(operations.length).toBeGreaterThanOrEqual(restRoutes.length);
});

test("mutated requests over gRPC, REST, the link, between nodes and of Qdrant's clients are answered or refused", {
  timeout: 60_000,
}, async () => {
  const { faults, doors } = await fuzz(target, 600, 20_261, () => undefined);
  expect(faults).toEqual([]);
  for (const [name, { requests, answers }] of doors) {
    expect(requests, name).toBeGreaterThan(4);
    expect(answers.size, name).toBeGreaterThan(0);
  }
  expect(target.errors).toEqual([]);
});
