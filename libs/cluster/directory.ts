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

/** One collection's claim to a name; of several the one with the lowest rank has it. */
interface Claim {
  record: Collection;
  name: string;
  rank: number;
}

/**
 * What each name means, of collections and aliases as they are now. A collection comes before an alias. Of two with one name, which
 * can only be while one of them is taken back, the one whose record stands under the name comes before one that was given it, and one that is
 * being deleted comes last.
 *
 * A change of a collection whose name no other one claims costs what it changes, however many there are; any other builds all of it again.
 */
export class Names {
  readonly #byName = new Map<string, NamedCollection>();
  readonly #byAlias = new Map<string, NamedCollection>();
  readonly #names = new Map<string, string>();
  readonly #aliasesById = new Map<string, string[]>();
  /** By the keys of their records. */
  readonly #records = new Map<string, Collection>();
  #directory: Directory = emptyDirectory;
  /** Of the directory: by collection id, the name that it was given. */
  #given = new Map<string, string>();
  /** Names that the directory knows, as aliases or as given ones, and ids of collections that it knows. */
  #known = new Set<string>();
  #isStale = true;
  #buildCount = 0;

  constructor(collections: Iterable<Collection>, directory: Directory) {
    for (const record of collections) this.#records.set(record.name, record);
    this.setDirectory(directory);
  }

  /** How often all of it was built: only then may a collection have another name than before without a change of its own record. */
  get buildCount(): number {
    this.#build();
    return this.#buildCount;
  }

  /** The record under this key is another one now, or gone. */
  set(key: string, record: Collection | undefined): void {
    const before = this.#records.get(key);
    if (record === undefined) this.#records.delete(key);
    else this.#records.set(key, record);
    if (this.#isStale) return;
    if (before !== undefined && record !== undefined && hasSameStanding(before, record)) this.#replace(record);
    else if ([before, record].every((each) => each === undefined || this.#isPlain(each)))
      this.#putPlain(before, record);
    else this.#isStale = true;
  }

  setDirectory(directory: Directory): void {
    this.#directory = directory;
    const { names, aliases } = directory;
    this.#given = new Map(names.map(({ collectionId, name }) => [collectionId, name]));
    this.#known = new Set([
      ...names.flatMap(({ collectionId, name }) => [collectionId, name]),
      ...aliases.flatMap(({ collectionId, alias }) => [collectionId, alias]),
    ]);
    this.#isStale = true;
  }

  /** Whether it has only the name of its record, and nothing else can mean that. */
  #isPlain({ id, name }: Collection): boolean {
    return !this.#known.has(id) && !this.#known.has(name) && !name.startsWith(namelessPrefix);
  }

  #putPlain(before: Collection | undefined, record: Collection | undefined): void {
    if (before !== undefined) {
      this.#byName.delete(before.name);
      this.#names.delete(before.id);
    }
    if (record === undefined) return;
    this.#byName.set(record.name, { key: record.name, record });
    this.#names.set(record.id, record.name);
  }

  #replace(record: Collection): void {
    const name = this.#names.get(record.id);
    if (name === undefined) return;
    const named = namedAs(record, name);
    this.#byName.set(name, named);
    for (const alias of this.#aliasesById.get(record.id) ?? []) this.#byAlias.set(alias, named);
  }

  #build(): void {
    if (!this.#isStale) return;
    this.#isStale = false;
    this.#buildCount++;
    for (const map of [this.#byName, this.#byAlias, this.#names, this.#aliasesById]) map.clear();
    const byId = new Map<string, NamedCollection>();
    for (const { record, name } of this.#claims()) {
      // A renamed one has its old name where it cannot have the new one.
      if (byId.has(record.id) || this.#byName.has(name)) continue;
      const named = namedAs(record, name);
      byId.set(record.id, named);
      this.#byName.set(name, named);
      this.#names.set(record.id, name);
    }
    for (const { alias, collectionId } of this.#directory.aliases) {
      const target = byId.get(collectionId);
      if (target === undefined || this.#byName.has(alias)) continue;
      this.#byAlias.set(alias, target);
      const ofSame = this.#aliasesById.get(collectionId);
      if (ofSame === undefined) this.#aliasesById.set(collectionId, [alias]);
      else ofSame.push(alias);
    }
    for (const aliases of this.#aliasesById.values()) aliases.sort();
  }

  /** The best first; of equal ones in the order of their keys. */
  #claims(): Claim[] {
    const claims: Claim[] = [];
    for (const key of [...this.#records.keys()].sort()) {
      const record = this.#records.get(key);
      if (record === undefined) continue;
      const name = this.#given.get(record.id);
      const rank = record.state === "deleting" ? 2 : name === undefined ? 0 : 1;
      if (name !== undefined) claims.push({ record, name, rank });
      if (!record.name.startsWith(namelessPrefix)) {
        claims.push({ record, name: record.name, rank: name === undefined ? rank : 3 });
      }
    }
    return claims.sort((a, b) => a.rank - b.rank);
  }

  /** The collection with this name, or that the alias means. */
  find(name: string): NamedCollection | undefined {
    this.#build();
    return this.#byName.get(name) ?? this.#byAlias.get(name);
  }

  /** The collection that the alias means. */
  findByAlias(alias: string): NamedCollection | undefined {
    this.#build();
    return this.#byAlias.get(alias);
  }

  /** The collection with this name; none for an alias. */
  findByName(name: string): NamedCollection | undefined {
    this.#build();
    return this.#byName.get(name);
  }

  /** The present name of the collection with this id; undefined where there is none. */
  nameOf(collectionId: string): string | undefined {
    this.#build();
    return this.#names.get(collectionId);
  }

  /** In order. */
  aliasesOf(collectionId: string): string[] {
    this.#build();
    return [...(this.#aliasesById.get(collectionId) ?? [])];
  }

  /** In order of their names. */
  all(): NamedCollection[] {
    this.#build();
    return [...this.#byName.values()].sort((a, b) => (a.record.name < b.record.name ? -1 : 1));
  }

  /** In order. */
  aliases(): { alias: string; collection: NamedCollection }[] {
    this.#build();
    const entries = Array.from(this.#byAlias, ([alias, collection]) => ({ alias, collection }));
    return entries.sort((a, b) => (a.alias < b.alias ? -1 : 1));
  }
}

function namedAs(record: Collection, name: string): NamedCollection {
  return { key: record.name, record: record.name === name ? record : { ...record, name } };
}

/** Whether one record of a collection and the next claim the same names with the same right. */
function hasSameStanding(one: Collection, other: Collection): boolean {
  return one.id === other.id && (one.state === "deleting") === (other.state === "deleting");
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
