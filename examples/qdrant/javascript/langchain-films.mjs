/**
 * LangChain on Kith: its Qdrant integration for JavaScript as it is published, at another address.
 *
 *   kith dev --qdrant
 *   cd examples/qdrant/javascript && npm ci && node langchain-films.mjs
 */
import { Embeddings } from "@langchain/core/embeddings";
import { QdrantVectorStore } from "@langchain/qdrant";

const dimension = 256;

/** A vector of a text without a model and without a download: hashed words and parts of words. Put an embedding model in its place. */
class HashedWords extends Embeddings {
  constructor() {
    super({});
  }

  async embedDocuments(texts) {
    return texts.map(vectorOf);
  }

  async embedQuery(text) {
    return vectorOf(text);
  }
}

function vectorOf(text) {
  const vector = new Array(dimension).fill(0);
  for (const word of text.toLowerCase().match(/\p{L}{3,}/gu) ?? []) {
    const parts = new Set([word]);
    for (let at = 0; at + 3 <= word.length; at++) parts.add(word.slice(at, at + 3));
    for (const part of parts) {
      const hash = hashOf(part);
      vector[hash % dimension] += hash & 0x8000_0000 ? 1 : -1;
    }
  }
  const length = Math.hypot(...vector);
  return length === 0 ? [1, ...vector.slice(1)] : vector.map((value) => value / length);
}

/** FNV-1a */
function hashOf(text) {
  let hash = 0x811c_9dc5;
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x0100_0193) >>> 0;
  return hash;
}

const documents = [
  ["Solaris", 1972, "A psychologist is sent to a station above an ocean planet."],
  ["Alien", 1979, "The crew of a space tug answers a signal from a planet."],
  ["Heat", 1995, "A detective hunts a crew of bank robbers through the city."],
  ["Ronin", 1998, "Former spies hunt a case through cities in fast cars."],
  ["Moon", 2009, "A lone worker on a moon station meets himself."],
].map(([title, year, pageContent]) => ({ pageContent, metadata: { title, year } }));
const titles = (found) => found.map(({ metadata }) => metadata.title).join(", ");

const store = new QdrantVectorStore(new HashedWords(), {
  url: process.env.KITH_QDRANT_URL ?? "http://127.0.0.1:6333",
  collectionName: "langchain-js-films",
  collectionConfig: { vectors: { size: dimension, distance: "Cosine" } },
});
await store.client.deleteCollection(store.collectionName);
await store.addDocuments(documents);
const { count } = await store.client.count(store.collectionName);
console.log(`written: ${count}`);

const [[nearest, score]] = await store.similaritySearchWithScore("hunting bank robbers", 1);
console.log(`nearest: ${titles([nearest])} ${score.toFixed(2)}`);
const late = { must: [{ key: "metadata.year", range: { gte: 1996 } }] };
console.log(`filtered: ${titles(await store.similaritySearch("fast cars", 1, late))}`);
const diverse = await store.maxMarginalRelevanceSearch("a planet", { k: 3, fetchK: 5, lambda: 0.2 });
console.log(`diverse: ${titles(diverse)}`);
const retriever = store.asRetriever({ k: 1, filter: late });
console.log(`retrieved: ${titles(await retriever.invoke("a station"))}`);

const [found] = await store.similaritySearch("ocean", 1);
await store.delete({ ids: [found.id] });
console.log(`left: ${(await store.client.count(store.collectionName)).count}`);
await store.delete({ filter: late });
console.log(`left: ${(await store.client.count(store.collectionName)).count}`);
await store.client.deleteCollection(store.collectionName);
