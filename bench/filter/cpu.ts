/**
 * What filters and payload indexes cost, in one process without a server: the test of a point, the rate at which indexes take points
 * in, their memory, and the time to make a mask. Seeded; times are of CPU.
 */
import { systemClock } from "../../libs/base/index.js";
import {
  compileFilter,
  evaluateFilter,
  PayloadField,
  PayloadIndexes,
  parseFilter,
  parsePayload,
  runSteps,
  StoredFilterPoint,
} from "../../libs/filter/index.js";
import { idFromNum, type JsonObject, parsePath, type PayloadIndexKind } from "../../libs/model/index.js";

export interface CpuFlags {
  points: number;
  seed: number;
}

/** A small generator of its own, so that the same seed gives the same points everywhere. */
function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

function cpuMicros(): number {
  const { user, system } = process.cpuUsage();
  return user + system;
}

function print(name: string, figure: string): void {
  process.stdout.write(`${name.padEnd(64)} ${figure}\n`);
}

const words = Array.from({ length: 5_000 }, (_, i) => `word${i}`);

function payloadOf(random: () => number): JsonObject {
  // Frequent words come more often, as in texts.
  const word = (): string => words[Math.floor(random() ** 3 * words.length)] as string;
  return {
    genre: `genre ${Math.floor(random() * 20)}`,
    year: 1900 + Math.floor(random() * 125),
    rating: Math.round(random() * 1000) / 100 + 0.001,
    place: { lat: random() * 180 - 90, lon: random() * 360 - 180 },
    tags: [`tag ${Math.floor(random() * 500)}`, `tag ${Math.floor(random() * 500)}`],
    title: Array.from({ length: 8 }, word).join(" "),
  };
}

function measureMatches(options: CpuFlags): void {
  const random = randomOf(options.seed);
  const stored = Array.from({ length: 20_000 }, () => Buffer.from(JSON.stringify(payloadOf(random))));
  const parsed = stored.map(parsePayload);
  const none = new Set<string>();
  const id = idFromNum(1);
  const time = (test: (i: number) => unknown): string => {
    for (let i = 0; i < 5_000; i++) test(i);
    const start = cpuMicros();
    for (let i = 0; i < stored.length; i++) test(i);
    return `${((cpuMicros() - start) / stored.length).toFixed(2)} µs a point`;
  };
  print(
    "parse a payload of 250 bytes",
    time((i) => parsePayload(stored[i] as Buffer)),
  );
  for (const text of [
    "year > 1990",
    '"genre" = "genre 7"',
    'year > 1990 and genre in ("genre 7", "genre 8") and not exists(deleted)',
    'tags = "tag 7"',
    "near(place, 52.5, 13.4, 1000km)",
    'title ~ "word1 word2"',
  ]) {
    const test = compileFilter(parseFilter(text));
    const asked = parsed.map((payload) => ({ id, payload, hasVector: () => false }));
    print(
      `matches, parsed: ${text}`,
      time((i) => test(asked[i] as (typeof asked)[number])),
    );
    print(
      `matches, stored: ${text}`,
      time((i) => test(new StoredFilterPoint(id, stored[i] as Buffer, none))),
    );
  }
}

function measureMemory(options: CpuFlags): void {
  for (const kind of ["keyword", "integer"] as const) {
    for (const distinct of [8, 1_000, 100_000]) {
      const random = randomOf(options.seed);
      const field = new PayloadField({ path: parsePath("v"), kind });
      const start = cpuMicros();
      for (let slot = 0; slot < options.points; slot++) {
        const value = Math.floor(random() * distinct);
        field.insert(slot, { v: kind === "keyword" ? `value ${value}` : value });
      }
      const nanos = ((cpuMicros() - start) * 1000) / options.points;
      const bytes = field.memoryBytes / options.points;
      print(
        `${kind}, ${distinct} distinct values`,
        `${bytes.toFixed(1)} bytes a point, ${nanos.toFixed(0)} ns an insertion`,
      );
    }
  }
}

async function measureMasks(options: CpuFlags): Promise<void> {
  const random = randomOf(options.seed);
  const kinds: [string, PayloadIndexKind][] = [
    ["genre", "keyword"],
    ["year", "integer"],
    ["rating", "float"],
    ["place", "geo"],
    ["tags", "keyword"],
  ];
  const fields = kinds.map(([path, kind]) => new PayloadField({ path: parsePath(path), kind }));
  const count = Math.min(options.points, 200_000);
  const all = Array.from({ length: count }, () => payloadOf(random));
  const start = cpuMicros();
  for (const [slot, payload] of all.entries()) for (const field of fields) field.insert(slot, payload);
  const micros = (cpuMicros() - start) / count;
  print(`5 indexes, ${count} points`, `${Math.round(1e6 / micros)} points/s, ${micros.toFixed(2)} µs a point`);
  print(
    "memory of the 5",
    fields.map(({ spec, memoryBytes }) => `${spec.path.text} ${(memoryBytes / count).toFixed(1)}`).join(", "),
  );
  const alive = new Uint32Array((count + 31) >>> 5).fill(0xffff_ffff);
  if (count % 32 !== 0) alive[alive.length - 1] = 2 ** (count % 32) - 1;
  const source = { indexes: new PayloadIndexes(fields), alive, aliveCount: count };
  for (const text of [
    'genre = "genre 7"',
    "year > 1962",
    "rating between 5 and 6",
    'tags = "tag 7"',
    'genre != "genre 7" and year > 1990 and rating > 5',
    'tags = "tag 7" and year > 1962',
    "near(place, 52.5, 13.4, 1000km)",
  ]) {
    const filter = parseFilter(text);
    let longest = 0;
    let selected = 0;
    const rounds = 20;
    const from = cpuMicros();
    for (let i = 0; i < rounds; i++) {
      const steps = evaluateFilter(filter, source);
      for (;;) {
        const stepStart = performance.now();
        const { done, value } = steps.next();
        longest = Math.max(longest, performance.now() - stepStart);
        if (done !== true) continue;
        selected = value.sureCount;
        break;
      }
    }
    const cost = (cpuMicros() - from) / rounds;
    print(`mask: ${text}`, `${cost.toFixed(0)} µs, ${selected} slots, longest step ${(longest * 1000).toFixed(0)} µs`);
  }
  await runSteps(evaluateFilter(parseFilter("year > 1962"), source), { clock: systemClock });
}

export async function measureCpu(options: CpuFlags): Promise<void> {
  measureMatches(options);
  await measureMasks(options);
  measureMemory(options);
}
