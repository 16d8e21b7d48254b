import { createHmac, timingSafeEqual } from "node:crypto";
import { type Clock, KithError, type Runtime } from "../base/index.js";

/** Of a secret of the cluster, in characters. */
const clusterSecretLengthMin = 32;

/** How long a proof is good, before and after the time that it names: clocks of nodes may differ by so much. */
const proofMs = 300_000;
/** Proofs that are remembered, so that none is good twice. Each was made with the secret: nodes make some in a minute. */
const rememberedMax = 65_536;

/** The header of calls between nodes that has the proof. */
export const proofHeader = "kith-node-proof";

/**
 * What the nodes of a cluster know and nobody else. A node proves to another one that it knows it without showing it: a proof is an HMAC over
 * what it is for, the time, and a number that is used once.
 */
export class ClusterSecret {
  readonly #clock: Clock;
  readonly #random: Runtime["random"];
  #secrets: readonly Buffer[];
  /** Proofs that were taken, by their end; the oldest first. */
  readonly #taken = new Map<string, number>();

  /** @param text one secret on each line: the first is used, and all are taken, so that it can be changed node by node */
  constructor(text: string, { clock, random }: Runtime) {
    this.#clock = clock;
    this.#random = random;
    this.#secrets = secretsOf(text);
  }

  /** Uses other secrets from now on. INVALID_CONFIG, and nothing changes, where they are none. */
  replace(text: string): void {
    this.#secrets = secretsOf(text);
  }

  /** @param purpose what it is good for: other proofs are none for it */
  prove(purpose: string): string {
    const [secret] = this.#secrets;
    const said = `${Math.floor(this.#clock.nowMs())}.${this.#random.uuid()}`;
    return `${said}.${macOf(secret as Buffer, said, purpose).toString("base64url")}`;
  }

  /** UNAUTHENTICATED where the proof was not made with a secret of this cluster, for this, lately, or was shown before. */
  check(proof: string, purpose: string): void {
    const nowMs = this.#clock.nowMs();
    const match = proof.length <= proofLengthMax ? proofPattern.exec(proof) : null;
    if (match === null) {
      throw new KithError(
        "UNAUTHENTICATED",
        "this node takes nodes of its cluster alone, and the caller proves not to be one: give all nodes the same link.secretFile",
      );
    }
    const [, said = "", time = "", mac = ""] = match;
    const shown = Buffer.from(mac, "base64url");
    // Each secret is tried, whether or not one before was right.
    const isKnown = this.#secrets.map((secret) => isSame(macOf(secret, said, purpose), shown)).includes(true);
    if (!isKnown) {
      throw new KithError(
        "UNAUTHENTICATED",
        "the proof of the caller is made with another secret than this cluster's: give all nodes the same link.secretFile",
      );
    }
    if (Math.abs(Number(time) - nowMs) > proofMs) {
      throw new KithError(
        "UNAUTHENTICATED",
        `the clocks of the nodes differ by more than ${proofMs / 60_000} minutes: set them`,
      );
    }
    this.#forget(nowMs);
    if (this.#taken.has(said) || this.#taken.size >= rememberedMax)
      throw new KithError("UNAUTHENTICATED", "the proof of the caller was used before");
    this.#taken.set(said, nowMs + 2 * proofMs);
  }

  #forget(nowMs: number): void {
    for (const [said, endMs] of this.#taken) {
      if (nowMs < endMs) break;
      this.#taken.delete(said);
    }
  }
}

const proofPattern = /^((\d{1,15})\.[0-9a-f-]{36})\.([\w-]{43})$/;
const proofLengthMax = 128;

function macOf(secret: Buffer, said: string, purpose: string): Buffer {
  return createHmac("sha256", secret).update(said).update("\n").update(purpose).digest();
}

function isSame(one: Buffer, other: Buffer): boolean {
  return one.length === other.length && timingSafeEqual(one, other);
}

function secretsOf(text: string): Buffer[] {
  const lines = text.split(/\r?\n/).flatMap((line) => (line.trim() === "" ? [] : [line.trim()]));
  const isGood = lines.length > 0 && lines.every((line) => line.length >= clusterSecretLengthMin && !/\s/.test(line));
  if (isGood) return lines.map((line) => Buffer.from(line));
  throw new KithError(
    "INVALID_CONFIG",
    `the secret of the cluster must be ${clusterSecretLengthMin} random characters or more, without spaces; a second line is for another one that is taken too`,
  );
}
