import * as v from "valibot";
import { bytes, file, mib, secretLength } from "./values.js";

/** Who did what. */
const audit = v.optional(
  v.pipe(
    v.strictObject({
      file: v.optional(
        v.pipe(file, v.description("File for a line of JSON about each call: who did what with which outcome.")),
      ),
      readSample: v.optional(
        v.pipe(
          v.number(),
          v.minValue(0),
          v.maxValue(1),
          v.description("The part of reads that succeed which is kept there; all else is kept."),
        ),
        0.01,
      ),
      maxBytes: v.optional(
        v.pipe(
          bytes,
          v.minValue(64 * 1024),
          v.maxValue(16 * 1024 * mib),
          v.description("Bytes of one file; a full one is renamed."),
        ),
        64 * mib,
      ),
      files: v.optional(
        v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1_000), v.description("Files that are kept.")),
        8,
      ),
    }),
    v.description("Who did what."),
  ),
  {},
);

/** JSON Web Tokens. */
const tokens = v.optional(
  v.pipe(
    v.strictObject({
      secretFile: v.optional(
        v.pipe(file, v.description("File with the secret of JSON Web Tokens that are signed by HS256.")),
      ),
      keys: v.optional(
        v.pipe(
          v.string(),
          v.minLength(1),
          v.description("JSON Web Key Set of who signs tokens: an https URL, or a file; read again as keys change."),
        ),
      ),
      issuer: v.optional(v.pipe(v.string(), v.minLength(1), v.description("What tokens must have as iss."))),
      audience: v.optional(
        v.pipe(
          v.string(),
          v.minLength(1),
          v.description(
            "What tokens must have in aud. Needed with auth.tokens.keys: who signs may do so for others too.",
          ),
        ),
      ),
      rolesClaim: v.optional(
        v.pipe(v.string(), v.minLength(1), v.description("Claim with the role or roles of a token.")),
        "roles",
      ),
      collectionsClaim: v.optional(
        v.pipe(
          v.string(),
          v.minLength(1),
          v.description("Claim with patterns of collections; a token without it is for all that its roles allow."),
        ),
        "collections",
      ),
      tenantClaim: v.optional(
        v.pipe(v.string(), v.minLength(1), v.description("Claim with the tenant, which every token must have then.")),
      ),
      tenantPath: v.optional(
        v.pipe(
          v.string(),
          v.minLength(1),
          v.description(
            "Field of the payload that is equal to the claim in all points that the token's caller may see.",
          ),
        ),
      ),
      clockSkewMs: v.optional(
        v.pipe(
          v.number(),
          v.integer(),
          v.minValue(0),
          v.maxValue(300_000),
          v.description("How far the clocks of who signs and of this node may differ."),
        ),
        30_000,
      ),
    }),
    v.description("JSON Web Tokens."),
  ),
);

/** Who may call, and what is written down of it. */
export const auth = v.optional(
  v.pipe(
    v.strictObject({
      required: v.optional(
        v.pipe(
          v.boolean(),
          v.description("Callers must say who they are. Default: where an admin key, tokens or certificates are set."),
        ),
      ),
      adminKey: v.optional(
        v.pipe(
          v.string(),
          v.minLength(secretLength, `use ${secretLength} random characters or more`),
          v.description("Key of the first administrator, to make others with; better in a file."),
        ),
      ),
      adminKeyFile: v.optional(v.pipe(file, v.description("File with that key."))),
      keysStaleMs: v.optional(
        v.pipe(
          v.number(),
          v.integer(),
          v.minValue(0),
          v.maxValue(7 * 24 * 3_600_000),
          v.description(
            "How long a router takes the keys that it knows while the catalog cannot be reached, and the keys of tokens that it cannot read again; then none: some may have been revoked.",
          ),
        ),
        900_000,
      ),
      tokens,
      audit,
      certificates: v.optional(
        v.pipe(
          v.record(
            v.pipe(v.string(), v.minLength(1)),
            v.pipe(v.array(v.pipe(v.string(), v.minLength(1))), v.minLength(1)),
          ),
          v.description(
            "Roles of clients by the common name of their certificates (with tls.clientCa); in the file alone.",
          ),
        ),
      ),
    }),
    v.description("Who may call the public service; see docs/security.md."),
  ),
  {},
);
