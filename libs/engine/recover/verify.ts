import { addHash, formatDigest, partHash, partSeed } from "../../hash/index.js";
import { partKind } from "../../storage/index.js";
import type { ReplicaContent } from "./content.js";

/** Points that are read at once. */
const rangePoints = 256;

/**
 * Reads all that a replica holds and computes its digest from it. Gives what disagrees: a part with the hash that its point keeps of it, or all points
 * together with the digest that was written with them; undefined where nothing does.
 *
 * @param pace waits after so many bytes were read
 */
export async function findDisagreement(
  content: ReplicaContent,
  pace: (sizeBytes: number) => Promise<void>,
): Promise<string | undefined> {
  let digest = 0n;
  for await (const { ids, heads } of content.heads()) {
    for (let at = 0; at < heads.length; at += rangePoints) {
      const range = { ids: ids.slice(at, at + rangePoints), heads: heads.slice(at, at + rangePoints) };
      const { columns } = await content.points(range);
      let sizeBytes = 0;
      for (const { kind, field, name, rows, versions, lengths, data } of columns) {
        const count = rows.length === 0 ? range.heads.length : rows.length;
        let offset = 0;
        for (let i = 0; i < count; i++) {
          const head = range.heads[rows[i] ?? i];
          if (head === undefined) return "a part belongs to no point";
          const length = lengths[i] ?? lengths[0] ?? 0;
          const bytes = data.subarray(offset, offset + length);
          offset += length;
          const hash = partHash(partSeed(kind, name, versions[i] ?? head.version), bytes);
          const kept = head.parts().find((part) => part.kind === kind && part.field === field);
          if (kept?.hash === hash) continue;
          const what =
            kind === partKind.payload
              ? "a payload"
              : `${kind === partKind.multi ? "a matrix" : "a vector"} of the field "${name}"`;
          return `${what} of a point of version ${head.version} is not what was written`;
        }
        sizeBytes += data.length;
      }
      for (const head of range.heads) digest = addHash(digest, head.contentHash);
      await pace(sizeBytes);
    }
  }
  const found = formatDigest(digest);
  if (found === content.state.digest) return undefined;
  return `its points have the digest ${found}, and ${content.state.digest} was written with them`;
}
