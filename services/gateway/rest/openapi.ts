import { type DescEnum, type DescField, type DescMessage, type DescMethod, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { errorTable } from "../../../libs/base/index.js";
import {
  callName,
  type Descriptors,
  isOffered,
  isPayload,
  isPlainValue,
  isVectorMap,
  shortName,
} from "../json/descriptors.js";
import { composed, type Route, routes } from "./routes.js";

export type Schema = { [key: string]: unknown };

export interface Operation {
  operationId: string;
  summary: string;
  description?: string;
  tags: string[];
  parameters?: Schema[];
  requestBody?: Schema;
  responses: Schema;
}

export interface OpenApi {
  openapi: "3.1.0";
  info: Schema;
  servers: Schema[];
  security: Schema[];
  tags: { name: string; description: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, Schema>; securitySchemes: Schema; responses: Schema };
}

const ref = (name: string): Schema => ({ $ref: `#/components/schemas/${name}` });
const problem = { $ref: "#/components/responses/Problem" };
const json = (schema: Schema): Schema => ({ "application/json": { schema } });

/** The API as OpenAPI 3.1: paths from the table of routes, schemas and what they mean from the descriptors. */
export function openApiOf(descriptors: Descriptors, version: string): OpenApi {
  const schemas = new Schemas(descriptors);
  const methods = new Map(descriptors.methods().map((method) => [callName(method), method]));
  const paths: OpenApi["paths"] = {};
  const add = (verb: string, path: string, operation: Operation): void => {
    const shown = path.replaceAll(/:(\w+)/g, "{$1}");
    paths[shown] = { ...paths[shown], [verb.toLowerCase()]: operation };
  };
  for (const route of routes) {
    const method = methods.get(route.call);
    if (method !== undefined) add(route.verb, route.path, operationOf(route, method, schemas, descriptors));
  }
  addComposed(add, schemas);
  const services = [...new Set(descriptors.methods().map(({ parent }) => parent))];
  return {
    openapi: "3.1.0",
    info: {
      title: "Kith",
      version,
      description:
        "A vector database. Every call of its gRPC API as JSON: the names of fields are the same in lowerCamelCase, ids and payloads keep all digits of their numbers.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/", description: "where this document comes from" }],
    security: [{}, { bearer: [] }, { apiKey: [] }],
    tags: services.map(({ name, typeName }) => ({ name, description: descriptors.comment(typeName) || name })),
    paths,
    components: {
      schemas: schemas.all,
      securitySchemes: {
        bearer: { type: "http", scheme: "bearer" },
        apiKey: { type: "apiKey", in: "header", name: "api-key" },
      },
      responses: {
        Problem: {
          description: "The call failed: problem details (RFC 9457).",
          content: { "application/problem+json": { schema: ref("Problem") } },
        },
      },
    },
  };
}

const writeHeader: Schema = {
  name: "Idempotency-Key",
  in: "header",
  description: "Up to 64 bytes: a write repeated with the same key takes effect once.",
  schema: { type: "string", maxLength: 64 },
};
const tokenHeader: Schema = {
  name: "Kith-Token",
  in: "header",
  description: "Token of an earlier answer: read at least what it has seen.",
  schema: { type: "string" },
};
const timeoutHeader: Schema = {
  name: "Kith-Timeout-Ms",
  in: "header",
  description: "Longest time for the call, in milliseconds.",
  schema: { type: "integer", minimum: 1 },
};

function operationOf(route: Route, method: DescMethod, schemas: Schemas, descriptors: Descriptors): Operation {
  const { input, output } = method;
  const bound = route.path
    .split("/")
    .filter((part) => part.startsWith(":"))
    .map((part) => part.slice(1));
  const inPath = new Set(bound.map((name) => route.bind?.[name] ?? name));
  const typeOfPart = (name: string): Schema => {
    const field = input.fields.find((each) => each.name === (route.bind?.[name] ?? name));
    return field === undefined ? { type: "string" } : schemas.value(field);
  };
  const parameters: Schema[] = bound.map((name) => ({
    name,
    in: "path",
    required: true,
    schema: typeOfPart(name),
  }));
  const hasBody = route.verb !== "GET" && route.verb !== "DELETE";
  const fields = input.fields.filter((field) => isOffered(field) && !inPath.has(field.name));
  if (!hasBody) {
    for (const field of fields) {
      if (field.fieldKind !== "scalar" && field.fieldKind !== "enum") continue;
      parameters.push({ name: field.jsonName, in: "query", ...schemas.described(field), schema: schemas.value(field) });
    }
  }
  const has = (type: string): boolean => input.fields.some(({ message }) => message?.typeName === type);
  if (has("kith.v1.WriteOptions")) parameters.push(writeHeader);
  if (has("kith.v1.Consistency") || has("kith.v1.QueryRequest")) parameters.push(tokenHeader);
  parameters.push(timeoutHeader);
  const comment = descriptors.comment(`${method.parent.typeName}.${method.name}`);
  const status = String(route.status ?? 200);
  return {
    operationId: `${method.parent.name[0]?.toLowerCase()}${method.parent.name.slice(1)}${method.name}`,
    summary: (comment.split(/(?<=[.:])\s/, 1)[0] ?? "").replace(/[.:]$/, "") || method.name,
    ...(comment !== "" && { description: comment }),
    tags: [method.parent.name],
    parameters,
    ...(hasBody &&
      fields.length > 0 && { requestBody: { required: true, content: json(schemas.request(input, inPath)) } }),
    responses: {
      [status]: { description: "The answer.", content: answerContent(route, schemas.answer(output)) },
      "4XX": problem,
      "5XX": problem,
    },
  };
}

function answerContent(route: Route, schema: Schema): Schema {
  if (route.call !== "kith.v1.Points/Scroll") return json(schema);
  return {
    ...json(schema),
    "application/x-ndjson": {
      schema: { type: "string", description: 'All pages, a point to a line; the last line is {"end":true}.' },
    },
  };
}

function addComposed(add: (verb: string, path: string, operation: Operation) => void, schemas: Schemas): void {
  const collection: Schema = { name: "collection", in: "path", required: true, schema: { type: "string" } };
  const id: Schema = {
    name: "id",
    in: "path",
    required: true,
    schema: { type: "string" },
    description: "Digits are a number, a UUID is one, anything else is a name.",
  };
  const ifMatch: Schema = {
    name: "If-Match",
    in: "header",
    schema: { type: "string" },
    description: "Version that the point must have, as ETag gives it.",
  };
  const ack: Schema = {
    name: "ack",
    in: "query",
    schema: { type: "string", enum: ["log", "applied", "all"] },
    description: "When the write is answered.",
  };
  const failures = { "4XX": problem, "5XX": problem };
  const answer = (schema: Schema): Schema => ({
    "200": { description: "The answer.", content: json(schema) },
    ...failures,
  });
  const point = schemas.messageOf("kith.v1.Point");
  add("get", composed.point, {
    operationId: "pointGet",
    summary: "Read one point",
    tags: ["Points"],
    parameters: [
      collection,
      id,
      tokenHeader,
      timeoutHeader,
      { name: "payload", in: "query", schema: { type: "boolean" }, description: "With its payload. Default: true." },
      {
        name: "vectors",
        in: "query",
        schema: { type: "boolean" },
        description: "With all its vectors. Default: false.",
      },
      {
        name: "If-None-Match",
        in: "header",
        schema: { type: "string" },
        description: "304 where the point has this version.",
      },
    ],
    responses: {
      ...answer(schemas.answer(point)),
      "304": { description: "The point has the version that the client knows." },
    },
  });
  add("put", composed.point, {
    operationId: "pointPut",
    summary: "Write one point",
    tags: ["Points"],
    parameters: [
      collection,
      id,
      ack,
      ifMatch,
      writeHeader,
      timeoutHeader,
      {
        name: "If-None-Match",
        in: "header",
        schema: { type: "string", enum: ["*"] },
        description: "Only where there is no such point.",
      },
    ],
    requestBody: { required: true, content: json(schemas.request(point, new Set(["id"]))) },
    responses: answer(schemas.answer(schemas.messageOf("kith.v1.UpsertResponse"))),
  });
  add("delete", composed.point, {
    operationId: "pointDelete",
    summary: "Delete one point",
    tags: ["Points"],
    parameters: [collection, id, ack, ifMatch, writeHeader, timeoutHeader],
    responses: answer(schemas.answer(schemas.messageOf("kith.v1.DeletePointsResponse"))),
  });
  add("post", composed.import, {
    operationId: "pointsImport",
    summary: "Write a stream of points",
    description:
      "Lines of JSON, each a point; or blocks of `u32 count, u32 dimension, count × u64 id, count × dimension × f32`, little-endian.",
    tags: ["Points"],
    parameters: [
      collection,
      ack,
      timeoutHeader,
      { name: "mode", in: "query", schema: { type: "string", enum: ["upsert", "insert_only", "update_only"] } },
      {
        name: "vector",
        in: "query",
        schema: { type: "string" },
        description: "Of the packed form: name of the vector field. Default: the one without a name.",
      },
    ],
    requestBody: {
      required: true,
      content: {
        "application/x-ndjson": { schema: { type: "string" } },
        "application/vnd.kith.packed": { schema: { type: "string", contentMediaType: "application/octet-stream" } },
      },
    },
    responses: answer(ref("ImportSummary")),
  });
  add("post", composed.watch, {
    operationId: "changesWatch",
    summary: "Changes of a collection, one answer to a line, until the client leaves",
    tags: ["Changes"],
    parameters: [collection],
    requestBody: {
      required: true,
      content: json(schemas.request(schemas.messageOf("kith.v1.WatchRequest"), new Set(["collection"]))),
    },
    responses: {
      "200": {
        description: "Lines of JSON, each a WatchResponse.",
        content: { "application/x-ndjson": { schema: schemas.answer(schemas.messageOf("kith.v1.WatchResponse")) } },
      },
      ...failures,
    },
  });
}

/** The schemas of messages, each made once: what requests take, and what answers have. */
class Schemas {
  readonly all: Record<string, Schema> = {
    PointId: {
      description:
        'A whole number of 0..2^64-1, a UUID, or another text as a name; {"name": ...} for a name that looks like a UUID.',
      oneOf: [
        { type: "integer", minimum: 0 },
        { type: "string" },
        { type: "object", properties: { name: { type: "string" } }, required: ["name"], additionalProperties: false },
      ],
    },
    Vector: {
      description: "A list of numbers; of a field of matrices a list of its rows.",
      oneOf: [
        { type: "array", items: { type: "number" } },
        { type: "array", items: { type: "array", items: { type: "number" } } },
        {
          type: "object",
          description: "A sparse vector: each index once.",
          properties: {
            indices: { type: "array", items: { type: "integer", minimum: 0, maximum: 4_294_967_295 } },
            values: { type: "array", items: { type: "number" } },
          },
          required: ["indices", "values"],
          additionalProperties: false,
        },
      ],
    },
    Payload: {
      type: "object",
      additionalProperties: true,
      description: "A JSON object; its numbers keep all their digits.",
    },
    Filter: {
      description: "A filter as JSON, or as text such as `year > 1990`.",
      oneOf: [{ type: "object", additionalProperties: true }, { type: "string" }],
    },
    Token: { type: "string", description: "What was seen of a collection; opaque." },
    ImportSummary: {
      type: "object",
      properties: {
        items: { type: "integer" },
        upserted: { type: "integer" },
        errorCount: { type: "integer" },
        errors: { type: "array", items: ref("ItemError"), description: "The first that were refused." },
        token: ref("Token"),
      },
      required: ["items", "upserted", "errorCount", "errors", "token"],
    },
    Problem: {
      type: "object",
      properties: {
        type: { type: "string" },
        title: { type: "string" },
        status: { type: "integer" },
        detail: { type: "string" },
        code: {
          type: "string",
          enum: Object.keys(errorTable),
          description: "What to switch on; the same as over gRPC.",
        },
        retryable: { type: "boolean" },
        retryAfterMs: { type: "integer" },
        details: { type: "object", additionalProperties: true },
      },
      required: ["type", "title", "status", "detail", "code", "retryable", "details"],
    },
  };
  readonly #descriptors: Descriptors;

  constructor(descriptors: Descriptors) {
    this.#descriptors = descriptors;
    this.answer(descriptors.message("kith.v1.ItemError"));
  }

  messageOf(typeName: string): DescMessage {
    return this.#descriptors.message(typeName);
  }

  /** What a request takes in its body: `without` fields that stand elsewhere. */
  request(message: DescMessage, without: ReadonlySet<string> = new Set()): Schema {
    const own = ownForms[message.typeName];
    if (own !== undefined) return own;
    const fields = message.fields.filter((field) => isOffered(field) && !without.has(field.name));
    // Another set of fields is another schema, which stands where it is used.
    if (fields.length !== message.fields.filter(isOffered).length) return this.#object(fields, "request");
    const name = `${message.name}Input`;
    if (this.all[name] === undefined) {
      this.all[name] = {};
      this.all[name] = { ...this.#object(fields, "request"), ...this.#comment(message.typeName) };
    }
    return ref(name);
  }

  answer(message: DescMessage): Schema {
    const own = ownForms[message.typeName];
    if (own !== undefined) return own;
    const { name } = message;
    if (this.all[name] === undefined) {
      this.all[name] = {};
      this.all[name] = {
        ...this.#object(message.fields.filter(isOffered), "answer"),
        ...this.#comment(message.typeName),
      };
    }
    return ref(name);
  }

  described(field: DescField): Schema {
    return this.#comment(`${field.parent.typeName}.${field.name}`);
  }

  value(field: DescField, kind: "request" | "answer" = "request"): Schema {
    const message = (type: DescMessage): Schema => (kind === "request" ? this.request(type) : this.answer(type));
    switch (field.fieldKind) {
      case "scalar":
        return isPayload(field) ? ref("Payload") : scalar(field.scalar);
      case "enum":
        return enumeration(field.enum);
      case "message":
        return message(field.message);
      case "list":
        return {
          type: "array",
          items: isPayload(field)
            ? ref("Payload")
            : field.listKind === "message"
              ? message(field.message)
              : field.listKind === "enum"
                ? enumeration(field.enum)
                : scalar(field.scalar),
        };
      case "map":
        return {
          type: "object",
          additionalProperties:
            field.mapKind === "message"
              ? message(field.message)
              : field.mapKind === "enum"
                ? enumeration(field.enum)
                : scalar(field.scalar),
        };
    }
  }

  #object(fields: readonly DescField[], kind: "request" | "answer"): Schema {
    const properties: Record<string, Schema> = {};
    const required: string[] = [];
    for (const field of fields) {
      if (kind === "answer" && isPlainValue(field)) {
        properties["value"] = {
          type: [...new Set(field.oneof?.fields.map(({ scalar: type }) => scalar(type ?? ScalarType.STRING)["type"]))],
        };
        continue;
      }
      // What says how many rows another field holds: that one may be a matrix as well as a vector.
      const isOfRows = fields.some(({ name }) => name === `${field.name}_rows`);
      const value = isOfRows ? ref("Vector") : this.value(field, kind);
      const comment = this.described(field);
      properties[field.jsonName] =
        "$ref" in value && "description" in comment ? { allOf: [value], ...comment } : { ...value, ...comment };
      if (isVectorMap(field))
        properties["vector"] = { allOf: [ref("Vector")], description: "The vector without a name." };
      const isAlways =
        field.fieldKind === "list" ||
        (field.fieldKind === "scalar" &&
          field.presence === FeatureSet_FieldPresence.IMPLICIT &&
          field.oneof === undefined &&
          !isPayload(field));
      if (kind === "answer" && isAlways) required.push(field.jsonName);
    }
    return {
      type: "object",
      properties,
      ...(required.length > 0 && { required }),
      ...(kind === "request" && { additionalProperties: false }),
    };
  }

  #comment(name: string): Schema {
    const text = this.#descriptors.comment(name);
    return text === "" ? {} : { description: text };
  }
}

function enumeration(type: DescEnum): Schema {
  return {
    type: "string",
    enum: type.values.filter((each) => each.number !== 0).map((each) => shortName(type.name, each.name)),
  };
}

function scalar(type: ScalarType): Schema {
  switch (type) {
    case ScalarType.STRING:
      return { type: "string" };
    case ScalarType.BOOL:
      return { type: "boolean" };
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return { type: "number" };
    case ScalarType.BYTES:
      return { type: "string", contentEncoding: "base64" };
    case ScalarType.UINT32:
    case ScalarType.UINT64:
      return { type: "integer", minimum: 0 };
    default:
      return { type: "integer" };
  }
}

const ownForms: Readonly<Record<string, Schema>> = {
  "kith.v1.PointId": ref("PointId"),
  "kith.v1.Vector": ref("Vector"),
  "kith.v1.Filter": ref("Filter"),
  "kith.v1.Token": ref("Token"),
  "google.protobuf.Timestamp": { type: "string", format: "date-time" },
};
