import { type Clock, KithError, limits, toKithError } from "../../../libs/base/index.js";
import type { CollectionsView, Directory } from "../../../libs/cluster/index.js";
import type { CallContext } from "../../../libs/call/index.js";
import { checkCollectionName } from "../../../libs/model/index.js";
import type { pb } from "../../../libs/wire/index.js";
import { collectionTo } from "./collection-wire.js";
import { accessOf, checkAllowed, checkMayName, isVisible, notFound } from "../access.js";
import { checkFree, namedCollection, ownName, taken } from "./named.js";

/** An action whose collection is known. */
type Step =
  | { kind: "create" | "switch"; at: string; alias: string; collectionId: string }
  | { kind: "delete"; at: string; alias: string }
  | { kind: "rename"; at: string; alias: string; newAlias: string };

/** Names of collections: aliases, and the giving of another name. Every change is one compare-and-set of the directory. */
export class Aliases {
  readonly #view: CollectionsView;
  readonly #clock: Clock;

  constructor(view: CollectionsView, clock: Clock) {
    this.#view = view;
    this.#clock = clock;
  }

  /** Those of collections that the caller may know of. */
  list(request: pb.ListAliasesRequest, call: CallContext): pb.ListAliasesResponse {
    const { collection: name } = request;
    const only = name === "" ? undefined : namedCollection(this.#view, name, call).record.id;
    return {
      aliases: this.#view.naming
        .aliases()
        .filter(
          ({ collection: { record } }) => (only === undefined || record.id === only) && isVisible(call, record.name),
        )
        .map(({ alias, collection }) => ({ alias, collection: collection.record.name })),
    };
  }

  async update(request: pb.UpdateAliasesRequest, call: CallContext): Promise<pb.UpdateAliasesResponse> {
    const { length } = request.actions;
    if (length === 0) throw new KithError("INVALID_ARGUMENT", "the request has no actions; give at least one");
    if (length > limits.aliasActions) {
      throw new KithError(
        "BATCH_TOO_LARGE",
        `the request has ${length} actions; at most ${limits.aliasActions} are allowed`,
        { details: { count: length, limit: limits.aliasActions } },
      );
    }
    const steps: Step[] = [];
    for (const [i, { action }] of request.actions.entries())
      steps.push(await this.#stepOf(action, `actions[${i}].`, call));
    const created = steps.flatMap((step) => {
      return step.kind === "create" ? [step.alias] : step.kind === "rename" ? [step.newAlias] : [];
    });
    await this.#claim(created, undefined, (directory) => {
      for (const step of steps) {
        if (step.kind === "create") this.#checkNoCollection(step.alias, step.at);
        if (step.kind === "rename") this.#checkNoCollection(step.newAlias, step.at);
      }
      return steps.reduce((before, step) => taking(before, step, (id) => this.#checkTarget(id, step, call)), directory);
    });
    return {};
  }

  async rename(request: pb.RenameCollectionRequest, call: CallContext): Promise<pb.RenameCollectionResponse> {
    const { name, newName } = request;
    checkCollectionName(newName);
    await this.#know(name, call);
    const { key, record } = ownName(this.#view, name, call);
    checkMayName(call, newName, "new_name: ");
    if (record.state === "creating") {
      throw new KithError("COLLECTION_NOT_READY", `the collection "${name}" is being created; try again in a moment`, {
        details: { collection: name },
        retryAfterMs: 200,
      });
    }
    const { id } = record;
    if (name !== newName) {
      await this.#claim([newName], id, (directory) => {
        // Under a name of before, another one may be meant by now.
        const now = this.#view.naming.findByName(name);
        if (now?.record.id !== id || now.record.state === "deleting") throw notFound(name);
        checkFree(this.#view, newName, call, "new_name: ");
        const names = directory.names.filter(({ collectionId }) => collectionId !== id);
        const given = { collectionId: id, name: newName, sinceMs: this.#clock.nowMs() };
        return { ...directory, names: key === newName ? names : [...names, given] };
      });
    }
    const stored = this.#view.get(key)?.value;
    if (stored?.id !== id || stored.state === "deleting") throw notFound(newName);
    return { collection: collectionTo({ ...stored, name: newName }, this.#view.naming) };
  }

  async #stepOf(action: pb.AliasAction["action"], prefix: string, call: CallContext): Promise<Step> {
    if (action === undefined) throw new KithError("INVALID_ARGUMENT", `${prefix}action: there is none`);
    const at = `${prefix}${action.$case}`;
    const { alias } = action.value;
    checkAlias(alias, `${at}.alias`);
    switch (action.$case) {
      case "create":
      case "switch": {
        const { collection } = action.value;
        await this.#know(collection, call);
        const { record } = ownName(this.#view, collection, call, `${at}.collection: `);
        // A name that is new must be one that the caller may give; whether something has it is told to nobody else.
        if (action.$case === "create") checkMayName(call, alias, `${at}.alias: `);
        return { kind: action.$case, at: `${at}.alias: `, alias, collectionId: record.id };
      }
      case "delete":
        return { kind: "delete", at: `${at}.alias: `, alias };
      case "rename": {
        const { newAlias } = action.value;
        checkAlias(newAlias, `${at}.new_alias`);
        checkMayName(call, newAlias, `${at}.new_alias: `);
        return { kind: "rename", at: `${at}.alias: `, alias, newAlias };
      }
    }
  }

  /**
   * Changes the directory, in which these names are new. A collection of one of them may be made at the same moment: that comes first, and
   * what was changed here is taken back; its maker looks into the directory as well once its record is there. `own`: id of the collection that
   * may have one of the names as the key of its record.
   */
  async #claim(
    names: readonly string[],
    own: string | undefined,
    change: (directory: Directory) => Directory,
  ): Promise<void> {
    for (const name of names) await this.#view.read(name);
    const { before, after } = await this.#view.changeDirectory(change);
    if (before === after.value) return;
    for (const name of names) {
      const present = (await this.#view.read(name))?.value;
      const isRenamed = after.value.names.some(({ collectionId }) => collectionId === present?.id);
      if (present === undefined || present.id === own || isRenamed) continue;
      await this.#view.changeDirectory((directory) => takenBack(directory, before, after.value, names));
      throw taken(name, present.state === "deleting");
    }
  }

  /** A collection that this router has not heard of yet may be there. Of one that the caller may not know of, nothing is asked. */
  async #know(name: string, call: CallContext): Promise<void> {
    checkCollectionName(name);
    if (this.#view.naming.find(name) === undefined && isVisible(call, name)) await this.#view.read(name);
  }

  /** What an alias means must be the caller's as well: one of a collection that it may not know of is none for it. */
  #checkTarget(collectionId: string, step: Step, call: CallContext): void {
    const name = this.#view.naming.nameOf(collectionId);
    // It means nothing any more.
    if (name === undefined) return;
    const { isAllowed, isVisible: isKnown } = accessOf(call).decide(name);
    if (isAllowed) return;
    if (!isKnown) throw noAlias(step);
    checkAllowed(call, name, name, step.at);
  }

  #checkNoCollection(alias: string, at: string): void {
    const collection = this.#view.naming.findByName(alias);
    if (collection !== undefined) throw taken(alias, collection.record.state === "deleting", at);
  }
}

/** The directory after one more action, all of which are taken in order. `check` refuses to touch what the caller may not. */
function taking(directory: Directory, step: Step, check: (collectionId: string) => void): Directory {
  const { aliases } = directory;
  const present = aliases.find(({ alias }) => alias === step.alias);
  const others = aliases.filter((each) => each !== present);
  switch (step.kind) {
    case "create": {
      const { alias, collectionId } = step;
      if (present?.collectionId === collectionId) return directory;
      if (present !== undefined) throw aliasTaken(alias, step.at);
      if (aliases.length >= limits.aliasesMax) {
        throw new KithError("RESOURCE_EXHAUSTED", `there are ${limits.aliasesMax} aliases already; delete one first`, {
          details: { limit: limits.aliasesMax },
        });
      }
      return { ...directory, aliases: [...aliases, { alias, collectionId }] };
    }
    case "switch": {
      const { alias, collectionId } = step;
      if (present === undefined) throw noAlias(step);
      check(present.collectionId);
      return { ...directory, aliases: [...others, { alias, collectionId }] };
    }
    case "delete":
      if (present === undefined) throw noAlias(step);
      check(present.collectionId);
      return { ...directory, aliases: others };
    case "rename": {
      if (present === undefined) throw noAlias(step);
      check(present.collectionId);
      if (others.some(({ alias }) => alias === step.newAlias)) throw aliasTaken(step.newAlias, step.at);
      return { ...directory, aliases: [...others, { ...present, alias: step.newAlias }] };
    }
  }
}

/** The directory without what a change has added to it; as it was before, if nobody has changed it since. */
function takenBack(directory: Directory, before: Directory, after: Directory, names: readonly string[]): Directory {
  if (JSON.stringify(directory) === JSON.stringify(after)) return before;
  const isOurs = (name: string): boolean => names.includes(name);
  return {
    aliases: directory.aliases.filter(({ alias }) => !isOurs(alias)),
    names: directory.names.filter(({ name }) => !isOurs(name)),
  };
}

function checkAlias(alias: string, at: string): void {
  try {
    checkCollectionName(alias);
  } catch (error) {
    const { code, message, details } = toKithError(error);
    throw new KithError(
      code,
      `${at}: ${message.replaceAll("a collection", "an alias").replaceAll("collection", "alias")}`,
      { details, cause: error },
    );
  }
}

function aliasTaken(alias: string, at: string): KithError {
  return new KithError("ALREADY_EXISTS", `${at}there is an alias "${alias}" already, of another collection`, {
    details: { alias },
  });
}

function noAlias({ alias, at }: Step): KithError {
  return new KithError("NOT_FOUND", `${at}there is no alias "${alias}"`, { details: { alias } });
}
