import { expect, it } from "vitest";
import { Slab } from "./slab.js";

it("gives each item a slot and uses the slots again", () => {
  const slab = new Slab<{ name: string }>();
  const a = slab.add({ name: "a" });
  const b = slab.add({ name: "b" });
  expect([slab.at(a)?.name, slab.at(b)?.name, slab.size]).toEqual(["a", "b", 2]);
  slab.remove(a);
  expect([slab.at(a), slab.at(-1), slab.size]).toEqual([undefined, undefined, 1]);
  expect(slab.add({ name: "c" })).toBe(a);
  expect([...slab].map(({ name }) => name)).toEqual(["c", "b"]);
});

it("lets its items be removed while it is walked", () => {
  const slab = new Slab<{ slot: number }>();
  for (let i = 0; i < 5; i++) {
    const item = { slot: 0 };
    item.slot = slab.add(item);
  }
  for (const { slot } of slab) {
    slab.remove(slot);
    if (slot === 1) slab.remove(3);
  }
  expect(slab.size).toBe(0);
});
