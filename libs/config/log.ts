import * as v from "valibot";
import { clusterName, file } from "./values.js";

/** Where logs and the catalog live. */
export const log = v.optional(
  v.pipe(
    v.variant("kind", [
      v.strictObject({ kind: v.literal("embedded") }),
      v.strictObject({
        kind: v.literal("jetstream"),
        url: v.pipe(
          v.string(),
          v.minLength(1),
          v.description(
            "NATS URLs, comma-separated; with tls:// the connection has TLS, by tls.ca and this node's certificate.",
          ),
        ),
        replicas: v.optional(
          v.pipe(v.picklist([1, 3, 5]), v.description("Copies of each log and of the catalog on the NATS servers.")),
          1,
        ),
        credentials: v.optional(v.pipe(file, v.description("NATS credentials file."))),
        monitor: v.optional(
          v.pipe(
            v.string(),
            v.minLength(1),
            v.description(
              "NATS monitoring URLs (http://host:8222), comma-separated; asked at start whether writes are fsynced.",
            ),
          ),
        ),
        allowUnsynced: v.optional(
          v.pipe(
            v.boolean(),
            v.description(
              "Accept servers that acknowledge before the fsync: a loss of power loses acknowledged writes.",
            ),
          ),
          false,
        ),
      }),
    ]),
    v.description("Where logs and catalog live: in this process (embedded) or on NATS (jetstream)."),
  ),
  { kind: "embedded" },
);

/** The cluster that this one follows. */
export const standby = v.optional(
  v.pipe(
    v.strictObject({
      primary: v.pipe(
        v.strictObject({
          url: v.pipe(
            v.string(),
            v.minLength(1),
            v.description("NATS URLs of the primary cluster, comma-separated; with tls:// as in log.url."),
          ),
          cluster: v.optional(v.pipe(clusterName, v.description("Name of the primary cluster.")), "kith"),
          credentials: v.optional(v.pipe(file, v.description("NATS credentials file for the primary's servers."))),
        }),
        v.description("The cluster that is followed."),
      ),
    }),
    v.description(
      "This cluster is the standby of another one: it repeats all that is there, and takes no changes of its own before it is promoted (`kith standby`). The same on all nodes.",
    ),
  ),
);
