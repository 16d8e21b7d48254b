/** V8 copies parts of texts that are shorter than this; a longer one points into the whole text, and keeps all of that alive. */
const sharedLength = 13;

/** The same text with memory of its own: for parts of payloads and documents that outlive these. */
export function ownText(text: string): string {
  // Joined with something it becomes a text of its own when it is first read, of which this is nearly all.
  return text.length < sharedLength ? text : ` ${text}`.slice(1);
}
