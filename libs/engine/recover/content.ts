import { assert, KithError } from "../../base/index.js";
import type { IdKey } from "../../model/index.js";
import { contentBytes, type Head, type PartKind, partKind, type StoreExport } from "../../storage/index.js";
import type { ipb } from "../../wire/index.js";
import type { OpenReplica } from "../replica/open-replica.js";
import { decodeSchema, fromJson, type NamedField, type Schema, type StoreState, vectorFieldsOf } from "./schema.js";

const readKinds: readonly PartKind[] = [partKind.vector, partKind.sparse, partKind.multi, partKind.payload];

/** Consecutive points in order of id, by what their heads say. */
export interface HeadRange {
  ids: IdKey[];
  heads: Head[];
}

/** All that a replica holds at one sequence, to be read in order of id while it goes on. Close it. */
export class ReplicaContent {
  readonly incarnation: string;
  readonly state: StoreState;
  /** As they are stored. */
  readonly stateBody: Uint8Array;
  readonly schemaBody: Uint8Array;
  readonly #schema: Schema;
  readonly #store: StoreExport;

  private constructor(
    store: StoreExport,
    incarnation: string,
    bodies: { stateBody: Uint8Array; schemaBody: Uint8Array },
  ) {
    this.#store = store;
    this.incarnation = incarnation;
    this.stateBody = bodies.stateBody;
    this.schemaBody = bodies.schemaBody;
    this.state = fromJson<StoreState>(bodies.stateBody);
    this.#schema = decodeSchema(bodies.schemaBody);
  }

  /** As of now. */
  static async take({ store, identity }: Pick<OpenReplica, "store" | "identity">): Promise<ReplicaContent> {
    const taken = store.export();
    try {
      const [stateBody, schemaBody] = await Promise.all([taken.getMeta("state"), taken.getMeta("schema")]);
      if (stateBody === undefined || schemaBody === undefined) {
        throw new KithError("CORRUPT_DATA", "the store has lost its state or its schema");
      }
      return new ReplicaContent(taken, identity.incarnation, { stateBody, schemaBody });
    } catch (error) {
      await taken.close();
      throw error;
    }
  }

  /** The vector fields of all kinds, by number. */
  get fields(): ReadonlyMap<number, Pick<NamedField, "name" | "dimension">> {
    return new Map(vectorFieldsOf(this.#schema).map((field) => [field.number, field]));
  }

  /** Bytes of vectors and payload. */
  pointBytes(head: Head): number {
    return contentBytes(head, { payload: true, fields: vectorFieldsOf(this.#schema) });
  }

  heads(): AsyncGenerator<HeadRange> {
    return this.#store.heads();
  }

  outcomes(): AsyncGenerator<{ sequence: number; body: Uint8Array }> {
    return this.#store.outcomes();
  }

  /** Consecutive points with all that they hold; CORRUPT_DATA where a part is not what its head says. */
  async points({ ids, heads }: HeadRange): Promise<ipb.BackupPoints> {
    const versions = heads.map(({ version }) => version);
    const expires = heads.map(({ expiresAtMs }) => expiresAtMs ?? 0);
    const columns: ipb.BackupColumn[] = [];
    const fields = [...vectorFieldsOf(this.#schema)].sort((a, b) => (a.name < b.name ? -1 : 1));
    const put = async (of: PartKind): Promise<void> => {
      for (const { number, name, kind } of fields) {
        if (kind === of) columns.push(await this.#column(kind, number, name, ids, heads));
      }
    };
    await put(partKind.vector);
    columns.push(await this.#column(partKind.payload, 0, "", ids, heads));
    await put(partKind.sparse);
    await put(partKind.multi);
    return {
      ids,
      versions,
      expiresAtMs: expires.some((each) => each !== 0) ? expires : [],
      columns: columns.filter(({ lengths }) => lengths.length > 0),
      ghosts: this.#ghosts(heads),
    };
  }

  async #column(
    kind: PartKind,
    field: number,
    name: string,
    ids: readonly IdKey[],
    heads: readonly Head[],
  ): Promise<ipb.BackupColumn> {
    const rows: number[] = [];
    const versions: number[] = [];
    for (const [row, head] of heads.entries()) {
      const version = head.versionOf(kind, field);
      if (version === undefined) continue;
      rows.push(row);
      versions.push(version);
    }
    const column = { kind, field, name, rows, versions, lengths: [], data: new Uint8Array(0) };
    const [first, last] = [rows[0], rows[rows.length - 1]];
    if (first === undefined || last === undefined) return column;
    const data: Uint8Array[] = [];
    let at = 0;
    for await (const parts of this.#store.parts(kind, field, ids[first] as IdKey, ids[last] as IdKey)) {
      for (const { id, version, bytes } of parts) {
        const row = rows[at];
        if (row === undefined || Buffer.compare(id, ids[row] as IdKey) !== 0 || version !== versions[at]) {
          throw unfit(id, kind);
        }
        data.push(bytes);
        at++;
      }
    }
    if (at !== rows.length) throw unfit(ids[rows[at] as number] as IdKey, kind);
    const lengths = data.map(({ length }) => length);
    const isOfPoints = rows.every((row, i) => (heads[row] as Head).version === versions[i]);
    return {
      ...column,
      rows: rows.length === ids.length ? [] : rows,
      versions: isOfPoints ? [] : versions,
      lengths: new Set(lengths).size === 1 ? lengths.slice(0, 1) : lengths,
      data: Buffer.concat(data),
    };
  }

  /** What heads keep of fields that were dropped. */
  #ghosts(heads: readonly Head[]): ipb.BackupGhost[] {
    const live = new Set(vectorFieldsOf(this.#schema).map(({ number }) => number));
    const ghosts: ipb.BackupGhost[] = [];
    for (const [row, head] of heads.entries()) {
      let isPlain = true;
      head.forEachPart((kind, field) => {
        assert(readKinds.includes(kind), `parts of the kind ${kind} are not read out yet`);
        if (kind !== partKind.payload && !live.has(field)) isPlain = false;
      });
      if (isPlain) continue;
      for (const [position, { kind, field, version, length, hash }] of head.parts().entries()) {
        if (kind === partKind.payload || live.has(field)) continue;
        const bytes = Buffer.alloc(8);
        bytes.writeBigUInt64LE(hash);
        ghosts.push({ row, position, kind, field, version, length, hash: bytes });
      }
    }
    return ghosts;
  }

  /** Never rejects. */
  close(): Promise<void> {
    return this.#store.close();
  }
}

function unfit(id: IdKey, kind: PartKind): KithError {
  const hex = Buffer.from(id.buffer, id.byteOffset, id.byteLength).toString("hex").slice(0, 120);
  return new KithError("CORRUPT_DATA", `a part of the kind ${kind} does not fit the heads of points, at the id ${hex}`);
}
