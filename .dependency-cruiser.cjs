/**
 * The arrows of import (ARCHITECTURE.md): a folder under libs/ may import only the folders named beside it, and only
 * through their door (index.ts). An import against these arrows fails the build.
 */
const arrows = {
  base: [],
  hash: [],
  config: ["base"],
  telemetry: ["base"],
  call: ["base", "telemetry", "model"],
  auth: ["base", "telemetry", "model", "filter", "call", "catalog", "cluster"],
  model: ["base"],
  wire: ["base", "model"],
  sharding: ["base", "hash", "model"],
  nats: ["base"],
  log: ["base", "model", "nats"],
  catalog: ["base", "nats"],
  cluster: ["base", "model", "catalog"],
  "nats-server": ["base"],
  ann: ["base"],
  storage: ["base", "model"],
  backup: ["base", "hash", "model", "wire"],
  filter: ["base", "model"],
  query: ["base", "model", "filter"],
  engine: [
    "base",
    "hash",
    "model",
    "wire",
    "telemetry",
    "call",
    "log",
    "ann",
    "storage",
    "filter",
    "query",
    "shard-api",
    "sharding",
  ],
  "shard-api": ["model", "call"],
  rpc: ["base", "wire", "telemetry", "call"],
  link: ["base", "model", "filter", "wire", "telemetry", "call", "rpc", "shard-api"],
  client: ["base", "filter", "model", "wire", "telemetry", "rpc"],
  embedding: ["base", "hash"],
  datasets: ["base", "model"],
};
/** What each service may import: these libs, and the services behind "/". */
const services = {
  router: [
    "auth",
    "backup",
    "base",
    "hash",
    "call",
    "telemetry",
    "model",
    "wire",
    "sharding",
    "filter",
    "query",
    "log",
    "catalog",
    "cluster",
    "rpc",
    "shard-api",
  ],
  shard: [
    "backup",
    "base",
    "hash",
    "call",
    "telemetry",
    "model",
    "wire",
    "sharding",
    "log",
    "cluster",
    "engine",
    "link",
    "shard-api",
  ],
  gateway: ["base", "filter", "model", "rpc", "telemetry", "wire"],
  coordinator: ["backup", "base", "hash", "telemetry", "model", "wire", "sharding", "log", "cluster"],
  node: [
    "auth",
    "backup",
    "base",
    "config",
    "telemetry",
    "catalog",
    "cluster",
    "log",
    "nats",
    "ann",
    "rpc",
    "link",
    "shard-api",
    "/gateway",
    "/router",
    "/shard",
    "/coordinator",
  ],
  cli: ["base", "config", "telemetry", "model", "client", "nats", "nats-server", "datasets", "embedding", "rpc", "/gateway", "/node"],
};
/** Libs with more than one door: a folder for each. */
const inner = { rpc: "(common|client|server)/" };
const libs = Object.keys(arrows);

module.exports = {
  forbidden: [
    {
      name: "no-cycles",
      severity: "error",
      from: {},
      to: { circular: true },
    },
    {
      name: "no-orphans",
      severity: "error",
      from: { orphan: true, pathNot: ["\\.test\\.ts$", "\\.d\\.ts$", "main\\.ts$", "^(test|bench|examples)/"] },
      to: {},
    },
    {
      name: "nothing-imports-tests-or-benchmarks",
      severity: "error",
      from: { path: "^(libs|services)/" },
      to: { path: "^(test|bench|deploy|examples)/" },
    },
    {
      name: "examples-use-what-users-have",
      severity: "error",
      from: { path: "^examples/" },
      to: { path: "^(libs|services|test|bench)/", pathNot: "^libs/client/index\\.ts$" },
    },
    { name: "libs-do-not-import-services", severity: "error", from: { path: "^libs/" }, to: { path: "^services/" } },
    { name: "unknown-lib", severity: "error", from: { path: `^libs/(?!(${libs.join("|")})/)` }, to: {} },
    ...libs.map((name) => ({
      name: `arrow-${name}`,
      severity: "error",
      from: { path: `^libs/${name}/` },
      to: { path: "^libs/", pathNot: [`^libs/(${[name, ...arrows[name]].join("|")})/`, "^libs/[^/]+/testing\\.ts$"] },
    })),
    {
      name: "testing-doors-are-for-tests",
      severity: "error",
      from: { path: "^(libs|services)/", pathNot: ["\\.(test|conformance)\\.ts$", "/testing(\\.ts$|/)"] },
      to: { path: "^libs/[^/]+/testing\\.ts$" },
    },
    ...libs.map((name) => ({
      name: `door-${name}`,
      severity: "error",
      from: { path: "^(libs|services|test|bench)/", pathNot: [`^libs/${name}/`] },
      to: {
        path: `^libs/${name}/`,
        pathNot: [`^libs/${name}/${inner[name] ?? ""}index\\.ts$`, `^libs/${name}/testing\\.ts$`],
      },
    })),
    {
      name: "unknown-service",
      severity: "error",
      from: { path: `^services/(?!(${Object.keys(services).join("|")})/)` },
      to: {},
    },
    ...Object.entries(services).flatMap(([name, allowed]) => {
      const others = allowed.filter((each) => each.startsWith("/")).map((each) => each.slice(1));
      const own = allowed.filter((each) => !each.startsWith("/"));
      return [
        {
          name: `arrow-service-${name}`,
          severity: "error",
          from: { path: `^services/${name}/`, pathNot: ["\\.test\\.ts$", "/testing/"] },
          to: { path: "^libs/", pathNot: [`^libs/(${own.join("|")})/`] },
        },
        {
          name: `arrow-service-${name}-services`,
          severity: "error",
          from: { path: `^services/${name}/` },
          to: { path: "^services/", pathNot: [`^services/(${[name, ...others].join("|")})/`] },
        },
        {
          name: `door-service-${name}`,
          severity: "error",
          from: { path: "^(libs|services|test|bench)/", pathNot: [`^services/${name}/`] },
          to: {
            path: `^services/${name}/`,
            pathNot: [`^services/${name}/(index|main)\\.ts$`, `^services/${name}/testing/`],
          },
        },
      ];
    }),
    {
      name: "client-imports-nothing-of-servers",
      severity: "error",
      from: { path: "^libs/client/", pathNot: ["\\.test\\.ts$", "/testing/"] },
      to: { path: "^libs/rpc/server/" },
    },
  ],
  options: {
    tsConfig: { fileName: "tsconfig.json" },
    tsPreCompilationDeps: true,
    doNotFollow: { path: "node_modules" },
    exclude: { path: "(^|/)dist/" },
  },
};
