/** A short and repeatable form of `npm run test:fuzz`: mutated requests at every door break nothing. */
import { expect, test } from "vitest";
import { testNatsServer } from "../../libs/nats-server/testing.js";
import { fuzz } from "../fuzz/run.js";
import { startTarget } from "../fuzz/target.js";

test("mutated requests over gRPC, REST, the link and between nodes are answered or refused", {
  timeout: 60_000,
}, async () => {
  const nats = await testNatsServer();
  const target = await startTarget(nats.url);
  try {
    const { faults, doors } = await fuzz(target, 600, 20_261, () => undefined);
    expect(faults).toEqual([]);
    for (const [name, { requests, answers }] of doors) {
      expect(requests, name).toBeGreaterThan(4);
      expect(answers.size, name).toBeGreaterThan(0);
    }
    expect(target.errors).toEqual([]);
  } finally {
    await target.close();
    await nats.dispose();
  }
});
