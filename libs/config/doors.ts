import * as v from "valibot";
import { file, host, port, secretLength } from "./values.js";

/* Where a node is reached, and by which certificates. */

/** The public gRPC service. */
export const listen = v.optional(
  v.pipe(
    v.strictObject({
      host: host("Address of the public gRPC service (router role)."),
      port: v.optional(v.pipe(port, v.description("Its port; 0 picks a free one.")), 7700),
    }),
    v.description("Public gRPC service of the router role; port 0 picks a free one."),
  ),
  {},
);

/** The REST API. */
export const http = v.optional(
  v.pipe(
    v.strictObject({
      host: host("Address of the REST API (router role)."),
      port: v.optional(
        v.pipe(
          port,
          v.description("Its port; 0 picks a free one. Without it there is no REST API, and nothing of it is loaded."),
        ),
      ),
      corsOrigins: v.optional(
        v.pipe(
          v.array(
            v.pipe(v.string(), v.regex(/^\*$|^https?:\/\/[^\s/]+$/, "use origins such as https://example.org, or *")),
          ),
          v.maxLength(64),
          v.description("Origins of web pages that may call the REST API from browsers. Default: none."),
        ),
        [],
      ),
    }),
    v.description("REST API of the router role."),
  ),
  {},
);

/** Qdrant's API. */
export const qdrant = v.optional(
  v.pipe(
    v.strictObject({
      host: host("Address of Qdrant's API (router role)."),
      httpPort: v.optional(
        v.pipe(
          port,
          v.description(
            "Port of Qdrant's REST API (6333 there); 0 picks a free one. Without it there is none, and nothing of it is loaded.",
          ),
        ),
      ),
      grpcPort: v.optional(
        v.pipe(
          port,
          v.description("Port of Qdrant's gRPC services (6334 there); 0 picks a free one. Without it there are none."),
        ),
      ),
    }),
    v.description("Qdrant's API of the router role, for its clients."),
  ),
  {},
);

/** The link service, and the secret of the cluster. */
export const link = v.optional(
  v.pipe(
    v.strictObject({
      host: host("Address of the link service (shard role), for routers."),
      port: v.optional(v.pipe(port, v.description("Its port; 0 picks a free one.")), 7710),
      advertise: v.optional(
        v.pipe(v.string(), v.description("host:port by which routers reach this node; empty: the bound one.")),
        "",
      ),
      secret: v.optional(
        v.pipe(
          v.string(),
          v.minLength(secretLength, `use ${secretLength} random characters or more`),
          v.description("Secret of the cluster, by which nodes know each other; better in a file."),
        ),
      ),
      secretFile: v.optional(
        v.pipe(
          file,
          v.description(
            "File with that secret; a second line is for another one that is taken too, while it is changed.",
          ),
        ),
      ),
    }),
    v.description("Link service of the shard role, for routers."),
  ),
  {},
);

/** The health service alone. */
export const health = v.optional(
  v.pipe(
    v.strictObject({
      host: host("Address of the health service for probes."),
      port: v.pipe(port, v.description("Its port; 0 picks a free one.")),
    }),
    v.description("The health service once more, alone and without TLS, for probes that know none."),
  ),
);

/** Certificates of both services. */
export const tls = v.optional(
  v.pipe(
    v.strictObject({
      certificate: v.pipe(file, v.description("PEM certificate of both services.")),
      key: v.pipe(file, v.description("PEM key of the certificate.")),
      ca: v.optional(
        v.pipe(
          file,
          v.description(
            "Authorities of the nodes' certificates, for the link; default: a self-signed certificate itself, else the system's.",
          ),
        ),
      ),
      clientCa: v.optional(
        v.pipe(file, v.description("Clients, and other nodes, must have a certificate signed by it.")),
      ),
      linkCa: v.optional(
        v.pipe(
          file,
          v.description(
            "Other nodes must have a certificate signed by it, which clients cannot get; default: tls.clientCa.",
          ),
        ),
      ),
    }),
    v.description("TLS of both services, PEM files."),
  ),
);
