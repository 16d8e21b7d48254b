import { assert } from "../base/index.js";
import type { Collection } from "../model/index.js";

/** The names of collections beside those of their records: one entry of the catalog, so that any number of names change in one step. */
export interface Directory {
  aliases: readonly Alias[];
  /** Names of collections that have another one than their record. */
  names: readonly GivenName[];
}

export interface Alias {
  alias: string;
  /** So that it stays good when the collection is renamed, and means none once it is deleted. */
  collectionId: string;
}

export interface GivenName {
  collectionId: string;
  name: string;
  /** Wall clock of the router that gave it, milliseconds since the Unix epoch. */
  sinceMs: number;
}

export const emptyDirectory: Directory = { aliases: [], names: [] };

/** A collection by the names that it has now. */
export interface NamedCollection {
  /** Of its record among the collections, whatever its name is. */
  key: string;
  /** With its present name. */
  record: Collection;
}

/** No name of a collection begins so: the key of a record whose name is the key of a renamed collection. */
export const namelessPrefix = "_";

/**
 * What each name means, of collections and aliases as they are at one moment. A collection comes before an alias. Of two with one name, which
 * can only be while one of them is taken back, the one whose record stands under the name comes before one that was given it, and one that is
 * being deleted comes last.
 */
export class Names {
  readonly #byName = new Map<string, NamedCollection>();
  readonly #byAlias = new Map<string, NamedCollection>();
  readonly #names = new Map<string, string>();
  readonly #aliasesById = new Map<string, string[]>();

  constructor(collections: Iterable<Collection>, { aliases, names }: Directory) {
    const given = new Map(names.map(({ collectionId, name }) => [collectionId, name]));
    const byId = new Map<string, NamedCollection>();
    const claims: { record: Collection; name: string; rank: number }[] = [];
    for (const record of collections) {
      const name = given.get(record.id);
      const rank = record.state === "deleting" ? 2 : name === undefined ? 0 : 1;
      if (name !== undefined) claims.push({ record, name, rank });
      if (!record.name.startsWith(namelessPrefix)) {
        claims.push({ record, name: record.name, rank: name === undefined ? rank : 3 });
      }
    }
    claims.sort((a, b) => a.rank - b.rank);
    for (const { record, name } of claims) {
      // A renamed one has its old name where it cannot have the new one.
      if (byId.has(record.id) || this.#byName.has(name)) continue;
      const named = { key: record.name, record: record.name === name ? record : { ...record, name } };
      byId.set(record.id, named);
      this.#byName.set(name, named);
      this.#names.set(record.id, name);
    }
    for (const { alias, collectionId } of aliases) {
      const target = byId.get(collectionId);
      if (target === undefined || this.#byName.has(alias)) continue;
      this.#byAlias.set(alias, target);
      this.#aliasesById.set(collectionId, [...(this.#aliasesById.get(collectionId) ?? []), alias].sort());
    }
  }

  /** The collection with this name, or that the alias means. */
  find(name: string): NamedCollection | undefined {
    return this.#byName.get(name) ?? this.#byAlias.get(name);
  }

  /** The collection that the alias means. */
  findByAlias(alias: string): NamedCollection | undefined {
    return this.#byAlias.get(alias);
  }

  /** The collection with this name; none for an alias. */
  findByName(name: string): NamedCollection | undefined {
    return this.#byName.get(name);
  }

  /** The present name of the collection with this id; undefined where there is none. */
  nameOf(collectionId: string): string | undefined {
    return this.#names.get(collectionId);
  }

  /** In order. */
  aliasesOf(collectionId: string): string[] {
    return this.#aliasesById.get(collectionId) ?? [];
  }

  /** In order of their names. */
  all(): NamedCollection[] {
    return [...this.#byName.values()].sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
  }

  /** In order. */
  aliases(): { alias: string; collection: NamedCollection }[] {
    const entries = Array.from(this.#byAlias, ([alias, collection]) => ({ alias, collection }));
    return entries.sort((a, b) => (a.alias < b.alias ? -1 : 1));
  }
}

/** The directory without a collection that is deleted. The same object where it names none of it. */
export function withoutCollection(directory: Directory, collectionId: string): Directory {
  const isOther = (each: Alias | GivenName): boolean => each.collectionId !== collectionId;
  if (directory.aliases.every(isOther) && directory.names.every(isOther)) return directory;
  return { aliases: directory.aliases.filter(isOther), names: directory.names.filter(isOther) };
}

/** The entry as earlier releases can read it too: they take what lies under the prefix of collections for one, and pass over its state. */
export function directoryToJson({ aliases, names }: Directory): object {
  const asCollection = { id: "names", name: "_names", state: "names", fields: [], shards: [], labels: {} };
  return { ...asCollection, epoch: 0, createdAtMs: 0, aliases, names };
}

export function parseDirectory(json: string): Directory {
  const { aliases, names } = JSON.parse(json) as Directory;
  assert(
    Array.isArray(aliases) && Array.isArray(names),
    `the catalog holds a directory of names that is none: ${json.slice(0, 200)}`,
  );
  return { aliases, names };
}
