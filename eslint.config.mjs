import js from "@eslint/js";
import tseslint from "typescript-eslint";

const processRules = [
  { object: "process", property: "env", message: "Only services/*/main.ts reads the environment." },
  { object: "process", property: "argv", message: "Only services/*/main.ts reads the arguments." },
  { object: "process", property: "exit", message: "Only services/*/main.ts ends the process." },
];

const useClock = "Take time and timers from the injected Clock (libs/base/clock.ts).";
const useRandom = "Take chance from the injected Random (libs/base/random.ts).";
const useRuntime = "A Clock and a Random are injected; services/node/node.ts and connect() of libs/client choose them.";
/**
 * What runs in a cluster takes time and chance through the ports alone, so that a whole cluster can run in one process, in virtual time
 * and from one seed. Left out is what is about the process and the world around it: libs/nats-server (downloads and runs a program),
 * libs/ann (native threads), the CLI, benchmarks and tests. What libraries do inside keeps the host's time: the NATS client's pings and
 * timeouts, and OpenTelemetry's exports, ids and stamps, and those of the log lines (pino), which are read beside other programs' own.
 */
const simulated = [
  "libs/{auth,base,call,catalog,client,cluster,encryption,engine,filter,hash,link,log,model,nats,query,rpc,shard-api,sharding,storage,telemetry,text,wire}/**/*.ts",
  "services/{coordinator,node,router,shard}/**/*.ts",
];
const notSimulated = ["**/*.test.ts", "**/*.conformance.ts", "**/*.fixture.ts", "**/testing.ts", "**/testing/**"];
const rawDate = { selector: "NewExpression[callee.name='Date'][arguments.length=0]", message: useClock };
/** A door says by name what it lets out: nothing leaves a folder unnoticed, and what nobody uses is found. */
const exportAll = { selector: "ExportAllDeclaration[exported=null][exportKind='value']", message: "Export by name." };
/** A server is reached by many clients, and started in many ways: what it says of itself fits all of them. */
const commands = "collection|cluster|completion|count|delete|dev|doctor|get|import|quickstart|search|start|up";
const commandNames = ["Literal[value=", "TemplateElement[value.raw="].map((node) => ({
  selector: `${node}/\\bkith (${commands})\\b|(^|\\s)--[a-z]/]`,
  message: "A server names settings and what is wrong, and no command or flag of a program.",
}));
const systemImports = [
  { name: "node:timers", message: useClock },
  { name: "node:timers/promises", message: useClock },
  { name: "node:perf_hooks", importNames: ["performance"], message: useClock },
  {
    name: "node:crypto",
    importNames: [
      "getRandomValues",
      "randomBytes",
      "randomFill",
      "randomFillSync",
      "randomInt",
      "randomUUID",
      "webcrypto",
    ],
    message: useRandom,
  },
];

export default tseslint.config(
  {
    ignores: [
      "dist/",
      "client/",
      "libs/wire/gen/",
      "libs/ann/build/",
      "coverage/",
      "node_modules/",
      "bench/results/",
      ".kith/",
      "**/*.mjs",
      "**/*.cjs",
    ],
  },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-floating-promises": "error",
      "@typescript-eslint/no-misused-promises": "error",
      "@typescript-eslint/switch-exhaustiveness-check": ["error", { considerDefaultExhaustiveForUnions: true }],
      "@typescript-eslint/consistent-type-imports": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "@typescript-eslint/require-await": "off",
      "no-restricted-properties": ["error", ...processRules],
      "no-restricted-syntax": ["error", exportAll],
    },
  },
  {
    files: simulated,
    ignores: [...notSimulated, "libs/base/{clock,random}.ts"],
    rules: {
      "no-restricted-globals": [
        "error",
        { name: "setTimeout", message: useClock },
        { name: "setInterval", message: useClock },
        { name: "setImmediate", message: useClock },
        { name: "performance", message: useClock },
        { name: "crypto", message: useRandom },
      ],
      "no-restricted-properties": [
        "error",
        ...processRules,
        { object: "Date", property: "now", message: useClock },
        { object: "AbortSignal", property: "timeout", message: `${useClock} withTimeout() makes such a signal.` },
        { object: "process", property: "hrtime", message: useClock },
        { object: "process", property: "uptime", message: useClock },
        { object: "Math", property: "random", message: useRandom },
      ],
      "no-restricted-syntax": ["error", exportAll, rawDate],
      "no-restricted-imports": [
        "error",
        {
          paths: systemImports,
          patterns: [
            {
              group: ["**/base/index.js"],
              importNames: ["systemClock", "systemRandom", "systemRuntime"],
              message: useRuntime,
            },
          ],
        },
      ],
    },
  },
  {
    files: simulated,
    ignores: [...notSimulated, "libs/client/**"],
    rules: { "no-restricted-syntax": ["error", exportAll, rawDate, ...commandNames] },
  },
  {
    files: ["services/node/node.ts", "libs/client/client.ts"],
    rules: { "no-restricted-imports": ["error", { paths: systemImports }] },
  },
  {
    files: ["services/*/main.ts", "test/**", "bench/**", "examples/**", "**/*.test.ts"],
    rules: { "no-restricted-properties": "off" },
  },
);
