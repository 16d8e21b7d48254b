import { BackwardWriter, Encoded } from "./encoded.js";

/** Resolves when others have had the event loop. */
export type Pause = () => Promise<void>;

/** Bytes of a message that are written in one turn of the event loop: about a millisecond, or ten where each new page of memory is dear. */
export const turnBytes = 1024 * 1024;

/** Room for what a message has beside what is counted. */
const restBytes = 1024;

/** A message that is written from its end to its beginning by steps, one a turn of the event loop. */
export type Steps = (to: BackwardWriter) => Generator<void, void, undefined>;

/** The message, which has about `expectedBytes`, or rather less. */
export async function writeInTurns<T>(expectedBytes: number, pause: Pause, write: Steps): Promise<Encoded<T>> {
  const writer = new BackwardWriter(expectedBytes + restBytes);
  const steps = write(writer);
  while (steps.next().done !== true) await pause();
  return new Encoded<T>(writer.take());
}
