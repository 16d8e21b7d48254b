import type { Clock } from "../../../libs/base/index.js";
import {
  type Encoded,
  encodeBatchInTurns,
  encodeBatchResponse,
  encodeGroupsInTurns,
  encodePageInTurns,
  encodePointsInTurns,
  encodeQueryInTurns,
  encodeQueryResponse,
  encodeStreamedInTurns,
  encodeStreamedPointsInTurns,
  encodeStreamedResponse,
  groupsBytes,
  isLargeAnswer,
  isLargeBatch,
  type Pause,
  type pb,
  pointsBytes,
  type QueryAnswer,
  turnBytes,
} from "../../../libs/wire/index.js";
import { type AnswerBudget, sizeOf } from "./answer-budget.js";

/** Makes messages of answers; of large ones in turns of the event loop. */
export class AnswerWriter {
  readonly #budget: AnswerBudget;
  readonly #pause: Pause;

  constructor(budget: AnswerBudget, clock: Clock) {
    this.#budget = budget;
    this.#pause = () => new Promise((resolve) => clock.soon(resolve));
  }

  query(answer: QueryAnswer): Encoded<pb.QueryResponse> | Promise<Encoded<pb.QueryResponse>> {
    if (!isLargeAnswer(answer)) return encodeQueryResponse(answer);
    return this.#inTurns(sizeOf(answer.hits), (pause) => encodeQueryInTurns(answer, pause));
  }

  /** The answer to a query of a QueryStream. */
  streamed(
    requestId: number | bigint,
    answer: QueryAnswer,
  ): Encoded<pb.QueryStreamResponse> | Promise<Encoded<pb.QueryStreamResponse>> {
    if (!isLargeAnswer(answer)) return encodeStreamedResponse(requestId, answer);
    return this.#inTurns(sizeOf(answer.hits), (pause) => encodeStreamedInTurns(requestId, answer, pause));
  }

  /** The outcomes of a batch, which count elsewhere. */
  batch(
    outcomes: readonly (QueryAnswer | pb.Failure)[],
  ): Encoded<pb.QueryBatchResponse> | Promise<Encoded<pb.QueryBatchResponse>> {
    return isLargeBatch(outcomes) ? encodeBatchInTurns(outcomes, this.#pause) : encodeBatchResponse(outcomes);
  }

  async points(response: pb.GetPointsResponse): Promise<pb.GetPointsResponse | Encoded<pb.GetPointsResponse>> {
    const sizeBytes = pointsBytes(response.points);
    if (sizeBytes <= turnBytes) return response;
    return this.#inTurns(sizeBytes, (pause) => encodePointsInTurns(response, pause));
  }

  async page(response: pb.ScrollResponse): Promise<pb.ScrollResponse | Encoded<pb.ScrollResponse>> {
    const sizeBytes = pointsBytes(response.points);
    if (sizeBytes <= turnBytes) return response;
    return this.#inTurns(sizeBytes, (pause) => encodePageInTurns(response, pause));
  }

  async groups(response: pb.QueryGroupsResponse): Promise<pb.QueryGroupsResponse | Encoded<pb.QueryGroupsResponse>> {
    const sizeBytes = groupsBytes(response.groups);
    if (sizeBytes <= turnBytes) return response;
    return this.#inTurns(sizeBytes, (pause) => encodeGroupsInTurns(response, pause));
  }

  /** What a QueryStream carries beside answers to queries. */
  async streamedOther(
    requestId: number | bigint,
    outcome: NonNullable<pb.QueryStreamResponse["outcome"]>,
  ): Promise<pb.QueryStreamResponse | Encoded<pb.QueryStreamResponse>> {
    if (outcome.$case !== "groups" && outcome.$case !== "scroll") return { requestId, outcome };
    const { value } = outcome;
    const sizeBytes = "groups" in value ? groupsBytes(value.groups) : pointsBytes(value.points);
    if (sizeBytes <= turnBytes) return { requestId, outcome };
    return this.#inTurns(sizeBytes, (pause) => encodeStreamedPointsInTurns(requestId, outcome, pause));
  }

  /** It counts meanwhile: from then on it is the server's. */
  async #inTurns<T>(sizeBytes: number, write: (pause: Pause) => Promise<T>): Promise<T> {
    const held = this.#budget.hold();
    held.add(sizeBytes);
    try {
      return await write(this.#pause);
    } finally {
      held.release();
    }
  }
}
