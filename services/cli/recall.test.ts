import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { SeededRandom } from "../../libs/base/index.js";
import { eventually } from "../../libs/base/testing.js";
import { connect } from "../../libs/client/index.js";
import { useNode } from "./testing/node.js";

const served = useNode();

interface Report {
  samples: number;
  curve: { ef: number; recall: number; margin: number; meanMs: number }[];
  live: { k: number; share: number; target: number; samples: number; held: boolean }[];
}

it("recall is measured, asked for by queries and by the collection, and told", async () => {
  const { kith, folder, node } = served;
  const random = new SeededRandom(7);
  const line = (id: number): object => ({
    id,
    vector: Array.from({ length: 24 }, () => random.gaussian()),
    payload: { n: id },
  });
  const file = join(folder, "noise.jsonl");
  writeFileSync(file, Array.from({ length: 6_000 }, (_, id) => JSON.stringify(line(id))).join("\n"));
  const made = await kith(["import", file, "-c", "noise", "--create", "-m", "l2"]);
  expect(made.code, made.err).toBe(0);
  const client = await connect(node.address);
  const noise = client.collection("noise");
  try {
    await noise.waitIndexed();
    const asked = ["recall", "noise", "--samples", "40", "-o", "json"];
    const measured = await kith(asked);
    expect(measured.code, measured.err).toBe(0);
    const { samples, curve, live } = JSON.parse(measured.out) as Report;
    expect(samples).toBe(40);
    expect(live).toEqual([]);
    expect(curve[0]?.ef).toBe(16);
    const last = curve.at(-1);
    expect(last?.recall).toBeGreaterThanOrEqual(0.9995);
    expect(curve[0]?.recall).toBeLessThan(last?.recall ?? 0);

    // Of a query, then of all.
    for (const bad of [0.2, 1]) {
      await expect(noise.query({ point: 1, recallTarget: bad })).rejects.toMatchObject({ code: "LIMIT_OUT_OF_RANGE" });
    }
    const text = "0.9" as unknown as number;
    for (const refused of [noise.query({ point: 1, recallTarget: text }), noise.update({ recallTarget: text })]) {
      await expect(refused).rejects.toThrow('recallTarget is "0.9"; it must be a number');
    }
    await expect(noise.update({ recallTarget: 2 })).rejects.toMatchObject({ code: "LIMIT_OUT_OF_RANGE" });
    const vectorOf = (): Float32Array => Float32Array.from({ length: 24 }, () => random.gaussian());
    await noise.query({ vector: vectorOf(), recallTarget: 0.9, filter: { must: [{ key: "n", range: { lt: 500 } }] } });
    expect((await kith(["search", "noise", "--id", "1", "--recall-target", "0.95"])).code).toBe(0);
    const updated = await kith(["collection", "update", "noise", "--recall-target", "0.98", "-o", "json"]);
    expect(JSON.parse(updated.out)).toMatchObject({ recallTarget: 0.98 });
    expect((await noise.info()).recallTarget).toBe(0.98);
    await eventually(async () => {
      // A tree asks for it like a plain query; what names a width or is exact does not.
      await noise.query({ vector: vectorOf() });
      await noise.query({ query: { nearest: vectorOf() } });
      await noise.query({ vector: vectorOf(), ef: 20 });
      const { recalls } = await noise.stats();
      const [plain, filtered] = recalls;
      expect(plain).toMatchObject({ vector: "", k: 10, share: 1, target: 0.98, held: true });
      expect(plain?.samples).toBeGreaterThan(5);
      expect(plain?.ef).toBeGreaterThan(16);
      expect(filtered).toMatchObject({ k: 10, share: 0.1, target: 0.9 });
      return true;
    });
    const shown = await kith(["recall", "noise", "--samples", "10", "--filter", "n < 3000"]);
    expect(shown.code, shown.err).toBe(0);
    expect(shown.out).toMatch(/^recall@10 of noise, by 10 points as queries\n\nEF +RECALL +± +TIME +\d\.\d TO 1/);
    expect(shown.out).toMatch(/0\.9: from ef \d+ on/);
    expect(shown.out).toMatch(/RESULTS +FILTERS +TARGET +EF +RECALL +± +SAMPLES +HELD\nto 10 +any +0\.98/);
    expect((await kith(["collection", "update", "noise", "--recall-target", "0"])).code).toBe(0);
    expect((await noise.info()).recallTarget).toBeUndefined();
  } finally {
    client.close();
  }
});
