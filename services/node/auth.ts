import { resolve } from "node:path";
import {
  AuditLog,
  Authenticator,
  type AuthenticatorSources,
  KeyStore,
  openTokens,
  type TokenVerifier,
} from "../../libs/auth/index.js";
import { type Clock, KithError, type Runtime, toKithError, withTimeout } from "../../libs/base/index.js";
import type { Catalog } from "../../libs/catalog/index.js";
import { isAuthRequired, type NodeConfig } from "../../libs/config/index.js";
import type { Logger } from "../../libs/telemetry/index.js";
import { readSetting } from "./adapters.js";
import type { Reloadable } from "./reload.js";

export interface OpenedAuth extends Reloadable {
  authenticator: Authenticator;
  store: KeyStore;
  /** Where it is kept who did what. */
  audit: AuditLog | undefined;
  close(): Promise<void>;
}

/** Who may call this node's router, by its settings and by the keys and roles in the catalog. */
export async function openAuth(
  config: NodeConfig,
  catalog: Catalog,
  { clock, random }: Runtime,
  logger: Logger,
  signal: AbortSignal | undefined,
): Promise<OpenedAuth> {
  const store = new KeyStore(catalog, clock, random);
  await store.start(signal);
  let current = await sourcesOf(config, undefined, { store, clock, logger });
  const { file, ...kept } = config.auth.audit;
  let { readSample } = kept;
  const audit =
    file === undefined
      ? undefined
      : await AuditLog.open({
          ...kept,
          ...{ file: resolve(file), clock, random, logger, readSample: () => readSample },
        });
  const authenticator = new Authenticator({ store, catalog, clock, ...current.sources });
  const { isRequired, bootstrapKey } = current.sources;
  if (isRequired && bootstrapKey !== undefined) {
    const isUnchanged = store.keys().every(({ role }) => role !== "admin");
    const advice = isUnchanged
      ? "make a key with the role admin, and take this one out of the settings (auth.required: true stays)"
      : "there are other keys of administrators: take it out of the settings (auth.required: true stays)";
    logger.warn(`the administrator's key of the settings is in force: ${advice}`);
  }
  if (!isRequired && store.keys().length > 0) {
    logger.warn("the catalog has API keys, and this router asks nobody for one: set auth.required");
  }
  return {
    authenticator,
    store,
    audit,
    async prepare(fresh) {
      const next = await sourcesOf(fresh, current, { store, clock, logger });
      return () => {
        const changed = [
          ...(next.sources.bootstrapKey !== current.sources.bootstrapKey ? ["auth.adminKeyFile"] : []),
          ...(next.secret !== current.secret ? ["auth.tokens.secretFile"] : []),
        ];
        current = next;
        ({ readSample } = fresh.auth.audit);
        authenticator.reconfigure(next.sources);
        return changed;
      };
    },
    async close() {
      authenticator.close();
      await audit?.close();
      await store.close();
    },
  };
}

interface KnownSources {
  sources: AuthenticatorSources;
  /** By what tokens are checked: the same verifier, with what it remembers, is used while this stays. */
  tokensKey: string;
  /** Of tokens, in base64. */
  secret: string | undefined;
}

async function sourcesOf(
  config: NodeConfig,
  before: KnownSources | undefined,
  context: { store: KeyStore; clock: Clock; logger: Logger },
): Promise<KnownSources> {
  const { certificates, keysStaleMs, tokens } = config.auth;
  const secret =
    tokens?.secretFile === undefined ? undefined : await readSetting("auth.tokens.secretFile", tokens.secretFile);
  const secretText = secret?.toString("base64");
  const tokensKey = JSON.stringify([tokens, keysStaleMs, secretText]);
  return {
    ...{ tokensKey, secret: secretText },
    sources: {
      isRequired: isAuthRequired(config),
      bootstrapKey: await bootstrapKeyOf(config),
      certificateRoles: certificates && new Map(Object.entries(certificates)),
      tokens: before?.tokensKey === tokensKey ? before.sources.tokens : await tokensOf(config, secret, context),
      keysStaleMs,
    },
  };
}

/** Longest set of keys that is read, in bytes, and how long reading one may take. */
const keySetBytes = 1024 * 1024;
const keySetTimeoutMs = 5_000;

async function tokensOf(
  { auth: { tokens, keysStaleMs } }: NodeConfig,
  secret: Buffer | undefined,
  { store, clock, logger }: { store: KeyStore; clock: Clock; logger: Logger },
): Promise<TokenVerifier | undefined> {
  if (tokens === undefined) return undefined;
  const { keys, tenantClaim, tenantPath, ...rest } = tokens;
  return openTokens({
    ...rest,
    ...{ store, clock, keysStaleMs },
    secret: secret && Buffer.from(secret.toString().trim()),
    loadKeys: keys === undefined ? undefined : () => loadKeySet(keys, clock),
    tenant: tenantClaim && tenantPath ? { claim: tenantClaim, path: tenantPath } : undefined,
    onFailure: (error) => logger.warn(`the keys of tokens stay as they were: ${error.message}`, { code: error.code }),
  });
}

/** From the setting alone: no token says where its key is. */
async function loadKeySet(keys: string, clock: Clock): Promise<unknown> {
  const fail = (why: string, cause?: unknown): KithError =>
    new KithError("INVALID_CONFIG", `auth.tokens.keys ${keys} ${why}`, { cause });
  const tooLong = (): KithError => fail(`has more than ${keySetBytes} bytes`);
  let text: string;
  if (!/^https?:/i.test(keys)) text = (await readSetting("auth.tokens.keys", keys)).toString();
  else {
    const fetchText = async (signal: AbortSignal): Promise<string> => {
      const response = await fetch(keys, { redirect: "error", signal });
      if (!response.ok) throw fail(`answers with status ${response.status}`);
      const chunks: Uint8Array[] = [];
      let length = 0;
      // Unpacked already, where it comes packed; what follows is not asked for.
      for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
        length += chunk.length;
        if (length > keySetBytes) throw tooLong();
        chunks.push(chunk);
      }
      return Buffer.concat(chunks).toString();
    };
    text = await withTimeout(clock, keySetTimeoutMs, fetchText).catch((cause: unknown) => {
      throw toKithError(cause).code === "INVALID_CONFIG"
        ? cause
        : fail(`does not answer: ${(cause as Error).message}`, cause);
    });
  }
  if (text.length > keySetBytes) throw tooLong();
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw fail("is no JSON", cause);
  }
}

async function bootstrapKeyOf({ auth }: NodeConfig): Promise<string | undefined> {
  const { adminKey, adminKeyFile } = auth;
  if (adminKeyFile === undefined) return adminKey;
  if (adminKey !== undefined) {
    throw new KithError("INVALID_CONFIG", "auth.adminKey and auth.adminKeyFile are both given; leave one of them out");
  }
  const key = (await readSetting("auth.adminKeyFile", adminKeyFile)).toString().trim();
  if (key.length >= keyLengthMin && !/\s/.test(key)) return key;
  throw new KithError(
    "INVALID_CONFIG",
    `auth.adminKeyFile ${adminKeyFile} must have one line of ${keyLengthMin} random characters or more`,
  );
}

const keyLengthMin = 32;
