import type { Metadata } from "@grpc/grpc-js";
import {
  type AuditLog,
  type Authenticator,
  type Credentials,
  type PeerCertificate,
  type Principal,
  changesCollections,
  rpcRules,
} from "../../libs/auth/index.js";
import { assert, KithError, toKithError } from "../../libs/base/index.js";
import { type CallAccess, fullAccess } from "../../libs/call/index.js";
import type { BidiDefinition, ServerStreamDefinition, UnaryDefinition } from "../../libs/rpc/common/index.js";
import type { Handlers, ServerStream, UnaryContext, UnaryHandler } from "../../libs/rpc/server/index.js";
import { type TraceContext, traceparentOf } from "../../libs/telemetry/index.js";
import type { Encoded } from "../../libs/wire/index.js";

/** What a stream asks of the door, for itself and for each of its messages: a stream lives long, and a key may be revoked meanwhile. */
export interface Gate {
  /** What the stream's caller may do now. UNAUTHENTICATED, PERMISSION_DENIED. */
  admit(): CallAccess | Promise<CallAccess>;
  /** Does the work of one message, as a call by itself. `asked`: the collection that it names. */
  run<T>(asked: string, call: GuardedCall, work: () => Promise<T>): Promise<T>;
}

/** What the door puts into a call, and tells of it. */
interface GuardedCall {
  access: CallAccess | undefined;
  readonly trace: TraceContext;
}

/** Handlers behind the door: those of streams ask by themselves, for each message. */
export type GuardedHandlers<D> = {
  [M in keyof D]: D[M] extends UnaryDefinition<infer Req, infer Res>
    ? UnaryHandler<Req, Res | Encoded<Res>>
    : D[M] extends BidiDefinition<infer Req, infer Res> | ServerStreamDefinition<infer Req, infer Res>
      ? (stream: ServerStream<Req, Res | Encoded<Res>>, gate: Gate) => Promise<void>
      : never;
};

type AnyUnary = UnaryHandler<object, object>;
type AnyStream = (stream: ServerStream<object, object>, gate: Gate) => Promise<void>;

/** Where calls come from, as far as it tells who makes them. */
interface Source {
  readonly metadata: Metadata;
  readonly peerCommonName: string | undefined;
  readonly peer: string;
}

export interface DoorOptions {
  /** Missing: everybody may do all. */
  authenticator?: Authenticator | undefined;
  /** Where it is kept who did what. */
  audit?: AuditLog | undefined;
  /** Why nothing may be changed now; undefined where it may. Missing: it always may. */
  refusal?: () => KithError | undefined;
  /** The own name of the collection that a name or an alias means. */
  ownName: (asked: string) => string | undefined;
}

/** The gRPC door: finds out who makes each call, gives the call what its caller may do, and keeps what it has done. */
export class Door {
  readonly #options: DoorOptions;

  constructor(options: DoorOptions) {
    this.#options = options;
  }

  /** The handlers as a server takes them. */
  guard<D extends object>(definition: D, handlers: GuardedHandlers<D>): Handlers<D> {
    const guarded: Record<string, unknown> = {};
    for (const [name, method] of Object.entries(definition) as [string, { path: string; responseStream: boolean }][]) {
      const { path, responseStream } = method;
      assert(rpcRules[path] !== undefined, `${path} is not in the table of what calls need`);
      const handler = (handlers as Record<string, unknown>)[name];
      guarded[name] = responseStream
        ? this.#guardStream(path, handler as AnyStream)
        : this.#guardUnary(path, handler as AnyUnary);
    }
    return guarded as Handlers<D>;
  }

  #guardUnary(path: string, handler: AnyUnary) {
    return (request: object, call: UnaryContext): Promise<object> =>
      this.#run(path, call, askedIn(request), call, () => handler(request, call));
  }

  #guardStream(path: string, handler: AnyStream) {
    return async (stream: ServerStream<object, object>): Promise<void> => {
      const gate: Gate = {
        admit: () => this.#admit(path, stream, stream.call),
        run: (asked, call, work) => this.#run(path, stream, asked, call, work),
      };
      try {
        // Told at once, and not with the first message.
        stream.call.access = await gate.admit();
      } catch (error) {
        this.#note(path, stream, "", stream.call, error);
        throw error;
      }
      await handler(stream, gate);
    };
  }

  #run<T>(path: string, source: Source, asked: string, call: GuardedCall, work: () => Promise<T>): Promise<T> {
    if (this.#options.audit === undefined) return this.#admitted(path, source, call, work);
    return this.#audited(path, source, asked, call, work);
  }

  #admitted<T>(path: string, source: Source, call: GuardedCall, work: () => Promise<T>): Promise<T> {
    const access = this.#admit(path, source, call);
    return access instanceof Promise
      ? this.#beginAfter(path, access, call, work)
      : this.#begin(path, access, call, work);
  }

  async #beginAfter<T>(
    path: string,
    access: Promise<CallAccess>,
    call: GuardedCall,
    work: () => Promise<T>,
  ): Promise<T> {
    return this.#begin(path, await access, call, work);
  }

  #begin<T>(path: string, access: CallAccess, call: GuardedCall, work: () => Promise<T>): Promise<T> {
    call.access = access;
    const refusal = changesCollections(path) ? this.#options.refusal?.() : undefined;
    if (refusal !== undefined) return Promise.reject(refusal);
    access.usage?.begin();
    return work();
  }

  async #audited<T>(
    path: string,
    source: Source,
    asked: string,
    call: GuardedCall,
    work: () => Promise<T>,
  ): Promise<T> {
    try {
      const result = await this.#admitted(path, source, call, work);
      this.#note(path, source, asked, call, undefined);
      return result;
    } catch (error) {
      this.#note(path, source, asked, call, error);
      throw error;
    }
  }

  #note(path: string, { peer }: Source, asked: string, { access, trace }: GuardedCall, error: unknown): void {
    const { audit, ownName } = this.#options;
    const own = asked === "" ? undefined : ownName(asked);
    audit?.note({
      caller: access?.caller ?? "unknown",
      ...{ path, asked, source: peer },
      collection: own !== undefined && access?.decide(own).isVisible === true ? own : "",
      outcome: error === undefined ? "OK" : toKithError(error).code,
      traceId: traceparentOf(trace).split("-")[1] ?? "",
    });
  }

  #admit(path: string, source: Source, call: GuardedCall): CallAccess | Promise<CallAccess> {
    const auth = this.#options.authenticator;
    if (auth === undefined) return openAccess(path);
    const principal = auth.authenticate(new ShownCredentials(source));
    if (!(principal instanceof Promise)) return this.#authorize(auth, principal, path, call);
    return principal.then((known) => this.#authorize(auth, known, path, call));
  }

  #authorize(auth: Authenticator, principal: Principal, path: string, call: GuardedCall): CallAccess {
    try {
      return auth.authorize(principal, path);
    } catch (error) {
      // Who was refused is to be told.
      call.access = { caller: principal.title, verb: "none", decide: () => nothingAllowed };
      throw error;
    }
  }
}

const nothingAllowed = { isAllowed: false, isVisible: false, rule: undefined };

/** The name of the collection in a request, wherever it has one. */
function askedIn(request: object): string {
  const { collection, name, query } = request as {
    collection?: unknown;
    name?: unknown;
    query?: { collection?: unknown };
  };
  for (const each of [collection, query?.collection, name]) if (typeof each === "string") return each;
  return "";
}

const opened = new Map<string, CallAccess>();

/** One for each kind of call. */
function openAccess(path: string): CallAccess {
  let access = opened.get(path);
  if (access === undefined) {
    access = fullAccess(rpcRules[path]?.verb ?? path);
    opened.set(path, access);
  }
  return access;
}

/**
 * What a call shows. A class: an object literal with a getter has a hidden class of its own, which V8 keeps, and the call and its request with it, until
 * the old generation is collected. That cost a query a fifth of its CPU time.
 */
class ShownCredentials implements Credentials {
  readonly #source: Source;

  constructor(source: Source) {
    this.#source = source;
  }

  get authorization(): string | undefined {
    return headerOf(this.#source.metadata, "authorization");
  }

  get apiKey(): string | undefined {
    return headerOf(this.#source.metadata, "api-key");
  }

  /** Asked for where nothing else tells. */
  get peerCertificate(): PeerCertificate | undefined {
    const { peerCommonName } = this.#source;
    return peerCommonName === undefined ? undefined : { commonName: peerCommonName };
  }
}

function headerOf(metadata: Metadata, name: string): string | undefined {
  const values = metadata.get(name);
  if (values.length > 1) throw new KithError("UNAUTHENTICATED", `the call has the header ${name} more than once`);
  const [value] = values;
  return typeof value === "string" ? value : undefined;
}
