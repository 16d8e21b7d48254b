/**
 * Filters, groups, facets, fusion, recommendations and explain with the TypeScript SDK.
 *
 *     kith dev                                     # in another terminal
 *     node dist/examples/typescript/queries.js     # in this repository, built by "npm ci"
 *
 * The address is the first argument, else KITH_TARGET, else 127.0.0.1:7700.
 */
import { connect, where } from "kith";

interface Film {
  title: string;
  year: number;
  director: string;
  genres: string[];
}

const client = await connect(process.argv[2] ?? process.env["KITH_TARGET"] ?? "127.0.0.1:7700");
const films = client.collection<Film>("films-queries");
if (await films.exists()) await films.drop();
await films.create({ vectors: { dimension: 3, metric: "cosine" }, shards: 2 });
const rows: [number[], string, number, string, string[]][] = [
  [[0.9, 0.1, 0], "Heat", 1995, "Mann", ["crime", "drama"]],
  [[0.8, 0.3, 0.1], "Ronin", 1998, "Frankenheimer", ["crime", "thriller"]],
  [[0.85, 0.2, 0.2], "Collateral", 2004, "Mann", ["crime", "thriller"]],
  [[0, 0.2, 0.9], "Solaris", 1972, "Tarkovsky", ["drama", "science fiction"]],
  [[0.1, 0.1, 0.95], "Stalker", 1979, "Tarkovsky", ["drama", "science fiction"]],
];
await films.upsert(
  rows.map(([vector, title, year, director, genres], id) => ({
    id,
    vector,
    payload: { title, year, director, genres },
  })),
);
const titles = (points: readonly { payload?: Film }[]): string =>
  points.map(({ payload }) => payload?.title).join(", ");

// 1. A filter as text, or made with the types of the payload: TypeScript knows its paths and values.
const late = await films.query({ vector: [1, 0, 0], filter: "year > 1995 and genres in (crime, drama)" });
console.log(`late: ${titles(late.points)}`);
const film = where<Film>();
const typed = film.all(film.range("year", { lt: 1980 }), film.not(film.equals("title", "Solaris")));
console.log(`typed: ${titles((await films.query({ vector: [1, 0, 0], filter: typed })).points)}`);

// 2. The best film of each director, and how many films each genre has.
const { groups } = await films.queryGroups({ vector: [1, 0, 0], groupBy: "director", limit: 2, groupSize: 1 });
console.log(`groups: ${groups.map(({ value, points }) => `${value} (${titles(points)})`).join(", ")}`);
const { hits } = await films.facet("genres", { limit: 2 });
console.log(`facet: ${hits.map(({ value, count }) => `${value} ${count}`).join(", ")}`);

// 3. One list out of two: the nearest ones and the newest ones.
const fused = await films.query({
  prefetch: [
    { query: { nearest: [0, 0, 1] }, limit: 3 },
    { query: { orderBy: { key: "year", direction: "desc" } }, limit: 3 },
  ],
  query: { fusion: "rrf" },
  limit: 2,
});
console.log(`fused: ${titles(fused.points)}`);

// 4. Like one film and unlike another, and with what a formula makes of it.
const like = await films.query({
  query: { recommend: { positive: [3], negative: [0], strategy: "bestScore" } },
  limit: 1,
});
console.log(`like Solaris: ${titles(like.points)}`);
const boosted = await films.query({
  prefetch: [{ query: { nearest: [1, 0, 0] }, limit: 5 }],
  query: { formula: { sum: ["$score", { product: [0.5, { condition: "year >= 2000" }] }] } },
  limit: 1,
  withPayload: { include: ["title"] },
});
console.log(`boosted: ${JSON.stringify(boosted.points[0]?.payload)}`);

// 5. In an order, page by page, and how an answer came about.
const ordered: Film[] = [];
for await (const { payload } of films.scroll({ orderBy: "year", batch: 2 })) if (payload) ordered.push(payload);
console.log(`by year: ${ordered.map(({ year }) => year).join(" ")}`);
const { explain } = await films.query({ vector: [1, 0, 0], filter: "year > 1995", explain: true });
console.log(`explained: ${explain?.steps.map(({ name }) => name).join(", ")}`);

await films.drop();
client.close();
