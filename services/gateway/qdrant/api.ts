import { KithError, type Random } from "../../../libs/base/index.js";
import type { JsonObject } from "../../../libs/model/index.js";
import type { UnaryDefinition } from "../../../libs/rpc/common/index.js";
import type { UnaryContext } from "../../../libs/rpc/server/index.js";
import { pb } from "../../../libs/wire/index.js";
import type { Backend } from "../rest/backend.js";
import type { Gathering } from "../rest/gathered.js";
import { defaultDeadlineMs, maxDeadlineMs } from "./door-limits.js";
import { flagOf, type Reply, wrong } from "./values.js";

/** One request, from whichever codec it came. */
export interface Ask {
  readonly backend: Backend;
  readonly call: UnaryContext;
  /** Parts of the path by their names: collection_name, id, ... */
  readonly path: Readonly<Record<string, string>>;
  /** Parameters of the query, of gRPC the fields of the same names: wait, ordering, consistency, timeout. */
  readonly params: ReadonlyMap<string, string>;
  readonly body: JsonObject;
  /** Told of points that are kept for the answer while others are read. */
  readonly gathering: Gathering;
  /** What the server says of itself. */
  readonly self: Self;
}

export interface Self {
  readonly version: string;
  readonly random: Random;
  /** Tells operators once what a setting has no effect on. */
  warn(message: string): void;
}

/** The version of Qdrant whose API this is: clients warn where theirs is more than one minor version away. */
const apiVersion = "1.19.0";

export type Operation = (ask: Ask) => Promise<Reply>;

/** Has the router answer a call of Kith's own API. */
export function tell<Req extends object, Res extends object>(
  ask: Ask,
  definition: UnaryDefinition<Req, Res>,
  request: Req,
): Promise<Res> {
  return ask.backend.message(definition, request, ask.call);
}

export function collectionOf({ path }: Ask): string {
  return path["collection_name"] ?? "";
}

/** How fresh a read must be: where it must ask more than one replica, it waits for the end of the log, which is later than what any of them has. */
export function consistencyOf({ params }: Ask): pb.Consistency | undefined {
  const asked = params.get("consistency");
  if (asked === undefined || asked === "0" || asked === "1") return undefined;
  if (!/^(majority|quorum|all|\d{1,6})$/.test(asked)) {
    throw wrong("consistency", `${JSON.stringify(asked.slice(0, 40))} is none of majority, quorum, all, or a number`);
  }
  return { level: { $case: "linearizable", value: true } };
}

/** Who waits sees what it wrote, whichever replica answers it next. */
export function optionsOf({ params }: Ask): pb.WriteOptions {
  const wait = params.get("wait");
  const ordering = params.get("ordering");
  if (ordering !== undefined && !["weak", "medium", "strong"].includes(ordering)) {
    throw wrong("ordering", `${JSON.stringify(ordering.slice(0, 40))} is none of weak, medium, strong`);
  }
  return { ack: isTrue(wait, "wait") ? pb.Ack.ALL : pb.Ack.LOG, idempotencyKey: "" };
}

export function isTrue(text: string | undefined, name: string): boolean {
  if (text === undefined || text === "") return false;
  return flagOf(text === "true" ? true : text === "false" ? false : text, name);
}

/** The answer to a write: what its token says of the log is its operation. */
export function updated(ask: Ask, token: pb.Token | undefined): Reply {
  const last = Math.max(0, ...(token?.shards ?? []).map(({ sequence }) => sequence));
  return { operation_id: last, status: isTrue(ask.params.get("wait"), "wait") ? "completed" : "acknowledged" };
}

/** The collection as Kith describes it. */
export async function describe(ask: Ask, name = collectionOf(ask)): Promise<pb.Collection> {
  const { collection } = await tell(ask, pb.CollectionsService.get, { name });
  if (collection !== undefined) return collection;
  throw new KithError("INTERNAL", `the collection ${name} was answered without its description`);
}

/** Calls that Kith has nothing for, and why. */
export function unimplemented(why: string): Operation {
  return () => Promise.reject(new KithError("UNIMPLEMENTED", why));
}

/** Who answers: clients compare the title and the version with what they know. `commit` is Kith's own version. */
export function greetingOf({ version }: Self) {
  return { title: "qdrant - vector search engine", version: apiVersion, commit: `kith ${version}` };
}

/** The parameter timeout, of seconds, in milliseconds. */
export function deadlineAfter(text: string | undefined): number {
  if (text === undefined) return defaultDeadlineMs;
  if (!/^\d{1,9}(\.\d+)?$/.test(text) || Number(text) <= 0) {
    throw wrong("timeout", `${JSON.stringify(text.slice(0, 40))} is no number of seconds, at least 1`);
  }
  return Math.min(Number(text) * 1000, maxDeadlineMs);
}
