import type { Metadata } from "@grpc/grpc-js";
import { type Authenticator, rpcRules } from "../../libs/auth/index.js";
import { assert, KithError } from "../../libs/base/index.js";
import { type CallAccess, fullAccess } from "../../libs/call/index.js";
import type { BidiDefinition, ServerStreamDefinition, UnaryDefinition } from "../../libs/rpc/common/index.js";
import type { Handlers, ServerStream, UnaryContext, UnaryHandler } from "../../libs/rpc/server/index.js";
import type { Encoded } from "../../libs/wire/index.js";

/** Tells anew what the stream's caller may do: a stream lives long, and a key may be revoked meanwhile. UNAUTHENTICATED, PERMISSION_DENIED. */
export type Admit = () => CallAccess | Promise<CallAccess>;

/** Handlers behind the door: those of streams ask by themselves, for each message. */
export type GuardedHandlers<D> = {
  [M in keyof D]: D[M] extends UnaryDefinition<infer Req, infer Res>
    ? UnaryHandler<Req, Res | Encoded<Res>>
    : D[M] extends BidiDefinition<infer Req, infer Res> | ServerStreamDefinition<infer Req, infer Res>
      ? (stream: ServerStream<Req, Res | Encoded<Res>>, admit: Admit) => Promise<void>
      : never;
};

type AnyUnary = UnaryHandler<object, object>;
type AnyStream = (stream: ServerStream<object, object>, admit: Admit) => Promise<void>;

/** Where calls come from, as far as it tells who makes them. */
interface Source {
  readonly metadata: Metadata;
  readonly peerCommonName: string | undefined;
}

/** The gRPC door: finds out who makes each call, and gives the call what its caller may do. Without an authenticator everybody may do all. */
export class Door {
  readonly #auth: Authenticator | undefined;

  constructor(auth: Authenticator | undefined) {
    this.#auth = auth;
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
    return (request: object, call: UnaryContext): Promise<object> => {
      const access = this.#admit(path, call);
      if (!(access instanceof Promise)) {
        call.access = access;
        return handler(request, call);
      }
      return access.then((admitted) => {
        call.access = admitted;
        return handler(request, call);
      });
    };
  }

  #guardStream(path: string, handler: AnyStream) {
    return async (stream: ServerStream<object, object>): Promise<void> => {
      const admit: Admit = () => this.#admit(path, stream);
      // Told at once, and not with the first message.
      stream.call.access = await admit();
      await handler(stream, admit);
    };
  }

  #admit(path: string, source: Source): CallAccess | Promise<CallAccess> {
    const auth = this.#auth;
    if (auth === undefined) return openAccess(path);
    const principal = auth.authenticate({
      authorization: headerOf(source.metadata, "authorization"),
      apiKey: headerOf(source.metadata, "api-key"),
      // Asked for where nothing else tells.
      get peerCertificate() {
        const { peerCommonName } = source;
        return peerCommonName === undefined ? undefined : { commonName: peerCommonName };
      },
    });
    if (!(principal instanceof Promise)) return auth.authorize(principal, path);
    return principal.then((known) => auth.authorize(known, path));
  }
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

function headerOf(metadata: Metadata, name: string): string | undefined {
  const values = metadata.get(name);
  if (values.length > 1) throw new KithError("UNAUTHENTICATED", `the call has the header ${name} more than once`);
  const [value] = values;
  return typeof value === "string" ? value : undefined;
}
