import { expect, test } from "vitest";
import { SeededRandom } from "../../base/index.js";
import { beamLadder, RecallCurve } from "./curve.js";

/** What is missed falls by half with each doubling of the width, with chance. */
function sample(random: SeededRandom, missedAt16 = 0.5): number[] {
  return beamLadder.map((ef) => Math.min(1, Math.max(0, 1 - (missedAt16 * 16) / ef + 0.05 * (random.float() - 0.5))));
}

test("without a measurement a wide beam is taken, wider for more", () => {
  const curve = new RecallCurve();
  expect(curve.points()).toEqual([]);
  const widths = [0.9, 0.95, 0.99].map((target) => curve.choose(target, 10));
  expect(widths.map(({ ef }) => ef)).toEqual([128, 256, 512]);
  expect(widths.every(({ canHold, recall }) => canHold && recall === undefined)).toBe(true);
  expect(curve.choose(0.9, 500).ef).toBe(2_000);
});

test("the width is that of the relation, between two that were measured, and a little more with few samples", () => {
  const random = new SeededRandom(3);
  const curve = new RecallCurve();
  for (let i = 0; i < 8; i++) curve.add(sample(random));
  const early = curve.choose(0.95, 10).ef;
  for (let i = 0; i < 400; i++) curve.add(sample(random));
  const { ef, recall, canHold } = curve.choose(0.95, 10);
  // 1 - 8 / ef = 0.95
  expect(ef).toBeGreaterThan(150);
  expect(ef).toBeLessThan(190);
  expect(early).toBeGreaterThan(1.5 * ef);
  expect(recall).toBeGreaterThan(0.945);
  expect(canHold).toBe(true);
  const widths = [0.8, 0.9, 0.95, 0.99].map((target) => curve.choose(target, 10).ef);
  expect(widths).toEqual([...widths].sort((a, b) => a - b));
  const points = curve.points();
  expect(points.every(({ margin }) => margin < 0.01)).toBe(true);
  expect(points.map((point) => point.recall)).toEqual(points.map((point) => point.recall).sort((a, b) => a - b));
});

test("never fewer than the results; one that stops early counts for all wider beams", () => {
  const curve = new RecallCurve();
  for (let i = 0; i < 100; i++) curve.add([0.5, 1]);
  expect(curve.choose(0.99, 10).ef).toBe(24);
  expect(curve.choose(0.99, 200).ef).toBe(256);
  expect(curve.choose(0.99, 10_000).ef).toBe(10_000);
});

test("what is out of reach is told once enough was measured, and the widest is taken", () => {
  const curve = new RecallCurve();
  for (let i = 0; i < 20; i++) curve.add([0.5, 0.9]);
  expect(curve.choose(0.99, 10)).toMatchObject({ canHold: true, ef: 8_192 });
  for (let i = 0; i < 40; i++) curve.add([0.5, 0.9]);
  expect(curve.choose(0.99, 10)).toMatchObject({ canHold: false, ef: 8_192 });
  expect(curve.choose(0.85, 10).canHold).toBe(true);
});

test("what the data have become counts more than what they were", () => {
  const random = new SeededRandom(5);
  const curve = new RecallCurve();
  for (let i = 0; i < 300; i++) curve.add(sample(random));
  const before = curve.choose(0.95, 10).ef;
  for (let i = 0; i < 600; i++) curve.add(sample(random, 2));
  const after = curve.choose(0.95, 10).ef;
  // 1 - 32 / ef = 0.95
  expect(after).toBeGreaterThan(3 * before);
  curve.fade(0.5);
  expect(curve.samples).toBeLessThan(110);
});
