#!/usr/bin/env bash
# Kith from the command line with grpcurl: create, upsert, query, retry with one effect. Reflection is on, so no .proto is needed.
#
#     kith dev                          # in another terminal
#     examples/grpcurl/films.sh
#
# The address is the first argument, else KITH_TARGET, else 127.0.0.1:7700. In JSON, bytes are base64, so payloads are read and written as
# payloadStruct here; where every digit of large numbers counts, "payload" has the JSON text.
set -euo pipefail
target=${1:-${KITH_TARGET:-127.0.0.1:7700}}
name=films-grpcurl

call() { # method, request
  echo "== $1"
  "${GRPCURL:-grpcurl}" -plaintext -max-time 30 -d "$2" "$target" "kith.v1.$1"
}

call Collections/Exists "{\"name\":\"$name\"}" | grep -q '"exists": true' && call Collections/Delete "{\"name\":\"$name\"}" >/dev/null

call Collections/Create "{\"name\":\"$name\",\"vectors\":[{\"dimension\":3,\"metric\":\"METRIC_COSINE\"}]}"

# The vector field "" is the unnamed one. The answer has a token: what a read with "atLeast" must have seen.
call Points/Upsert "{\"collection\":\"$name\",\"points\":[
  {\"id\":{\"name\":\"heat\"},\"vectors\":{\"\":{\"values\":[0.9,0.1,0]}},\"payloadStruct\":{\"title\":\"Heat\"}},
  {\"id\":{\"name\":\"solaris\"},\"vectors\":{\"\":{\"values\":[0,0.2,0.9]}},\"payloadStruct\":{\"title\":\"Solaris\",\"year\":1972}}]}"

# "linearizable" sees everything that was acknowledged to anyone before the query.
call Points/Query "{\"collection\":\"$name\",\"vector\":[1,0,0],\"limit\":2,\"select\":{\"payload\":true,\"payloadFormat\":\"PAYLOAD_FORMAT_STRUCT\"},\"consistency\":{\"linearizable\":true}}"

# Sent twice under one idempotency key, as after a lost answer: one effect, and the first outcome again.
insert="{\"collection\":\"$name\",\"points\":[{\"id\":{\"name\":\"alien\"},\"vectors\":{\"\":{\"values\":[0.1,0.9,0.3]}}}],
  \"mode\":\"UPSERT_MODE_INSERT_ONLY\",\"options\":{\"idempotencyKey\":\"insert-alien\"}}"
call Points/Upsert "$insert"
call Points/Upsert "$insert"

call Points/Count "{\"collection\":\"$name\"}"
call Collections/Delete "{\"name\":\"$name\"}"
