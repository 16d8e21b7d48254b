import { expect, it } from "vitest";
import { SlotTable } from "./slot-table.js";

it("gives each item a slot and uses the slots again", () => {
  const table = new SlotTable<{ name: string }>();
  const a = table.add({ name: "a" });
  const b = table.add({ name: "b" });
  expect([table.at(a)?.name, table.at(b)?.name, table.size]).toEqual(["a", "b", 2]);
  table.remove(a);
  expect([table.at(a), table.at(-1), table.size]).toEqual([undefined, undefined, 1]);
  expect(table.add({ name: "c" })).toBe(a);
  expect([...table].map(({ name }) => name)).toEqual(["c", "b"]);
});

it("lets its items be removed while it is walked", () => {
  const table = new SlotTable<{ slot: number }>();
  for (let i = 0; i < 5; i++) {
    const item = { slot: 0 };
    item.slot = table.add(item);
  }
  for (const { slot } of table) {
    table.remove(slot);
    if (slot === 1) table.remove(3);
  }
  expect(table.size).toBe(0);
});
