import type { OpenApi, Operation, Schema } from "./openapi.js";

/** Nothing but the page's own style: it loads nothing, and runs nothing. */
export const docsPolicy =
  "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const style = `
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:0 auto;padding:1rem;color:#222;background:#fff}
h2{margin-top:2.5rem;border-bottom:1px solid #ccc}h3{margin:1.5rem 0 .2rem;font-size:1rem}
code,.verb{font-family:ui-monospace,monospace}.verb{display:inline-block;min-width:4.5rem;font-weight:bold;color:#0b5}
table{border-collapse:collapse;width:100%;font-size:.9rem}td,th{border:1px solid #ddd;padding:.3rem .5rem;text-align:left;vertical-align:top}
details{margin:.3rem 0}summary{cursor:pointer}nav a{margin-right:1rem}p{margin:.3rem 0}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}td,th{border-color:#444}a{color:#8bf}}`;

/** The reference as one page of HTML that needs no network. */
export function docsPage(api: OpenApi): string {
  const groups = api.tags.map(({ name, description }) => {
    const operations = Object.entries(api.paths).flatMap(([path, verbs]) =>
      Object.entries(verbs)
        .filter(([, operation]) => operation.tags.includes(name))
        .map(([verb, operation]) => operationHtml(verb, path, operation)),
    );
    return `<section id="${escape(name)}"><h2>${escape(name)}</h2><p>${escape(description)}</p>${operations.join("")}</section>`;
  });
  const schemas = Object.entries(api.components.schemas).map(
    ([name, schema]) =>
      `<details id="schema-${escape(name)}"><summary><code>${escape(name)}</code></summary>${schemaHtml(schema)}</details>`,
  );
  const links = api.tags.map(({ name }) => `<a href="#${escape(name)}">${escape(name)}</a>`).join("");
  return `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Kith: REST API</title><style>${style}</style></head><body>
<h1>Kith: REST API</h1><p>${escape(String(api.info["description"]))} Version ${escape(String(api.info["version"]))}; the same as <a href="/openapi.json">OpenAPI</a>.</p>
<nav>${links}<a href="#schemas">Schemas</a></nav>${groups.join("")}<section id="schemas"><h2>Schemas</h2>${schemas.join("")}</section></body></html>`;
}

function operationHtml(verb: string, path: string, operation: Operation): string {
  const rows = (operation.parameters ?? []).map(
    (each) =>
      `<tr><td><code>${escape(String(each["name"]))}</code></td><td>${escape(String(each["in"]))}</td><td>${typeHtml(each["schema"] as Schema)}</td><td>${escape(descriptionOf(each))}</td></tr>`,
  );
  const bodies = Object.entries((operation.requestBody?.["content"] ?? {}) as Record<string, { schema: Schema }>).map(
    ([type, { schema }]) => `<p>Body, <code>${escape(type)}</code>:</p>${schemaHtml(schema)}`,
  );
  const answers = Object.entries(
    operation.responses as Record<string, { content?: Record<string, { schema: Schema }> }>,
  )
    .filter(([, { content }]) => content !== undefined)
    .flatMap(([status, { content = {} }]) =>
      Object.entries(content).map(
        ([type, { schema }]) => `<p>${escape(status)}, <code>${escape(type)}</code>: ${typeHtml(schema)}</p>`,
      ),
    );
  return `<h3 id="${escape(operation.operationId)}"><span class="verb">${escape(verb.toUpperCase())}</span> <code>${escape(path)}</code></h3>
<p>${escape(operation.description ?? operation.summary)}</p><details><summary>Parameters, body, answer</summary>
<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>${rows.join("")}</table>${bodies.join("")}${answers.join("")}</details>`;
}

function schemaHtml(schema: Schema): string {
  const properties = schema["properties"] as Record<string, Schema> | undefined;
  const description = `<p>${escape(descriptionOf(schema))}</p>`;
  if (properties === undefined) return `${description}<p>${typeHtml(schema)}</p>`;
  const rows = Object.entries(properties).map(
    ([name, each]) =>
      `<tr><td><code>${escape(name)}</code></td><td>${typeHtml(each)}</td><td>${escape(descriptionOf(each))}</td></tr>`,
  );
  return `${description}<table><tr><th>key</th><th>type</th><th></th></tr>${rows.join("")}</table>`;
}

function typeHtml(schema: Schema): string {
  const { $ref: reference, allOf, oneOf, type, items, additionalProperties } = schema;
  if (typeof reference === "string") {
    const name = escape(reference.slice(reference.lastIndexOf("/") + 1));
    return `<a href="#schema-${name}">${name}</a>`;
  }
  if (Array.isArray(allOf)) return typeHtml(allOf[0] as Schema);
  if (Array.isArray(oneOf)) return oneOf.map((each) => typeHtml(each as Schema)).join(" or ");
  if (Array.isArray(schema["enum"]))
    return schema["enum"].map((each) => `<code>${escape(String(each))}</code>`).join(", ");
  if (type === "array") return `list of ${typeHtml(items as Schema)}`;
  if (typeof additionalProperties === "object") return `object of ${typeHtml(additionalProperties as Schema)}`;
  return escape(Array.isArray(type) ? type.join(" or ") : typeof type === "string" ? type : "any");
}

function descriptionOf(schema: Schema): string {
  const { description } = schema;
  return typeof description === "string" ? description : "";
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
