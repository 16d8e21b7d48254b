import { systemRuntime } from "../../base/index.js";
import { openEmbeddedLog } from "../embedded/index.js";

/**
 * Appends without end and reports every acknowledged sequence to its parent, which kills it in the middle. Eight
 * appends are in flight at any time; the message id and the text name the sequence that each one must get.
 */
const name = { collectionId: "c1", shard: 0 };
const directory = await new Promise<string>((resolve) =>
  process.once("message", (message) => resolve(message as string)),
);
const log = await openEmbeddedLog({ directory, ...systemRuntime });
const { lastSequence } = await log.create(name);
let next = lastSequence + 1;

async function appendForever(): Promise<never> {
  for (;;) {
    const sequence = next++;
    const data = Buffer.from(`record ${sequence} ${"x".repeat(sequence % 5_000)}`);
    const done = await log.append(name, data, { messageId: `m${sequence}` });
    if (done.sequence !== sequence) throw new Error(`record ${sequence} became ${done.sequence}`);
    process.send?.(done.sequence);
  }
}

await Promise.all(Array.from({ length: 8 }, appendForever));
