import { expect, test } from "vitest";
import { rpcRules } from "../../libs/auth/index.js";
import { pb } from "../../libs/wire/index.js";
import { Door } from "./door.js";
import { Router, type RouterOptions } from "./router.js";

/** The paths of all methods of all public services, as they were generated. */
function pathsOf(services: readonly object[]): string[] {
  return services.flatMap((service) => Object.values(service).map(({ path }: { path: string }) => path)).sort();
}

const services = Object.entries(pb).flatMap(([name, value]) => (name.endsWith("Service") ? [value as object] : []));

test("every call of the public services has a verb, and no other has", () => {
  expect(services.length).toBeGreaterThan(5);
  expect(Object.keys(rpcRules).sort()).toEqual(pathsOf(services));
});

test("a router serves all of them, and none without a verb", () => {
  expect(() =>
    new Door({ ownName: () => undefined }).guard(
      { f: { path: "/kith.v1.Points/New", responseStream: false } },
      {} as never,
    ),
  ).toThrow(/not in the table/);
  const served: object[] = [];
  const server = {
    unsentBytes: 0,
    addService: (definition: object, handlers: object) => {
      served.push(definition);
      expect(Object.keys(handlers).sort()).toEqual(Object.keys(definition).sort());
    },
  };
  const nothing = { onChange: () => () => undefined, onAvailability: () => () => undefined };
  const options = {
    ...{ collections: { ...nothing, values: () => [], directory: nothing }, catalog: nothing, settings: nothing },
    ...{ clock: { every: () => ({ unref: () => ({ close: () => undefined }) }), monotonicMs: () => 0 } },
    auth: { authenticator: undefined, store: {} },
  };
  new Router(options as unknown as RouterOptions).serve(server);
  expect(pathsOf(served)).toEqual(pathsOf(services));
});
