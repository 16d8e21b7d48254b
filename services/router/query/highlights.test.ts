/** Marking the texts of many results: others have the event loop in between, whoever leaves ends it, and an answer has a bound. */
import { expect, it } from "vitest";
import { type Clock, KithError, limits, systemClock } from "../../../libs/base/index.js";
import { analyzerDefaults, type Bm25Options, type Hit, idFromNum } from "../../../libs/model/index.js";
import { analyzerOf, highlightPayload, type HighlightOptions, parseText } from "../../../libs/text/index.js";
import { call } from "../testing/router.js";
import { highlighted, type Highlighting } from "./highlights.js";

const index: Bm25Options = { fields: [{ path: "body", weight: 1, b: 0.75 }], k1: 1.2, analyzer: analyzerDefaults };
function highlighting(text: string, options: HighlightOptions = {}, keepsPayload = false): Highlighting {
  return { words: parseText(text, analyzerOf(analyzerDefaults), false), index, options, keepsPayload };
}

/** Results whose payloads have about so many bytes each. */
function hitsOf(count: number, bytes: number, word: string): Hit[] {
  const body = `${word} `.repeat(bytes / (word.length + 1));
  const payload = new TextEncoder().encode(JSON.stringify({ body }));
  return Array.from({ length: count }, (_, i) => ({ id: idFromNum(i), score: 1, version: 1, payload }));
}

/** A clock that counts the turns of the event loop which it gives to others, and tells of each. */
function counted(onTurn: (turns: number) => void = () => undefined): { clock: Clock; turns: () => number } {
  let turns = 0;
  const soon = (callback: () => void): void => {
    onTurn(++turns);
    systemClock.soon(callback);
  };
  return { clock: { ...systemClock, soon }, turns: () => turns };
}

it("others have the event loop at least once in 128 KiB of payloads", async () => {
  const { clock, turns } = counted();
  const hits = hitsOf(64, 16 * 1024, "wing");
  let ticks = 0;
  let isOver = false;
  const tick = (): void => {
    ticks++;
    if (!isOver) setImmediate(tick);
  };
  setImmediate(tick);
  const marked = await highlighted(hits, highlighting("wing", { fragmentCount: 1 }), call, clock);
  isOver = true;
  expect(turns()).toBeGreaterThanOrEqual(8);
  expect(ticks).toBeGreaterThanOrEqual(turns() - 1);
  const { body = "" } = JSON.parse(new TextDecoder().decode(hits[0]?.payload)) as { body?: string };
  const expected = highlightPayload({ body }, highlighting("wing").words, index, { fragmentCount: 1 });
  for (const { highlights, payload } of marked) {
    expect(highlights).toEqual(expected);
    expect(payload.length).toBe(0);
  }
  // Small ones do not wait for a turn each.
  const small = counted();
  await highlighted(hitsOf(100, 100, "wing"), highlighting("wing"), call, small.clock);
  expect(small.turns()).toBe(0);
});

it("whoever leaves ends it at the next turn, by a signal or a cancellation", async () => {
  for (const by of ["signal", "cancellation"] as const) {
    const leaving = new AbortController();
    const reason = new KithError("CANCELLED", "the caller has left");
    const { clock, turns } = counted((turn) => {
      if (turn === 2) leaving.abort(reason);
    });
    const made = highlighted(
      hitsOf(64, 16 * 1024, "wing"),
      highlighting("wing"),
      { ...call, [by]: leaving.signal },
      clock,
    );
    await expect(made).rejects.toBe(reason);
    expect(turns(), by).toBe(2);
  }
});

it("an answer has as many characters as it may have, and one more is refused, with what to do", async () => {
  const mark = "<".repeat(limits.highlightMarkLength);
  const options = { before: mark, after: mark, fragmentLength: limits.highlightLength, fragmentCount: 100 };
  const [hit] = hitsOf(1, 16 * 1024, "x") as [Hit];
  const [one] = await highlighted([hit], highlighting("x", options, true), call, systemClock);
  const units = (one?.highlights?.["body"] ?? []).reduce((sum, { length }) => sum + length, 0);
  expect(units).toBeGreaterThan(8_000 * 2 * mark.length);
  expect(one?.payload).toBe(hit.payload);
  const most = Math.floor(limits.highlightAnswer / units);
  const many = (count: number): Promise<Hit[]> =>
    highlighted(new Array<Hit>(count).fill(hit), highlighting("x", options), call, systemClock);
  expect((await many(most)).length).toBe(most);
  await expect(many(most + 1)).rejects.toMatchObject({
    code: "LIMIT_OUT_OF_RANGE",
    message: expect.stringContaining(`more than ${limits.highlightAnswer} characters; ask for fewer results`) as string,
    details: { field: "highlight", max: limits.highlightAnswer },
  });
});
