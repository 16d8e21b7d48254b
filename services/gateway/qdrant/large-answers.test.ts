/** Answers that the front puts together of several ones of the router have a bound, and count until they are written. */
import { systemRandom } from "../../../libs/base/index.js";
import { expect, test } from "vitest";
import type { UnaryContext } from "../../../libs/rpc/server/index.js";
import { pb } from "../../../libs/wire/index.js";
import type { Backend } from "../rest/backend.js";
import { GatheredBytes } from "../rest/gathered.js";
import type { Ask } from "./api.js";
import { getPoints, scroll } from "./reads.js";

const payload = Buffer.from(JSON.stringify({ text: "x".repeat(60 * 1024) }));
const pagePoints = 100;

/** A collection without an end, of pages of 6 MB; points by id come in 36 MB. */
function asking(body: Ask["body"]): { ask: Ask; gathered: GatheredBytes } {
  const gathered = new GatheredBytes();
  const page = (from: number, count: number): pb.Point[] =>
    Array.from({ length: count }, (_, i) =>
      pb.Point.create({
        id: { id: { $case: "num", value: BigInt(from + i) } },
        payload,
        vectors: { "": { values: Float32Array.of(1, 2) } },
      }),
    );
  let at = 0;
  const backend: Pick<Backend, "message" | "gathered"> = {
    gathered,
    message: (({ path }: { path: string }) => {
      const isRead = path.includes("Points/");
      const points = isRead ? page((at += 1_000), path.endsWith("/Scroll") ? pagePoints : 6 * pagePoints) : [];
      const collection = pb.Collection.create({ name: "large" });
      const answer = { points, orders: [], nextCursor: Buffer.from("more"), collection };
      return Promise.resolve(answer);
    }) as unknown as Backend["message"],
  };
  const ask: Ask = {
    backend: backend as Backend,
    call: {} as UnaryContext,
    path: { collection_name: "large" },
    params: new Map(),
    body,
    gathering: gathered.begin(),
    self: { version: "test", random: systemRandom, warn: () => undefined },
  };
  return { ask, gathered };
}

test.each([
  ["a scroll", scroll, { limit: 5_000, with_payload: true }],
  ["points by id", getPoints, { ids: Array.from({ length: 20_000 }, (_, i) => i), with_payload: true }],
] as const)("%s of more than 64 MiB is refused, and what it had read counts no longer", async (_, operation, body) => {
  const { ask, gathered } = asking(body);
  await expect(operation(ask)).rejects.toMatchObject({ code: "BATCH_TOO_LARGE" });
  expect(gathered.bytes).toBeGreaterThan(64 * 1024 * 1024);
  expect(gathered.bytes).toBeLessThan(80 * 1024 * 1024);
  ask.gathering.release();
  ask.gathering.release();
  expect(gathered.bytes).toBe(0);
});

test("a smaller one counts until it is written", async () => {
  const { ask, gathered } = asking({ limit: 150, with_payload: true });
  await scroll(ask);
  expect(gathered.bytes).toBe(2 * pagePoints * (payload.length + 8));
  ask.gathering.release();
  expect(gathered.bytes).toBe(0);
});
