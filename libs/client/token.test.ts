import { expect, test } from "vitest";
import { Session } from "./token.js";

const of = (collectionId: string, sequence: number) => ({ collectionId, shards: [{ shard: 0, sequence }] });

/** A session that has written to "new", and the epoch of a call that started before. */
function remade(): { session: Session; before: number } {
  const session = new Session();
  session.wrote(of("old", 90), session.epoch);
  const before = session.epoch;
  session.clear(before);
  session.wrote(of("new", 5), session.epoch);
  return { session, before };
}

test("what a call brings from a collection that was left meanwhile is ignored", () => {
  const { session, before } = remade();
  session.read(of("old", 91), before);
  session.wrote(of("old", 92), before);
  expect(session.token).toEqual({ collectionId: "new", shards: { 0: 5 } });
  session.read(of("new", 7), before);
  expect(session.token).toEqual({ collectionId: "new", shards: { 0: 7 } });
});

test("a refusal of an earlier collection's token leaves the new one's alone", () => {
  const { session, before } = remade();
  session.clear(before);
  expect(session.token).toEqual({ collectionId: "new", shards: { 0: 5 } });
  session.clear(session.epoch);
  expect(session.token).toEqual({ collectionId: "", shards: {} });
});

test("a write displaces the token of another collection, a read does not", () => {
  const { session } = remade();
  session.read(of("old", 91), session.epoch);
  expect(session.token.collectionId).toBe("new");
  session.wrote(of("newer", 1), session.epoch);
  expect(session.token).toEqual({ collectionId: "newer", shards: { 0: 1 } });
});

test("a read fills an empty session, and a write that began with it still displaces that", () => {
  const session = new Session();
  const { epoch } = session;
  session.read(of("old", 91), epoch);
  expect(session.token).toEqual({ collectionId: "old", shards: { 0: 91 } });
  session.wrote(of("new", 5), epoch);
  session.read(of("old", 92), epoch);
  expect(session.token).toEqual({ collectionId: "new", shards: { 0: 5 } });
});

test("a write that was in flight when its session was cleared is not forgotten", () => {
  const session = new Session();
  session.wrote(of("old", 90), session.epoch);
  const { epoch } = session;
  // A read was refused meanwhile: somebody has made the collection anew.
  session.clear(epoch);
  session.read(of("old", 91), epoch);
  expect(session.token).toEqual({ collectionId: "", shards: {} });
  session.wrote(of("new", 5), epoch);
  expect(session.token).toEqual({ collectionId: "new", shards: { 0: 5 } });
});

test("a created collection's own writes are kept whichever answer comes first", () => {
  for (const order of ["create first", "write first"]) {
    const { session } = remade();
    const { epoch } = session;
    if (order === "create first") session.begin("newer");
    session.wrote(of("newer", 3), epoch);
    session.begin("newer");
    expect(session.token).toEqual({ collectionId: "newer", shards: { 0: 3 } });
  }
});

test("the wire form is built once per change", () => {
  const { session } = remade();
  const wire = session.consistency();
  session.read(of("new", 4), session.epoch);
  expect(session.consistency()).toBe(wire);
  session.read(of("new", 6), session.epoch);
  expect(session.consistency()).toEqual({ level: { $case: "atLeast", value: of("new", 6) } });
});
