import type { Random } from "../../libs/base/index.js";
import type { Words } from "./generate.js";
import { pick } from "./sending.js";

type Schema = Record<string, unknown>;
type Operation = { parameters?: Schema[]; requestBody?: { content?: Record<string, { schema: Schema }> } };

/** A request that the OpenAPI document allows. */
export interface GeneratedRequest {
  method: string;
  path: string;
  /** "" where there is none. */
  body: string;
}

/** Makes requests of all operations of the served OpenAPI document: any part that is optional may be there, with any type that is allowed. */
export class RequestGenerator {
  readonly #operations: { method: string; path: string; operation: Operation }[] = [];
  readonly #schemas: Record<string, Schema>;
  readonly #words: Words;

  constructor(document: string, words: Words) {
    const { paths, components } = JSON.parse(document) as {
      paths: Record<string, Record<string, Operation>>;
      components: { schemas: Record<string, Schema> };
    };
    this.#schemas = components.schemas;
    this.#words = words;
    for (const [path, operations] of Object.entries(paths)) {
      for (const [method, operation] of Object.entries(operations)) {
        this.#operations.push({ method: method.toUpperCase(), path, operation });
      }
    }
  }

  get paths(): string[] {
    return this.#operations.map(({ method, path }) => `${method} ${path}`);
  }

  /** Of those operations that `isWanted` wants, by their method and path. */
  next(random: Random, isWanted: (operation: string) => boolean): GeneratedRequest {
    const wanted = this.#operations.filter(({ method, path }) => isWanted(`${method} ${path}`));
    const { method, path, operation } = pick(wanted, random);
    const query = new URLSearchParams();
    let bound = path;
    for (const { name, in: place, schema } of operation.parameters ?? []) {
      const value = (): string => {
        const made = this.#value(schema as Schema, String(name), random, 0);
        return typeof made === "string" ? made : JSON.stringify(made);
      };
      if (place === "path") bound = bound.replace(`{${String(name)}}`, encodeURIComponent(value()));
      else if (place === "query" && random.float() < 0.3) query.set(String(name), value());
    }
    const schema = operation.requestBody?.content?.["application/json"]?.schema;
    const body = schema === undefined ? "" : JSON.stringify(this.#value(schema, "", random, 0));
    return { method, path: query.size === 0 ? bound : `${bound}?${query.toString()}`, body };
  }

  #value(schema: Schema, name: string, random: Random, depth: number): unknown {
    if (typeof schema["$ref"] === "string") {
      const target = this.#schemas[schema["$ref"].split("/").at(-1) ?? ""];
      return depth > depthMax || target === undefined ? null : this.#value(target, name, random, depth + 1);
    }
    for (const some of ["oneOf", "anyOf"]) {
      if (Array.isArray(schema[some]))
        return this.#value(pick(schema[some] as Schema[], random), name, random, depth + 1);
    }
    if (Array.isArray(schema["allOf"])) {
      const parts = (schema["allOf"] as Schema[]).map((part) => this.#value(part, name, random, depth + 1));
      return Object.assign({}, ...parts) as unknown;
    }
    if (Array.isArray(schema["enum"])) return pick(schema["enum"], random);
    if ("const" in schema) return schema["const"];
    const type: unknown = Array.isArray(schema["type"]) ? pick(schema["type"], random) : schema["type"];
    switch (type) {
      case "string":
        return this.#text(name, random);
      case "integer":
        return pick([0, 1, 2, 3, 5, 10, 100, -1, 10_001, 4_294_967_295], random);
      case "number":
        return pick([0, 1, 0.5, -2.5, 1e-9, 1e38, 1e300], random);
      case "boolean":
        return random.float() < 0.5;
      case "null":
        return null;
      case "array":
        return this.#list(schema, name, random, depth);
      default:
        return this.#object(schema, random, depth);
    }
  }

  #list(schema: Schema, name: string, random: Random, depth: number): unknown[] {
    const items = (schema["items"] ?? {}) as Schema;
    const length = /vector|values/i.test(name) && random.float() < 0.8 ? 3 : Math.floor(random.float() * 4);
    return Array.from({ length: depth > depthMax ? 0 : length }, () => this.#value(items, name, random, depth + 1));
  }

  #object(schema: Schema, random: Random, depth: number): unknown {
    const {
      properties,
      required = [],
      additionalProperties,
    } = schema as {
      properties?: Record<string, Schema>;
      required?: string[];
      additionalProperties?: Schema | boolean;
    };
    if (properties === undefined && typeof additionalProperties !== "object") {
      return JSON.parse(pick(this.#words.payloads, random)) as unknown;
    }
    const made: Record<string, unknown> = {};
    for (const [name, own] of Object.entries(properties ?? {})) {
      if (required.includes(name) || (depth <= depthMax && random.float() < 0.25)) {
        made[name] = this.#value(own, name, random, depth + 1);
      }
    }
    if (typeof additionalProperties === "object" && random.float() < 0.3) {
      made[pick(["", "sparse", "tokens"], random)] = this.#value(additionalProperties, "", random, depth + 1);
    }
    return made;
  }

  #text(name: string, random: Random): string {
    const { collections, keys, others } = this.#words;
    if (/collection|^name$|alias|newName/i.test(name)) return pick(collections, random);
    return pick(/key|path|groupBy|field/i.test(name) ? keys : others, random);
  }
}

const depthMax = 9;
