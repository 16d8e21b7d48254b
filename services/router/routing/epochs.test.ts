import { expect, test } from "vitest";
import { KithError, systemClock } from "../../../libs/base/index.js";
import { ShiftedClock } from "../../../libs/base/testing.js";
import { noTrace } from "../../../libs/telemetry/index.js";
import { Epochs } from "./epochs.js";
import type { RoutedCollection } from "./routed-collection.js";

const call = { trace: noTrace };
const record = { id: "c", name: "films", epoch: 1, schemaVersion: 3 };

/** Epochs of a router that knows one collection. */
function epochs(): Epochs {
  const find = (): RoutedCollection => ({ record }) as unknown as RoutedCollection;
  const collections = { naming: { find: () => undefined } } as never;
  return new Epochs({ collections, clock: new ShiftedClock(systemClock), find });
}

function unknown(details: { schemaVersion?: number }): KithError {
  return new KithError("UNKNOWN_VECTOR", 'the collection has no vector field "words"', { details });
}

test("a replica that has not come to a new field yet is asked again", async () => {
  let attempts = 0;
  const attempt = (): Promise<number> =>
    ++attempts < 3 ? Promise.reject(unknown({ schemaVersion: 2 })) : Promise.resolve(attempts);
  expect(await epochs().retrying("films", call, attempt)).toBe(3);
});

test.each([
  ["by a replica that has the schema", { schemaVersion: 3 }],
  ["by one that has a later one", { schemaVersion: 4 }],
  ["by the router itself", {}],
])("a field that the collection does not have is refused at once, %s", async (_, details) => {
  let attempts = 0;
  const attempt = (): Promise<number> => {
    attempts++;
    return Promise.reject(unknown(details));
  };
  await expect(epochs().retrying("films", call, attempt)).rejects.toMatchObject({ code: "UNKNOWN_VECTOR" });
  expect(attempts).toBe(1);
});
