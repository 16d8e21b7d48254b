import { toKithError } from "../../../libs/base/index.js";
import { type CallContext, childCall } from "../../../libs/call/index.js";
import type { ReadAnswer, ReadKind, ReadRequest } from "../../../libs/shard-api/index.js";
import { startSpan } from "../../../libs/telemetry/index.js";
import type { RoutedShard } from "../routing/routed-shard.js";
import type { ExplainStep } from "./explain.js";

interface Asking {
  readonly call: CallContext;
  /** What tells of the shard's part, where that is asked for. */
  readonly step: ExplainStep | undefined;
  /** Whether a second replica is asked where the first takes long. */
  readonly hedged?: boolean;
}

/** What one shard answers, asked within a span of its own. */
export async function askShard<K extends ReadKind>(
  shard: RoutedShard,
  kind: K,
  request: ReadRequest<K>,
  { call, step, hedged = false }: Asking,
): Promise<ReadAnswer<K>> {
  const asking = step?.begin(`shard ${shard.id.shard}`);
  const span = startSpan(call.trace, "router.ask_shard", {
    role: "client",
    attributes: { "kith.shard": shard.id.shard, "kith.read": kind },
  });
  try {
    const inner = childCall(call, span.trace);
    const read = (api: Parameters<Parameters<RoutedShard["ask"]>[1]>[0], each: CallContext): Promise<ReadAnswer<K>> =>
      api.read(kind, shard.id, request, each);
    const answer = await (hedged ? shard.askHedged(inner, read) : shard.ask(inner, read));
    asking?.end();
    if (asking !== undefined && "explain" in answer && answer.explain !== undefined) asking.read(answer.explain, span);
    span.end();
    return answer;
  } catch (error) {
    asking?.fact("error", toKithError(error).code).end();
    span.end(error);
    throw error;
  }
}
