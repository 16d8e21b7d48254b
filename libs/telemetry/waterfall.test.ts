import { expect, test } from "vitest";
import type { CollectedSpan } from "./span.js";
import { renderWaterfall } from "./waterfall.js";

const t0 = 1_790_000_000_000_000;

function span(
  spanId: string,
  parentSpanId: string,
  node: string,
  name: string,
  startUs: number,
  durationUs: number,
  attributes: Record<string, string> = {},
): CollectedSpan {
  return { spanId, parentSpanId, node, name, startUs: t0 + startUs, durationUs, attributes };
}

/** Drawn with "#", since the blocks of eighths make a poor picture in a test. */
const plain = (text: string): string => text.replaceAll(/[▏▎▍▌▋▊▉█]/g, "#");

test("a tree on one time axis", () => {
  const spans = [
    span("a", "", "router-1", "kith.v1.Points/Query", 0, 2_000, {
      "kith.collection": "docs",
      "rpc.system.name": "grpc",
    }),
    span("c", "a", "router-1", "merge", 1_800, 100, { "kith.results": "10" }),
    span("b1", "a", "router-1", "shard 1", 100, 1_000),
    span("b0", "a", "router-1", "shard 0", 50, 1_700, { "kith.shard": "0", "error.type": "SHARD_UNAVAILABLE" }),
    span("s1", "b1", "shard-2", "search", 300, 500, { plan: "graph", ef: "64", note: "x", zone: "a", more: "b" }),
  ];
  expect(plain(renderWaterfall(spans, { width: 100 }))).toMatchInlineSnapshot(`
    "kith.v1.Points/Query 2.00 ms |###################################| router-1 collection=docs
      shard 0            1.70 ms |##############################     | router-1 error.type=SHARD_UNAVA…
      shard 1            1.00 ms | ##################                | router-1
        search            500 µs |     #########                     | shard-2  plan=graph ef=64 note=…
      merge               100 µs |                               ##  | router-1 results=10"
  `);
});

test("the index span says how long it queued and how long it searched", () => {
  const attributes = { plan: "graph", ef: "64", computed: "812", queue_us: "12", search_us: "1350" };
  const text = renderWaterfall([span("a", "", "shard-0", "index.search", 0, 1_400, attributes)], { width: 160 });
  expect(text).toContain("queue=12µs search=1.35ms plan=graph ef=64 computed=812");
});

test("a node whose clock differs is moved into its parent, and the reader is told", () => {
  const spans = [
    span("a", "", "router-1", "query", 0, 2_000),
    span("b", "a", "shard-1", "link", 5_000_000, 1_000),
    span("c", "b", "shard-1", "search", 5_000_400, 500),
    span("d", "a", "shard-2", "link", -900_000, 1_600),
    span("e", "a", "shard-3", "link", 300, 200),
  ];
  expect(plain(renderWaterfall(spans, { width: 80 }))).toMatchInlineSnapshot(`
    "query      2.00 ms |##############################| router-1
      link     1.60 ms |   ########################   | shard-2
      link      200 µs |    ###                       | shard-3
      link     1.00 ms |       ###############        | shard-1
        search  500 µs |             ########         | shard-1
    the clock of shard-2 seems 900 ms behind; its spans were moved
    the clock of shard-1 seems 5.00 s ahead; its spans were moved"
  `);
});

test("damaged traces are shown whole: missing parents, circles, no spans", () => {
  const spans = [
    span("a", "gone", "n", "orphan", 0, 10),
    span("b", "c", "n", "circle 1", 5, 10),
    span("c", "b", "n", "circle 2", 6, 0),
    span("d", "d", "n", "own parent", 7, 1, { text: "\u001b[31mred" }),
  ];
  const text = renderWaterfall(spans, { width: 60 });
  for (const { name } of spans) expect(text.split(name)).toHaveLength(2);
  expect(text).not.toContain("\u001b");
  expect(renderWaterfall([], { width: 60 })).toBe("no spans were collected");
});

test("no line is wider than the terminal", () => {
  const long = "x".repeat(300);
  const spans = Array.from({ length: 40 }, (_, i) =>
    span(`${i}`, `${i - 1}`, long, long, i, 100 - i, { [long]: long }),
  );
  for (const width of [60, 80, 200]) {
    for (const line of renderWaterfall(spans, { width }).split("\n")) expect(line.length).toBeLessThanOrEqual(width);
  }
});
