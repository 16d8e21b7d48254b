/**
 * The TypeScript SDK in one program: create, upsert, query, read your writes across clients, retry with one effect.
 *
 *     kith dev                                   # in another terminal
 *     node dist/examples/typescript/films.js     # in this repository, built by "npm ci"
 *
 * The address is the first argument, else KITH_TARGET, else 127.0.0.1:7700.
 */
import { connect, KithError } from "kith";

interface Film {
  title: string;
  year: number;
}

const target = process.argv[2] ?? process.env["KITH_TARGET"] ?? "127.0.0.1:7700";
const client = await connect(target);
const films = client.collection<Film>("films-typescript");

// 1. A collection has one schema; its vectors are hashed over its shards.
if (await films.exists()) await films.drop();
const { shards, vectors } = await films.create({ vectors: { dimension: 3, metric: "cosine" }, shards: 2 });
console.log(`created: ${shards} shards, ${vectors[0]?.metric}`);

// 2. A write is answered when it is durable in the log and one replica of each shard shows it.
const { upserted } = await films.upsert([
  { id: "heat", vector: [0.9, 0.1, 0], payload: { title: "Heat", year: 1995 } },
  { id: "ronin", vector: [0.8, 0.3, 0.1], payload: { title: "Ronin", year: 1998 } },
  { id: "solaris", vector: [0, 0.2, 0.9], payload: { title: "Solaris", year: 1972 } },
]);
console.log(`upserted: ${upserted}`);

// 3. The nearest come first. A client always reads what it has written itself.
const { points } = await films.query({ vector: [1, 0, 0], limit: 2 });
for (const { score, payload } of points) console.log(`nearest: ${payload?.title} ${score.toFixed(3)}`);

// 4. Another client reads it too, given the token: at least the state that the token stands for, or an error.
const other = await connect(target);
const found = await other.collection<Film>("films-typescript").get("heat", { consistency: { atLeast: films.token } });
console.log(`another client: ${found?.payload?.title}`);
other.close();

// 5. A write whose answer was lost may be repeated: under its idempotency key it takes effect once, and has its first outcome.
const insert = { id: "alien", vector: [0.1, 0.9, 0.3], payload: { title: "Alien", year: 1979 } };
const write = { mode: "insert", idempotencyKey: crypto.randomUUID() } as const;
const first = await films.upsert(insert, write);
const repeated = await films.upsert(insert, write);
const anew = await films.upsert(insert, { mode: "insert" });
console.log(`insert: ${first.upserted}, repeated: ${repeated.upserted}, without the key: ${anew.errors[0]?.code}`);

// 6. Errors have a stable code: switch on it, never on the message.
try {
  await films.query({ vector: [1, 0] });
} catch (error) {
  if (!(error instanceof KithError)) throw error;
  console.log(`refused: ${error.code}`);
}

await films.drop();
client.close();
