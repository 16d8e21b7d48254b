import { expect, test } from "vitest";
import { pb } from "./index.js";

const ids = [0, 1, 2 ** 28 - 1, 2 ** 28, 2 ** 32, Number.MAX_SAFE_INTEGER, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n];

test.each(ids)("the request id %s is read as it was written", (requestId) => {
  const request = pb.QueryStreamRequest.fromPartial({ timeoutMs: 7 });
  request.requestId = requestId;
  expect(pb.QueryStreamRequest.decode(pb.QueryStreamRequest.encode(request).finish())).toEqual(request);
});
