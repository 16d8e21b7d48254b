const segmenter = new Intl.Segmenter("en", { granularity: "word" });
/** UTF-16 units that are split at a time, and how many of them are there to show what follows alone. */
const partUnits = 512;
const aheadUnits = 64;
/** What ICU makes of Katakana depends on whether there are some before. */
const endsInKatakana = /[\p{Script=Katakana}ー]$/u;

/**
 * The words of a text in a script without spaces, by the dictionaries of Node's ICU. Each segment that Intl.Segmenter gives holds a copy of the whole text that it was given:
 * 64 KiB of Chinese at once took 0.2 to 0.5 s and 270 MB, so it is given a part at a time.
 */
export function segmented(text: string): string[] {
  const found: string[] = [];
  let units = partUnits;
  for (let from = 0; from < text.length; ) {
    const part = text.slice(from, from + units);
    const segments = Array.from(segmenter.segment(part));
    const isLast = from + units >= text.length;
    const taken = isLast ? segments.length : settled(segments, units - aheadUnits);
    for (const { segment, isWordLike } of segments.slice(0, taken)) if (isWordLike) found.push(segment);
    from += isLast ? part.length : (segments[taken]?.index ?? 0);
    // A word may be longer than a part.
    units = taken === 0 ? units * 2 : partUnits;
  }
  return found;
}

/** How many of the segments at the beginning of a part are what they are whatever follows, and end where the next part can begin. */
function settled(segments: readonly Intl.SegmentData[], end: number): number {
  let any = 0;
  let best = 0;
  for (const { segment, index } of segments) {
    if (index + segment.length > end) break;
    any++;
    if (!endsInKatakana.test(segment)) best = any;
  }
  return best === 0 ? any : best;
}
