import { expect, test } from "vitest";
import { formatId, idFromName, idFromNum, idFromUuid, type IdKey } from "../../model/index.js";
import { SlotTable } from "./slots.js";

const uuid = "01234567-89ab-cdef-0123-456789abcdef";

test("ids of every kind and large versions come back as they went in", () => {
  const table = new SlotTable();
  const ids = [idFromNum(0), idFromNum(0xffff_ffff_ffff_ffffn), idFromUuid(uuid), idFromName("é".repeat(128))];
  for (let i = 0; i < 5_000; i++) {
    table.insert(table.allocate(), ids[i % 4] as IdKey, 2 ** 40 + i, i % 3 === 0);
  }
  for (let slot = 0; slot < 5_000; slot++) {
    expect(formatId(table.idOf(slot))).toBe(formatId(ids[slot % 4] as IdKey));
    expect([table.versionOf(slot), table.hasPayload(slot)]).toEqual([2 ** 40 + slot, slot % 3 === 0]);
  }
});

test("a numeric point costs 14 bytes", () => {
  const table = new SlotTable();
  table.setEnd(1_000_000);
  expect(table.memoryBytes).toBeLessThan(14.1 * 1_000_000);
});

test("a dead slot is given out again only after its release, and broken order is noticed", () => {
  const table = new SlotTable();
  const slot = table.allocate();
  table.insert(slot, idFromNum(1), 1, false);
  expect(() => table.insert(slot, idFromNum(2), 2, false)).toThrow(/already taken/);
  table.tombstone(slot);
  expect(() => table.tombstone(slot)).toThrow(/not taken/);
  expect(table.allocate()).toBe(1);
  // Slot 1 is promised to a point that is being written: it is not dead.
  expect([...table.deadSlots()]).toEqual([0]);
  table.release(Uint32Array.of(0));
  expect(() => table.release(Uint32Array.of(0))).toThrow(/cannot be given out again/);
  expect(table.allocate()).toBe(0);
});

test("the bytes of dead string ids are given back", () => {
  const table = new SlotTable();
  const name = (n: number): IdKey => idFromName(String(n).padStart(200, "x"));
  for (let n = 0; n < 10_000; n++) table.insert(table.allocate(), name(n), 1, false);
  for (let slot = 0; slot < 9_000; slot++) table.tombstone(slot);
  const before = table.memoryBytes;
  table.release(table.deadSlots());
  expect(table.memoryBytes).toBeLessThan(before / 2);
  for (let slot = 9_000; slot < 10_000; slot++) expect(table.idOf(slot)).toEqual(Buffer.from(name(slot)));
});
